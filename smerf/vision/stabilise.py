"""What changes between neighbouring frames of a video once the camera's own motion is taken out, without poses.

Corners spread over the frame are matched by normalised correlation, and a homography is fitted to the largest group of
matches that agree (RANSAC, Fischler and Bolles 1981), so that a large person who moves does not pass for the room.
Letters: T frames, H W pixels, N corners.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import gaussian_filter, maximum_filter, uniform_filter
from torch import Tensor
from torch.nn import functional

__all__ = ["REACH", "differences", "find_homography", "fit_homography", "match_corners"]

REACH = 2
"""Frames before and after that a frame is compared with."""
_CELL, _PATCH, _MIN_CONTRAST = 9, 4, 0.7
_SEARCH, _REFINE = 10, 2
"""Pixels that a corner is looked for in at half the size, and then around what was found at the whole."""
_MIN_CORRELATION = 0.75
_TRIALS, _TOLERANCE, _REFITS = 300, 1.0, 4
_MIN_AGREEING, _MIN_DETERMINANT = 12, 1e-7
_MAX_CORNER_SHIFT = 0.35
_SLACK = 3
"""Side in pixels of the window whose darkest and brightest value a pixel may have without differing."""


def differences(frames: np.ndarray) -> np.ndarray:
    """Return how much each pixel differs from the frames around its own after the camera's motion is taken out.

    A pixel differs by what lies outside the range of the 3 x 3 pixels around its place in the other frame (after
    Birchfield and Tomasi 1998), so that edges which are off by less than a pixel do not count.

    Args:
        frames: uint8 (T, H, W, 3).

    Returns:
        The smallest and the mean difference to up to two frames before and two after, float32 (T, H, W, 2), mean over
        colours in [0, 1]; 0 where no other frame shows the place, nan in frames that can't be aligned with any other.
    """
    count = len(frames)
    grey = frames.astype(np.float32).mean(-1)
    pixels = torch.from_numpy(frames.astype(np.float32) / 255.0).permute(0, 3, 1, 2).contiguous()
    low, high = (sign * functional.max_pool2d(sign * pixels, _SLACK, 1, _SLACK // 2) for sign in (-1.0, 1.0))
    ranges = torch.cat([pixels, low, high], 1)
    found: list[list[Tensor]] = [[] for _ in range(count)]
    for first in range(count):
        for second in range(first + 1, min(first + REACH + 1, count)):
            moved = find_homography(grey[first], grey[second])
            if moved is not None:
                found[first].append(_difference(pixels[first], ranges[second], moved))
                found[second].append(_difference(pixels[second], ranges[first], np.linalg.inv(moved)))
    return np.stack([_summary(each, frames.shape[1:3]) for each in found])


def _summary(found: Sequence[Tensor], size: Sequence[int]) -> np.ndarray:
    """Return the smallest and the mean (H, W, 2) of differences (H, W), which are nan where nothing is compared."""
    if not found:
        return np.full((*size, 2), np.nan, np.float32)
    stacked = torch.stack(list(found))
    is_known = stacked.isfinite()
    smallest = stacked.where(is_known, torch.tensor(torch.inf)).amin(0)
    mean = stacked.nan_to_num(0.0).sum(0) / is_known.sum(0).clamp_min(1)
    return torch.stack([smallest.where(is_known.any(0), torch.tensor(0.0)), mean], -1).numpy()


def _difference(image: Tensor, other: Tensor, moved: np.ndarray) -> Tensor:
    """Return how an image (3, H, W) differs (H, W) from another, where pixels go by the homography ``moved``; ``other``
    (9, H, W) are its colours, and the darkest and brightest around each pixel.
    """
    height, width = image.shape[1:]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    places = _apply(moved, np.stack([x.ravel(), y.ravel()], 1)).reshape(height, width, 2)
    grid = torch.from_numpy((2.0 * places / [width - 1, height - 1] - 1.0).astype(np.float32))[None]
    seen = functional.grid_sample(other[None], grid, align_corners=True)[0]
    inside = (grid[0].abs() <= 1.0).all(-1)
    if not bool(inside.any()):
        return torch.full((height, width), torch.nan)
    # Exposure drifts by less than things differ: what most pixels share is taken out.
    shift = (image - seen[:3])[:, inside].median(1).values[:, None, None]
    outside = torch.maximum(image - shift - seen[6:], seen[3:6] - (image - shift)).clamp_min(0.0)
    return outside.mean(0).where(inside, torch.tensor(torch.nan))


def find_homography(first: np.ndarray, second: np.ndarray) -> np.ndarray | None:
    """Return the homography (3, 3) that takes pixels (x, y) of one frame to another's; None where too few agree.

    Args:
        first: Grey, (H, W), 0 to 255.
        second: The same size.
    """
    matches = match_corners(first, second)
    return fit_homography(*matches, (first.shape[1], first.shape[0]))


def _cut(image: np.ndarray, places: np.ndarray, margin: int, radius: int) -> np.ndarray:
    """Return the pixels (N, 2 r + 1, 2 r + 1) around whole places (N, 2), x first, of an image padded by ``margin``."""
    side = 2 * radius + 1
    inset = margin - radius
    return sliding_window_view(image, (side, side))[places[:, 1] + inset, places[:, 0] + inset]


def match_corners(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corners (N, 2) of a grey frame, x first, at most one in each cell, and where another has them."""
    wholes = [gaussian_filter(image.astype(np.float32), 0.7) for image in (first, second)]
    halves = [_half(image) for image in wholes]
    corners = _corners(wholes[0])
    if not len(corners):
        return np.zeros((0, 2)), np.zeros((0, 2))
    rows, columns = halves[0].shape
    small = np.minimum(corners // 2, [columns - 1, rows - 1])
    shift, _ = _search(halves[0], halves[1], small, small, _SEARCH)
    guess = corners + 2 * np.rint(shift).astype(int)
    inside = (guess >= 0).all(1) & (guess < [first.shape[1], first.shape[0]]).all(1)
    corners, guess = corners[inside], guess[inside]
    if not len(corners):
        return np.zeros((0, 2)), np.zeros((0, 2))
    shift, score = _search(wholes[0], wholes[1], corners, guess, _REFINE)
    kept = score > _MIN_CORRELATION
    return corners[kept].astype(float), (guess + shift)[kept]


def _half(image: np.ndarray) -> np.ndarray:
    rows, columns = (side // 2 * 2 for side in image.shape)
    return image[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean((1, 3))


def _corners(image: np.ndarray) -> np.ndarray:
    """Return the strongest corner of each cell, (N, 2) whole, by the smaller eigenvalue (Shi and Tomasi 1994)."""
    dy, dx = np.gradient(image)
    xx, yy, xy = (uniform_filter(each, 2 * _PATCH + 1) for each in (dx * dx, dy * dy, dx * dy))
    strength = 0.5 * (xx + yy) - np.sqrt(0.25 * (xx - yy) ** 2 + xy**2)
    edge = _PATCH + 1
    strength[:edge], strength[-edge:], strength[:, :edge], strength[:, -edge:] = 0.0, 0.0, 0.0, 0.0
    best = (strength == maximum_filter(strength, _CELL)) & (strength > _MIN_CONTRAST)
    y, x = np.nonzero(best)
    return np.stack([x, y], 1)


def _search(
    first: np.ndarray, second: np.ndarray, places: np.ndarray, around: np.ndarray, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift (N, 2) from ``around`` at which the patches at ``places`` correlate best, and how well (N,)."""
    side = 2 * _PATCH + 1
    margin = _PATCH + reach
    patches = _cut(np.pad(first, _PATCH, mode="reflect"), places, _PATCH, _PATCH)
    patches = patches - patches.mean((1, 2), keepdims=True)
    padded = np.pad(second, margin, mode="reflect")
    windows = sliding_window_view(_cut(padded, around, margin, margin), (side, side), (1, 2))
    product = np.einsum("nijkl,nkl->nij", windows, patches, optimize=True)
    variance = uniform_filter(padded**2, side) - uniform_filter(padded, side) ** 2
    energy = _cut(variance, around, margin, reach) * side * side
    norm = np.sqrt(np.maximum(energy * (patches**2).sum((1, 2))[:, None, None], 1e-6))
    score = product / norm
    count, width = len(places), score.shape[2]
    best = score.reshape(count, -1).argmax(1)
    row, column = np.divmod(best, width)
    shift = np.stack([column - reach, row - reach], 1).astype(float)
    number = np.arange(count)
    for axis, at in ((0, column), (1, row)):
        inner = (at > 0) & (at < width - 1)
        step = np.where(inner, 1, 0)
        before, after = (
            score[number, row + sign * step * (axis == 1), column + sign * step * (axis == 0)]
            for sign in (-1, 1)
        )
        peak = score[number, row, column]
        bend = before - 2 * peak + after
        shift[:, axis] += np.where(
            inner & (bend < -1e-6), 0.5 * (before - after) / np.minimum(bend, -1e-6), 0.0
        )
    return shift, score[number, row, column]


def fit_homography(one: np.ndarray, two: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Return the homography (3, 3) that most matches agree with, or None where too few do.

    Args:
        one: Places (N, 2), x first.
        two: Where they went, (N, 2).
        size: Width and height of the frame; corners that go far beyond it make no homography of a camera's.
    """
    count = len(one)
    if count < _MIN_AGREEING:
        return None
    # In units of half the longer side from the middle, the equations are well conditioned.
    unit, middle = 0.5 * max(size), 0.5 * np.array(size, float)
    one, two, tolerance = (one - middle) / unit, (two - middle) / unit, _TOLERANCE / unit
    picks = np.random.default_rng(0).random((_TRIALS, count)).argpartition(4, 1)[:, :4]
    trials = _solve(one[picks], two[picks])
    frame = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]]) * middle / unit
    shifts = np.abs(_apply(trials, frame) - frame).max((1, 2))
    trials = trials[np.isfinite(shifts) & (shifts < 2.0 * _MAX_CORNER_SHIFT)]
    if not len(trials):
        return None
    errors = np.linalg.norm(_apply(trials, one) - two, axis=-1)
    best = trials[np.minimum(np.nan_to_num(errors, nan=np.inf), tolerance).sum(1).argmin()]
    for _ in range(_REFITS):
        agreeing = np.linalg.norm(_apply(best, one) - two, axis=-1) < tolerance
        if agreeing.sum() < _MIN_AGREEING:
            return None
        matrix, right = _rows(one[agreeing], two[agreeing])
        best = np.append(np.linalg.lstsq(matrix, right, rcond=None)[0], 1.0).reshape(3, 3)
    to = np.array([[1 / unit, 0, -middle[0] / unit], [0, 1 / unit, -middle[1] / unit], [0, 0, 1]])
    whole: np.ndarray = np.linalg.inv(to) @ best @ to
    return whole / whole[2, 2]


def _apply(homography: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return where places (..., N, 2) go by homographies (..., 3, 3)."""
    moved = places @ np.swapaxes(homography[..., :2], -1, -2) + homography[..., None, :, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return moved[..., :2] / moved[..., 2:]


def _rows(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the equations (..., 2 N, 8) and right sides of a homography whose last entry is 1."""
    x, y, u, v = one[..., 0], one[..., 1], two[..., 0], two[..., 1]
    none, unit = np.zeros_like(x), np.ones_like(x)
    first = np.stack([x, y, unit, none, none, none, -u * x, -u * y], -1)
    second = np.stack([none, none, none, x, y, unit, -v * x, -v * y], -1)
    return np.concatenate([first, second], -2), np.concatenate([u, v], -1)


def _solve(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Return homographies (M, 3, 3) through four matches each, (M, 4, 2); those of points on a line are left out."""
    matrix, right = _rows(one, two)
    good = np.abs(np.linalg.det(matrix)) > _MIN_DETERMINANT
    solved = np.linalg.solve(matrix[good], right[good][..., None])[..., 0]
    return np.concatenate([solved, np.ones((len(solved), 1))], 1).reshape(-1, 3, 3)
