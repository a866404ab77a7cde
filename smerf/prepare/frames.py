"""Which frames of a video to keep: sharp ones, spaced by how far the image moves.

Motion is measured between a kept frame and a candidate, never between neighbours: at 60 frames a second these move by
less than a pixel, and sums of such shifts are zero. Method: phase correlation (Kuglin and Hines 1975) of tiles.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["choose_frames", "image_motion", "select", "sharpness"]

_TILE, _STRIDE = 64, 48
_MIN_CONTRAST, _MIN_PEAK = 3.0, 0.06
_MIN_TILES, _MIN_TRACKED = 3, 0.3
_PERCENTILE = 70.0
_WINDOW = (0.65, 1.35)
_MAX_SECONDS = 2.0
_MIN_LOST_SECONDS = 0.2
_COUNT_RANGE = (60, 300)
_MAX_SPACING = 0.07


def sharpness(grey: np.ndarray) -> float:
    """Return the variance of the Laplacian of a grey image (H, W)."""
    image = grey.astype(np.float32)
    inner = image[1:-1, 1:-1]
    laplacian = image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:] - 4 * inner
    return float(laplacian.var())


def relative_sharpness(values: np.ndarray, rate: float) -> np.ndarray:
    """Divide each frame's sharpness (n) by the median over half a second to either side."""
    reach = max(1, round(rate / 2))
    medians = [np.median(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    return values / np.maximum(medians, 1e-9)


def image_motion(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return how far the image moves between two grey frames (H, W), as a fraction of the longest side.

    That is the 70th percentile of the shifts of textured tiles; ``None`` where too few tiles can be followed.
    """
    return _Anchor(first).motion_to(second)


class _Anchor:
    """A frame whose tiles are compared with those of many others."""

    def __init__(self, grey: np.ndarray) -> None:
        self._longest = max(grey.shape)
        window = np.hanning(_TILE)
        self._window = np.outer(window, window).astype(np.float32)
        tiles = _tiles(grey)
        self._is_textured = tiles.std(axis=(1, 2)) > _MIN_CONTRAST
        self._spectra = self._transform(tiles[self._is_textured])

    def _transform(self, tiles: np.ndarray) -> np.ndarray:
        centred = (tiles - tiles.mean(axis=(1, 2), keepdims=True)) * self._window
        return np.fft.rfft2(centred)

    def motion_to(self, grey: np.ndarray) -> float | None:
        count = len(self._spectra)
        if count < _MIN_TILES:
            return None
        cross = self._spectra.conj() * self._transform(_tiles(grey)[self._is_textured])
        correlation = np.fft.irfft2(cross / np.maximum(np.abs(cross), 1e-9), s=(_TILE, _TILE))
        flat = correlation.reshape(count, -1)
        best = flat.argmax(axis=1)
        shifts = np.stack(np.divmod(best, _TILE), axis=1)
        shifts = np.where(shifts > _TILE // 2, shifts - _TILE, shifts)
        tracked = flat[np.arange(count), best] > _MIN_PEAK
        if tracked.sum() < max(_MIN_TILES, _MIN_TRACKED * count):
            return None
        lengths = np.hypot(shifts[tracked, 0], shifts[tracked, 1])
        return float(np.percentile(lengths, _PERCENTILE) / self._longest)


def _tiles(grey: np.ndarray) -> np.ndarray:
    rows = range(0, max(grey.shape[0] - _TILE, 0) + 1, _STRIDE)
    columns = range(0, max(grey.shape[1] - _TILE, 0) + 1, _STRIDE)
    tiles = [grey[y : y + _TILE, x : x + _TILE] for y in rows for x in columns]
    whole = [tile for tile in tiles if tile.shape == (_TILE, _TILE)]
    return np.asarray(whole, np.float32).reshape(-1, _TILE, _TILE)


def select(
    frames: np.ndarray,
    quality: np.ndarray,
    rate: float,
    spacing: float,
    progress: Callable[[int], None] = lambda done: None,
) -> list[int]:
    """Choose frames: from each kept one, the sharpest of those whose motion is within 35 % of the spacing.

    Args:
        frames: Grey, uint8, (n, H, W), 320 pixels long.
        quality: Relative sharpness (n).
        rate: Frames a second.
        spacing: Fraction of the longest side.
        progress: Called with the number of the frame that was reached.

    Where tracking is lost, or nothing moves for 2 seconds, the last frame before is kept.
    """
    reach, gap = max(1, round(_MAX_SECONDS * rate)), max(1, round(_MIN_LOST_SECONDS * rate))
    first_half_second = max(1, round(rate / 2))
    kept = [int(np.argmax(quality[:first_half_second]))]
    while True:
        anchor, start = _Anchor(frames[kept[-1]]), kept[-1]
        end = min(start + reach, len(frames) - 1)
        candidates: list[tuple[float, float, int]] = []
        following: int | None = None
        for index in range(start + 1, end + 1):
            motion = anchor.motion_to(frames[index])
            if motion is None or motion > _WINDOW[1] * spacing:
                following = max(index - 1, min(start + gap, end) if motion is None else start + 1)
                break
            if motion >= _WINDOW[0] * spacing:
                # Of equally sharp ones the nearest to the spacing.
                candidates.append((float(quality[index]), -abs(motion - spacing), index))
        if candidates:
            following = max(candidates)[2]
        elif following is None:
            following = end if end == start + reach else None
        if following is None or following <= start:
            return kept
        kept.append(following)
        progress(following)


def choose_frames(
    frames: np.ndarray,
    values: np.ndarray,
    rate: float,
    spacing: float,
    wanted: int | None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[int], float]:
    """Choose frames, with the spacing changed until their number is in range.

    Args:
        frames: Grey, uint8, (n, H, W).
        values: Sharpness (n).
        rate: Frames a second.
        spacing: Where to begin.
        wanted: About how many; 60 to 300 if not given.
        progress: As for ``select``.

    Returns:
        Indices of the kept frames, and the spacing they have.
    """
    low, high = _COUNT_RANGE if wanted is None else (round(0.85 * wanted), round(1.15 * wanted))
    quality = relative_sharpness(values, rate)
    tried: list[tuple[list[int], float]] = []
    for _ in range(4):
        kept = select(frames, quality, rate, spacing, progress)
        tried.append((kept, spacing))
        if low <= len(kept) <= high:
            return kept, spacing
        aim = low if len(kept) < low else high
        changed = float(np.clip(spacing * len(kept) / aim, 0.005, _MAX_SPACING))
        if abs(changed - spacing) < 0.02 * spacing:
            break
        spacing = changed
    return min(tried, key=lambda one: abs(len(one[0]) - (low + high) / 2))
