"""How far things are at some pixels: the depth maps that a phone measured, where photos confirm each other.

A depth map says nothing about edges, glass and what is out of its reach, and may be of other poses or in another unit
than the cameras: a pixel's depth is used if another photo's map has a surface there too, and none is where all maps
would agree better if they were farther or nearer.
Letters: N training photos, P pixels of one of them, T all pixels found.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from smerf.capture.downscale import scale_intrinsics
from smerf.capture.images import load_depth, pick
from smerf.capture.rays import pixel_rays, project
from smerf.capture.types import Camera, Capture, Frame
from smerf.errors import InvalidDataError
from smerf.fields.ray_bank import RayBank

__all__ = ["measured_pixels"]

_PIXELS = 4096
"""Pixels of a photo that are asked for."""
_SIDE = 192
"""Longest side of the maps in which other photos' depths are looked up."""
_REACH, _EDGE = 160, 0.05
"""A pixel is no edge if its neighbours, 1/160 of the longer side away, are as far but for this fraction."""
_NEIGHBOURS = (1, 2, 3, 4, 1 / 12, 1 / 6, 1 / 3)
"""Photos that may confirm a depth, by how near they are: the nearest, and those as near as a fraction of all."""
_TOLERANCE = 0.05
"""Fraction by which two photos' depths of one surface differ at most."""
_MIN_CONFIRMED = 0.25
"""Fraction of the pixels that are confirmed where depth maps belong to the cameras."""
_SCALES, _TRIED, _STRICT = (0.8, 1.25), 8, 0.02
"""Factors at which fewer pixels would be confirmed then; every eighth pixel is tried, and that with less tolerance."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Map:
    """A reduced depth map (h, w), 0 for unknown, of a camera of its size."""

    camera: Camera
    depth: np.ndarray

    def confirms(self, points: np.ndarray, scale: float, tolerance: float) -> np.ndarray:
        """Tell at which points (P, 3) it has a surface, if all its depths are multiplied by ``scale``."""
        places, _ = project(self.camera, points)
        depths = _along_axis(self.camera, points - self.camera.world_from_cam[:, 3])
        height, width = self.depth.shape
        with np.errstate(invalid="ignore"):
            inside = (places >= 0).all(1) & (places < (width, height)).all(1) & (depths > 0)
        column, row = np.floor(np.where(inside[:, None], places, 0)).astype(np.int64).T
        found = scale * self.depth[row, column]
        return np.asarray(inside & (np.abs(found - depths) < tolerance * depths))


def measured_pixels(capture: Capture, bank: RayBank) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of the training photos have a confirmed depth, and how far they are.

    Args:
        capture: The photos; those without a depth map have no such pixels.
        bank: Holds the training photos.

    Returns:
        Rows of the bank (T,) int64, and distances along their rays (T,) float64 in training units.
    """
    nothing = np.zeros(0, np.int64), np.zeros(0)
    frames = [each for each in enumerate(capture.split("train")) if each[1].depth_path is not None]
    if len(frames) < 2:
        return nothing
    views = [_View.of(frame, index) for index, frame in frames]
    centres = np.stack([view.map.camera.world_from_cam[:, 3] for view in views])
    apart = np.linalg.norm(centres[:, None] - centres, axis=-1)
    ranks = sorted({round(rank if rank >= 1 else rank * len(views)) for rank in _NEIGHBOURS} - {0})
    for view, order in zip(views, apart.argsort(axis=1, kind="stable")):
        view.others.extend(views[order[rank]].map for rank in ranks if rank < len(views))
    sure = [view.confirmed() for view in views]
    fraction = _mean(sure)
    scaled = [_mean([view.confirmed(scale, _STRICT, _TRIED) for view in views]) for scale in (1.0, *_SCALES)]
    if fraction < _MIN_CONFIRMED or scaled[0] < max(scaled):
        _log.warning(
            "%s: the depth maps of its photos contradict each other or the cameras, as if they were of other poses or "
            "in another unit; they are not used (%.0f %% of the pixels are confirmed)",
            capture.root, 100.0 * fraction,
        )  # fmt: skip
        return nothing
    found = [bank.find(index, view.pixels[own]) for (index, _), view, own in zip(frames, views, sure)]
    distances = [view.distances()[own] for view, own in zip(views, sure)]
    rows = np.concatenate(found)
    return rows[rows >= 0], np.concatenate(distances)[rows >= 0]


