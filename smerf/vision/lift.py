"""From pixels to places: photos with depth as points, and sets of voxels.

Letters: N points, H W an image. Points are in training space. A *voxel key* is the whole number of voxels along each
axis from the grid's origin, int32 (3,).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from smerf.capture.rays import pixel_rays
from smerf.capture.types import Camera

__all__ = ["VoxelGrid", "VoxelSet", "fit_grid", "lift", "reduced_camera"]

_DIVISIONS = 128
_MAX_KEY = 1 << 20


def reduced_camera(camera: Camera, side: int) -> Camera:
    """Return a camera whose longer side has at most ``side`` pixels, with the same view."""
    lens = camera.intrinsics
    factor = min(1.0, side / max(lens.width, lens.height))
    width, height = max(1, round(lens.width * factor)), max(1, round(lens.height * factor))
    x, y = width / lens.width, height / lens.height
    small = dataclasses.replace(
        lens, width=width, height=height, fx=lens.fx * x, fy=lens.fy * y, cx=lens.cx * x, cy=lens.cy * y
    )
    return dataclasses.replace(camera, intrinsics=small)


def lift(camera: Camera, depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points (N, 3) float32 of the pixels whose depth is known, and their (row, column), int64 (N, 2).

    Args:
        camera: Of the depth's size.
        depth: (H, W), the t of ``pixel_rays``; 0 is unknown.
    """
    place = np.argwhere(depth > 0)
    origins, directions, _ = pixel_rays(camera, place[:, ::-1])
    return origins + directions * depth[place[:, 0], place[:, 1], None], place


@dataclass(frozen=True)
class VoxelGrid:
    """Where voxels lie: ``origin`` (3,) float64 and the edge ``size`` of one."""

    origin: np.ndarray
    size: float

    def keys(self, points: np.ndarray) -> np.ndarray:
        """Return the keys of points: int32 (N, 3)."""
        cells = np.floor((points - self.origin) / self.size)
        return np.clip(cells, -_MAX_KEY, _MAX_KEY - 1).astype(np.int32)

    def centres(self, keys: np.ndarray) -> np.ndarray:
        """Return the centres of voxels: float64 (N, 3)."""
        return self.origin + (keys + 0.5) * self.size


def pack_keys(keys: np.ndarray) -> np.ndarray:
    """Return one int64 for each key (N, 3), in the same order on every machine."""
    wide = keys.astype(np.int64) + _MAX_KEY
    return (wide[:, 0] << 42) | (wide[:, 1] << 21) | wide[:, 2]


def unpack_keys(packed: np.ndarray) -> np.ndarray:
    """Return the keys (N, 3) int32 of ``pack_keys``."""
    low = (1 << 21) - 1
    return (np.stack([packed >> 42, (packed >> 21) & low, packed & low], -1) - _MAX_KEY).astype(np.int32)


class VoxelSet:
    """A set of voxels of a grid that answers which points lie in it."""

    def __init__(self, grid: VoxelGrid, keys: np.ndarray) -> None:
        self.grid = grid
        self.packed = np.unique(pack_keys(keys.reshape(-1, 3)))

    def __len__(self) -> int:
        return len(self.packed)

    def holds(self, points: np.ndarray) -> np.ndarray:
        """Return which points (N, 3) lie in one of the voxels: bool (N,)."""
        if not len(self.packed):
            return np.zeros(len(points), bool)
        wanted = pack_keys(self.grid.keys(points))
        place = np.searchsorted(self.packed, wanted).clip(max=len(self.packed) - 1)
        return np.asarray(self.packed[place] == wanted)


def fit_grid(points: Iterable[np.ndarray], least: float = 0.0, divisions: int = _DIVISIONS) -> VoxelGrid:
    """Return a grid whose voxels are the diagonal of what photos show, without the outermost, over ``divisions``.

    Args:
        points: Arrays (N, 3).
        least: Smallest edge of a voxel; below the footprint of a pixel, photos of one surface would miss each other.
        divisions: Voxels along the diagonal.

    Raises:
        ValueError: If there are no points.
    """
    samples = [each[:: max(1, len(each) // 1000)] for each in points if len(each)]
    if not samples:
        raise ValueError("points: no pixel has a depth")
    low, high = np.percentile(np.concatenate(samples), (2, 98), 0)
    diagonal = float(np.linalg.norm(high - low))
    return VoxelGrid(np.floor(low / diagonal) * diagonal, max(diagonal / divisions, least, 1e-9))
