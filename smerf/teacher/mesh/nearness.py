"""Where rays pass close to a mesh: there, too, the student must learn that nothing is."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

__all__ = ["near_cells"]

_CELLS = 128
"""Cells per axis of the cube around the content, about as wide as a voxel of a grid of 256."""
_POINTS = 16
"""Points of the surface for each area of a cell's side."""
_MAX_POINTS = 4_000_000


def near_cells(vertices: np.ndarray, faces: np.ndarray) -> Tensor:
    """Return the cells of the cube [-1, 1]^3 that a surface passes through, and their neighbours.

    Args:
        vertices: Corners (V, 3) of a content of radius 1.
        faces: Triangles (F, 3).

    Returns:
        (C + 2, C + 2, W) int32: bits along the last axis, the lowest first, with an empty border for all that is
        beyond the cube.
    """
    occupied = np.zeros((_CELLS,) * 3, np.uint8)
    cells = ((_points_on(vertices, faces) + 1.0) * 0.5 * _CELLS).astype(np.int64)
    cells = cells[((cells >= 0) & (cells < _CELLS)).all(1)]
    occupied[tuple(cells.T)] = 1
    bordered = np.pad(maximum_filter(occupied, 3), ((1, 1), (1, 1), (1, 31 - (_CELLS + 1) % 32)))
    return torch.from_numpy(np.packbits(bordered, axis=2, bitorder="little").view(np.int32))


def _points_on(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return random points of triangles, about ``_POINTS`` for the area of a cell's side, and all corners."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    areas = 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1)
    count = int(min(_MAX_POINTS, _POINTS * areas.sum() / (2.0 / _CELLS) ** 2 + len(faces)))
    rng = np.random.default_rng(0)
    chosen = np.searchsorted(np.cumsum(areas), rng.random(count) * areas.sum()).clip(0, len(faces) - 1)
    u, v = rng.random((2, count, 1))
    u, v = np.where(u + v > 1.0, 1.0 - u, u), np.where(u + v > 1.0, 1.0 - v, v)
    points = a[chosen] + u * (b[chosen] - a[chosen]) + v * (c[chosen] - a[chosen])
    return np.asarray(np.concatenate([vertices, points]))
