"""Measure the photos of a run: alone, against each other, and a sample of them against small renderings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from smerf.capture import load_composited, load_mask
from smerf.capture.rays import project
from smerf.evaluation import photos
from smerf.evaluation.coverage import pose_distances, reduce_camera
from smerf.evaluation.evidence import THRESHOLDS, PhotoEvidence
from smerf.evaluation.gains import pair_gain, solve_gains

if TYPE_CHECKING:
    from collections.abc import Sequence

    from smerf.capture.types import Camera, Capture, Frame
    from smerf.pipeline.renderers import Render

    Surfaces = Callable[[Camera], tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Surface points (P, 3) that a camera meets, their distances (P,), and which of its pixels meet one (H W,)."""

__all__ = ["MAX_PHOTOS", "PHOTO_PROTOCOL", "choose_checked", "every_nth", "photo_evidence"]

MAX_PHOTOS = 400
"""Photos that are read; of more, every n-th."""
_MAX_RENDERED = 24
"""Photos of each split that are rendered."""
_SIDE = 64
"""Longer side in pixels of what is rendered at photos."""
_SEED = 0
_NEIGHBOURS, _QUANTILE = 8, 0.7
_MAX_DEGREES = 60.0
"""Photos farther apart see too little of each other's surfaces."""
_DEPTH_SIDE, _APART = 24, 0.1
"""Longer side in pixels of what says how far a photo sees; a point differs from that by less than this fraction."""
_MIN_PAIRS = 3
"""Photos that have to show the same as a photo before anything is said of its exposure."""
_SAME_SIDE = 0.5
"""Cosine of the largest angle between the rays of two photos that show the same side of a surface."""
_SHARP_SIDE, _SUSPECTS, _TYPICAL = 320, 24, 4
"""Longer side in pixels at which sharpness is compared with what is rendered, of how many suspects, and of how many
others that say what is usual."""
_AS_SHARP = 0.5
"""Part of the usual sharpness from which a photo shows something smooth, and is not blurred."""
PHOTO_PROTOCOL = {
    "rendered_side": _SIDE,
    "sample": f"of each split at most {_MAX_RENDERED}, suspects first, the others at random, seed {_SEED}",
    "sharpness": "variance of the Laplacian over the variance, at the trained size, over the "
    f"{_QUANTILE:g} quantile of the {_NEIGHBOURS} most similar photos; 1 for suspects whose sharpness over the "
    f"rendered image's, at {_SHARP_SIDE} pixels at most, is {_AS_SHARP:g} of the usual or more",
    "gain": "median log2 ratio of linear luma at the same visible surface points, photo over photo, medians over all "
    "pairs",
    "gain_jump": f"gain less the median of the {_NEIGHBOURS} photos whose axes are nearest",
    "residual": "PSNR against the rendered image after the median gain of each channel",
    "match": "correlation of 16x12 thumbnails with the rendered image of this and of every other camera",
}
"""How the figures come about; part of the protocol in metrics.json."""


@dataclass(frozen=True)
class _SmallPhoto:
    """A photo at the size of what is rendered, and what was measured of it at its own size."""

    frame: Frame
    camera: Camera
    image: np.ndarray
    mask: np.ndarray | None
    sharpness: float
    brightness: float
    thumbnail: np.ndarray


def photo_evidence(capture: Capture, render: Render, surfaces: Surfaces | None) -> dict[str, PhotoEvidence]:
    """Measure the photos of a capture.

    Args:
        capture: The capture.
        render: Renders a camera.
        surfaces: Finds surfaces; without it exposures are not compared.

    Returns:
        The measurements by the photo's name.
    """
    small = [_read(frame, capture.background) for frame in every_nth(capture.frames, MAX_PHOTOS)]
    cameras = [photo.camera for photo in small]
    degrees, distances = pose_distances(cameras, cameras)
    sharpness, scores = _against_similar(small, degrees)
    sharpness = _beside_rendered(small, sharpness, capture.background, render)
    checked = [
        own[chosen]
        for split in ("train", "test")
        if (own := [i for i, photo in enumerate(small) if photo.frame.split == split])
        for chosen in choose_checked(scores[own], _MAX_RENDERED)
    ]
    compared = _against_renderings(small, checked, render)
    # A photo that stands elsewhere shows other surfaces than its camera meets, which tells of nobody's brightness.
    placed = np.ones(len(small), bool)
    for i, found in compared.items():
        placed[i] = found["other_match"] <= found["match"] + THRESHOLDS["pose_match"]
    gains = (
        np.full(len(small), np.nan) if surfaces is None else _gains(small, checked, degrees, surfaces, placed)
    )
    steps = _steps(gains, degrees)
    nearest = _nearest(distances), _nearest(degrees)
    typical = max(float(np.median(nearest[0])), 1e-9)
    return {
        photo.frame.name: PhotoEvidence(
            photo.frame.split,
            relative_sharpness=None if np.isnan(sharpness[i]) else float(sharpness[i]),
            gain_stops=None if np.isnan(gains[i]) else float(gains[i]),
            gain_jump_stops=None if np.isnan(steps[i]) else float(steps[i]),
            **compared.get(i, {}),
            neighbour_distance=float(nearest[0][i]) / typical,
            neighbour_degrees=float(nearest[1][i]),
        )
        for i, photo in enumerate(small)
    }


