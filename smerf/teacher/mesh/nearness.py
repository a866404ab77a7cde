"""Where rays pass close to a mesh without meeting it: there, too, the student must learn that nothing is.

Letters: R rays, S intervals, L layers that a ray meets.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

__all__ = ["Nearness", "free_ends", "stretches"]

_CELLS = 128
"""Cells per axis of the cube around the content, about as wide as a voxel of a grid of 256."""
_POINTS = 16
"""Points of the surface for each area of a cell's side."""
_MAX_POINTS = 4_000_000
_STRETCHES = 128
_ANYWHERE = 0.25
"""Fraction of the free intervals that lie evenly along the ray."""
_BEHIND, _INSIDE = 0.1, 1e-3
"""How much the free intervals count behind all that a ray meets, and within its surfaces, which have their own."""


class Nearness:
    """The cells of the cube [-1, 1]^3 that a surface passes through, and their neighbours."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        """Take the corners (V, 3) of triangles (F, 3) whose content is of radius 1."""
        occupied = np.zeros((_CELLS,) * 3, np.uint8)
        cells = ((_points_on(vertices, faces) + 1.0) * 0.5 * _CELLS).astype(np.int64)
        cells = cells[((cells >= 0) & (cells < _CELLS)).all(1)]
        occupied[tuple(cells.T)] = 1
        # With an empty border, into which all points beyond the cube are clamped.
        self._near = torch.from_numpy(np.pad(maximum_filter(occupied, 3), 1).astype(bool)).flatten()

    def along(self, origins: Tensor, directions: Tensor, distances: Tensor) -> Tensor:
        """Return whether points of rays are in a cell near the surface.

        Args:
            origins: (R, 3) float32.
            directions: (R, 3) float32, of any length.
            distances: (R, B) or (B,) float32, in lengths of the directions.

        Returns:
            (R, B) bool.
        """
        index, half = None, 0.5 * _CELLS
        for axis in range(3):
            start, slope = half * origins[:, axis, None] + half + 1.0, half * directions[:, axis, None]
            cell = torch.addcmul(start, slope, distances).clamp_(0.0, _CELLS + 1.0).int()
            index = cell if index is None else index.mul_(_CELLS + 2).add_(cell)
        return self._near[index]


def free_ends(near: Tensor, first: Tensor, last: Tensor, count: int) -> Tensor:
    """Return ends of intervals in s where a ray is free, dense near surfaces and sparse behind all of them.

    Args:
        near: Whether stretches of equal length of s are near a surface (R, B) bool.
        first: Where the first surface begins (R,) in s; 1 where there is none.
        last: Where the last surface ends (R,).
        count: Ends of each ray.

    Returns:
        (R, count) float64, ascending from 0 to 1.
    """
    # Single precision halves the time; the ends need no more, and are ascending all the same.
    middle, mass = stretches().float(), near.float()
    share = (1.0 - _ANYWHERE) / mass.sum(1, keepdim=True).clamp_min(1.0)
    mass = torch.addcmul(torch.tensor(_ANYWHERE / _STRETCHES), mass, share)
    factor = torch.where(middle >= first.float()[:, None], _INSIDE, 1.0)
    mass *= torch.where(middle > last.float()[:, None], _BEHIND, factor)
    total = torch.nn.functional.pad(mass.cumsum(1), (1, 0))
    wanted = torch.linspace(0.0, 1.0, count) * total[:, -1:]
    held = (torch.searchsorted(total, wanted, right=True) - 1).clamp_(0, _STRETCHES - 1)
    part = ((wanted - total.gather(1, held)) / mass.gather(1, held)).clamp_(0.0, 1.0)
    ends = ((held + part) / _STRETCHES).double()
    # Rounding may leave a gap before the end of the ray.
    ends[:, -1] = 1.0
    return ends


def stretches() -> Tensor:
    """Return the middles (B,) in s of the stretches of a ray that are looked at."""
    return (torch.arange(_STRETCHES, dtype=torch.float64) + 0.5) / _STRETCHES


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