@dataclass(frozen=True)
class _View:
    """Some pixels (P,) of a photo with the points (P, 3) that they show, its map, and those of the nearest photos."""

    pixels: np.ndarray
    points: np.ndarray
    map: _Map
    others: list[_Map] = field(default_factory=list)

    @classmethod
    def of(cls, frame: Frame, index: int) -> _View:
        depth = _read(frame)
        return cls(*_surface_pixels(frame, index, depth), _reduced(frame.camera, depth))

    def confirmed(self, scale: float = 1.0, tolerance: float = _TOLERANCE, every: int = 1) -> np.ndarray:
        """Tell which of the pixels another photo confirms, if all depths are multiplied by ``scale``."""
        centre = self.map.camera.world_from_cam[:, 3]
        points = centre + scale * (self.points[::every] - centre)
        return np.any([other.confirms(points, scale, tolerance) for other in self.others], axis=0)

    def distances(self) -> np.ndarray:
        """Return how far the points are from the camera (P,)."""
        return np.linalg.norm(self.points - self.map.camera.world_from_cam[:, 3], axis=1)


def _mean(parts: Sequence[np.ndarray]) -> float:
    return float(np.mean(np.concatenate(parts))) if any(map(len, parts)) else 0.0


def _read(frame: Frame) -> np.ndarray:
    """Return a photo's depth map; all of it is unknown where the file is of no use, as training can do without."""
    try:
        depth = load_depth(frame)
    except InvalidDataError as error:
        _log.warning("%s; this depth map is not used", error)
        depth = None
    lens = frame.camera.intrinsics
    return np.zeros((lens.height, lens.width), np.float32) if depth is None else depth


def _along_axis(camera: Camera, offsets: np.ndarray) -> np.ndarray:
    """Return how far offsets (P, 3) from a camera go along its optical axis (P,)."""
    return np.asarray(-offsets @ camera.world_from_cam[:, 2])


def _surface_pixels(frame: Frame, index: int, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return some pixels (P,), row by row, that are no edges, and their points (P, 3)."""
    from scipy.ndimage import maximum_filter, minimum_filter

    reach = 2 * max(1, round(max(depth.shape) / _REACH)) + 1
    least, most = minimum_filter(depth, reach), maximum_filter(depth, reach)
    usable = np.flatnonzero((least > 0) & (most - least < _EDGE * depth))
    pixels = np.sort(np.random.default_rng(index).permutation(usable)[:_PIXELS])
    row, column = np.divmod(pixels, depth.shape[1])
    origins, directions, _ = pixel_rays(frame.camera, np.stack([column, row], axis=1))
    along = _along_axis(frame.camera, directions)
    # Beside a fisheye camera its axis measures nothing.
    ahead = along > 0.1 * np.linalg.norm(directions, axis=1)
    far = depth[row, column][ahead] / along[ahead]
    return pixels[ahead], origins[ahead] + far[:, None] * directions[ahead]


def _reduced(camera: Camera, depth: np.ndarray) -> _Map:
    """Return a depth map with fewer pixels, for looking things up."""
    height, width = depth.shape
    ratio = min(1.0, _SIDE / max(height, width))
    small = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    scale = (small[1] / width, small[0] / height)
    intrinsics = scale_intrinsics(camera.intrinsics, small[1], small[0], scale)
    return _Map(replace(camera, intrinsics=intrinsics), pick(depth, small))