def choose_checked(scores: np.ndarray, count: int, seed: int = _SEED) -> list[int]:
    """Choose which photos are rendered: for each score the ``count // 4`` largest, the rest at random; ascending.

    Args:
        scores: What makes a photo suspect, shape (photos, scores).
        count: How many to choose, at most.
        seed: Random seed.
    """
    if len(scores) <= count:
        return list(range(len(scores)))
    chosen = {int(i) for column in scores.T for i in np.argsort(-column, kind="stable")[: count // 4]}
    rest = np.random.default_rng(seed).permutation([i for i in range(len(scores)) if i not in chosen])
    return sorted([*chosen, *(int(i) for i in rest[: count - len(chosen)])])


def every_nth(frames: Sequence[Frame], count: int) -> tuple[Frame, ...]:
    """Return at most ``count`` frames, spread over all of them."""
    return tuple(frames[:: -(-len(frames) // count)]) if frames else ()


def _read(frame: Frame, background: str | None) -> _SmallPhoto:
    image, mask, camera = (
        load_composited(frame, background),
        load_mask(frame),
        reduce_camera(frame.camera, _SIDE),
    )
    size = (camera.intrinsics.height, camera.intrinsics.width)
    return _SmallPhoto(
        frame,
        camera,
        photos.shrink(image, size),
        None if mask is None else photos.shrink_mask(mask, size),
        photos.sharpness(image),
        photos.brightness(image),
        photos.thumbnail(image),
    )


def _against_similar(small: Sequence[_SmallPhoto], degrees: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sharpness (N,) against photos that look alike, NaN where they are too few, and what makes a photo
    suspect (N, 2): how far the cameras of those are, and by how much their brightness differs.
    """
    if len(small) <= _NEIGHBOURS:
        return np.full(len(small), np.nan), np.zeros((len(small), 2))
    alike = photos.appearance_neighbours(np.stack([photo.thumbnail for photo in small]), _NEIGHBOURS)
    sharpness = np.array([photo.sharpness for photo in small])
    brightness = np.array([photo.brightness for photo in small])
    look = np.take_along_axis(degrees, alike[:, : _NEIGHBOURS // 2], 1).min(1)
    jump = np.abs(brightness - np.median(brightness[alike], axis=1))
    return photos.relative_to_neighbours(sharpness, alike, _QUANTILE), np.stack([look, jump], axis=1)


def _beside_rendered(
    small: Sequence[_SmallPhoto], sharpness: np.ndarray, background: str | None, render: Render
) -> np.ndarray:
    """Return the sharpness (N,) of photos, 1 for suspects that are as sharp as what is rendered at their cameras.

    Photos that look alike at a glance may show a plain wall and a bookcase. NaN for suspects that are too many to tell.
    """
    suspects = np.flatnonzero(sharpness < THRESHOLDS["blurred_below"])
    others = np.flatnonzero(sharpness >= THRESHOLDS["blurred_below"])
    if not len(suspects) or not len(others):
        return sharpness

    def share(i: int) -> float:
        camera = reduce_camera(small[i].frame.camera, _SHARP_SIDE)
        size = (camera.intrinsics.height, camera.intrinsics.width)
        own = photos.sharpness(photos.shrink(load_composited(small[i].frame, background), size))
        return own / max(photos.sharpness(np.asarray(render(camera), np.float32)), 1e-9)

    usual = float(np.median([share(i) for i in others[:: -(-len(others) // _TYPICAL)].tolist()]))
    found, suspects = sharpness.copy(), suspects[np.argsort(sharpness[suspects], kind="stable")]
    found[suspects[_SUSPECTS:]] = np.nan
    for i in suspects[:_SUSPECTS].tolist():
        found[i] = 1.0 if share(i) >= _AS_SHARP * usual else found[i]
    return found


def _against_renderings(
    small: Sequence[_SmallPhoto], checked: Sequence[int], render: Render
) -> dict[int, dict[str, Any]]:
    """Return the residual and the matches of the checked photos."""
    rendered = [np.asarray(render(small[i].camera), np.float32) for i in checked]
    looks = np.stack([photos.thumbnail(small[i].image) for i in checked])
    matches = looks @ np.stack([photos.thumbnail(image) for image in rendered]).T / looks.shape[1]
    others = -_nearest(-matches)
    found: dict[int, dict[str, Any]] = {}
    for row, (i, image) in enumerate(zip(checked, rendered)):
        mask = small[i].mask
        if mask is None or mask.any():
            found[i] = {
                "residual_db": photos.residual_psnr(small[i].image, image, mask),
                "match": float(matches[row, row]),
                "other_match": float(others[row]),
            }
    return found


@dataclass(frozen=True)
class _Reach:
    """How far a photo sees, (h, w) at the size of its camera here, infinite where it meets nothing."""

    camera: Camera
    distance: np.ndarray

    @classmethod
    def of(cls, camera: Camera, surfaces: Surfaces) -> _Reach:
        small = reduce_camera(camera, _DEPTH_SIDE)
        points, _, is_met = surfaces(small)
        distance = np.full(len(is_met), np.inf)
        distance[is_met] = np.linalg.norm(points - small.world_from_cam[:, 3], axis=1)
        return cls(small, distance.reshape(small.intrinsics.height, small.intrinsics.width))

    def sees(self, points: np.ndarray, eye: np.ndarray) -> np.ndarray:
        """Tell which points (P, 3) seen from ``eye`` the photo shows, bool (P,).

        They are where it sees a surface, and are seen from the same side of it: walls are thin.
        """
        places, depth = project(self.camera, points)
        height, width = self.distance.shape
        with np.errstate(invalid="ignore"):
            inside = (depth > 0.0) & ((places >= 0.0) & (places < (width, height))).all(axis=1)
        columns, rows = np.where(inside[:, None], places, 0.0).astype(int).T
        rays, other = points - self.camera.world_from_cam[:, 3], points - eye
        away = np.linalg.norm(rays, axis=1)
        is_here = np.abs(self.distance[rows, columns] - away) < _APART * away
        return np.asarray(
            inside & is_here & ((rays * other).sum(1) > _SAME_SIDE * away * np.linalg.norm(other, axis=1))
        )


def _gains(
    small: Sequence[_SmallPhoto],
    checked: Sequence[int],
    degrees: np.ndarray,
    surfaces: Surfaces,
    placed: np.ndarray,
) -> np.ndarray:
    """Return the gain of every photo that is ``placed`` in stops (N,), NaN where too few others see the same."""
    sources = [i for i in checked if placed[i]]
    ratios = np.full((len(sources), len(small)), np.nan)
    reaches = [_Reach.of(photo.frame.camera, surfaces) for photo in small] if sources else []
    for row, i in enumerate(sources):
        points, _, is_met = surfaces(small[i].camera)
        eye = small[i].camera.world_from_cam[:, 3]
        colours, mask = small[i].image.reshape(-1, 3)[is_met], small[i].mask
        if mask is not None:
            used = mask.ravel()[is_met]
            points, colours = points[used], colours[used]
        for j in np.flatnonzero(placed & (degrees[i] < _MAX_DEGREES)).tolist():
            if i != j:
                other, seen = small[j], reaches[j].sees(points, eye)
                gain = pair_gain(points[seen], colours[seen], other.camera, other.image, other.mask)
                ratios[row, j] = np.nan if gain is None else gain
    gains = solve_gains(ratios, np.array(sources))
    pairs = np.isfinite(ratios).sum(0)
    np.add.at(pairs, np.array(sources, int), np.isfinite(ratios).sum(1))
    gains[pairs < _MIN_PAIRS] = np.nan
    return gains


def _steps(gains: np.ndarray, degrees: np.ndarray) -> np.ndarray:
    """Return by how much each gain (N,) differs from the median of the photos beside it, NaN where that is unknown."""
    steps = np.full(len(gains), np.nan)
    for i in np.flatnonzero(~np.isnan(gains)).tolist():
        others = [
            j for j in np.argsort(degrees[i], kind="stable").tolist() if j != i and not np.isnan(gains[j])
        ]
        if others:
            steps[i] = gains[i] - np.median(gains[others[:_NEIGHBOURS]])
    return steps


def _nearest(matrix: np.ndarray) -> np.ndarray:
    """Return the smallest value of each row of a square matrix beside the diagonal; 0 for a single row."""
    if len(matrix) < 2:
        return np.zeros(len(matrix))
    others: np.ndarray = np.where(np.eye(len(matrix), dtype=bool), np.inf, matrix).min(1)
    return others
