"""Which cells, voxels and blocks of a submodel are seen: votes for what it holds, marks of what baking keeps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.kernels import GridSpec, mark_alive_
from smerf.kernels.grid_render import BLOCK
from smerf.student.initialise import to_contracted, voxel_of

__all__ = ["CELL_TEXELS", "BlockWeights", "OccupiedCells", "VoxelVotes"]

CELL_TEXELS = 4
"""Edge of a cell in texels: the finest occupancy that viewers of the asset format read."""

_RAYS = 4096
_SURFACE = 0.1
"""Weight from which a sample belongs to a surface, whose neighbours other views may see; haze has none."""


class OccupiedCells:
    """Two bool grids (C, C, C), C = R_t / 4, on viewer axes, that rendered samples are marked in (SMERF, section 7.1).

    ``grid`` holds what is visible at all, ``surface`` what is visible as part of a surface.
    """

    def __init__(self, spec: GridSpec, packed: np.ndarray | None = None) -> None:
        """Start empty, or from what ``packed`` returned; one row of bits stands for both grids."""
        self.spec = spec
        self.size = spec.plane_resolution // CELL_TEXELS
        cube = (self.size,) * 3
        if packed is None:
            self._visible, self._surface = torch.zeros(2, *cube, dtype=torch.bool)
        else:
            rows = np.unpackbits(np.atleast_2d(packed), axis=-1, count=self.size**3).astype(bool)
            self._visible, self._surface = (torch.tensor(rows[i]).view(cube) for i in (0, -1))

    def mark(self, rays: Rays, edges: Tensor, weights: Tensor, threshold: float) -> None:
        """Mark the cells of all samples whose weight (R, S) exceeds the threshold; edges (R, S + 1)."""
        given = rays.origins, rays.directions, edges, weights
        mark_alive_(self._visible, self._surface, self.spec, *given, threshold, _SURFACE)

    def packed(self) -> np.ndarray:
        """Return both grids as bits, eight cells a byte: (2, ceil(C^3 / 8)) uint8."""
        return np.packbits(torch.stack([self._visible, self._surface]).flatten(1).cpu().numpy(), axis=-1)

    def grid(self) -> np.ndarray:
        """Return what is visible (C, C, C) bool."""
        return self._visible.cpu().numpy()

    def surface(self) -> np.ndarray:
        """Return what is visible as part of a surface (C, C, C) bool."""
        return self._surface.cpu().numpy()


class VoxelVotes:
    """Collects which voxels of a submodel lie where a teacher ray meets something."""

    def __init__(self, spec: GridSpec, threshold: float) -> None:
        self.spec, self.threshold = spec, threshold
        self._visible = torch.zeros(spec.voxel_resolution**3, dtype=torch.bool)

    def add(self, rays: Rays, edges: Tensor, weights: Tensor) -> None:
        """Mark the samples whose teacher weight (R, S) exceeds the threshold; edges (R, S + 1)."""
        for points, _ in _samples(rays, edges, weights, self.threshold):
            self._visible[voxel_of(to_contracted(points, self.spec), self.spec)] = True

    def near(self, margin: int) -> Tensor:
        """Return which voxels (R^3,) bool are at most ``margin`` voxels away from a visible one."""
        size = self.spec.voxel_resolution
        visible = self._visible.view(size, size, size).cpu().numpy().view(np.uint8)
        near = maximum_filter(visible, 2 * margin + 1, mode="constant").astype(bool).reshape(-1)
        return torch.from_numpy(near).to(self._visible.device)

    def block_index(self, margin: int, shell: bool = False) -> Tensor:
        """Number the blocks that hold a voxel near a visible one: (B, B, B) int32, -1 elsewhere.

        ``shell`` says whether the outermost blocks count.
        """
        size = self.spec.blocks
        near = self.near(margin).view(size, BLOCK, size, BLOCK, size, BLOCK)
        held = near.any(5).any(3).any(1).cpu().numpy()
        if not shell:
            # It reaches to infinity: the least density there would render a wall.
            held[[0, -1]] = held[:, [0, -1]] = held[:, :, [0, -1]] = False
        index = np.full((size, size, size), -1, np.int32)
        index[held] = np.arange(held.sum(), dtype=np.int32)
        return torch.from_numpy(index).to(self._visible.device)


class BlockWeights:
    """The mean weight that a ray's samples have in each voxel block, on viewer axes."""

    def __init__(self, spec: GridSpec, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self._total = torch.zeros(spec.blocks**3, dtype=torch.float64, device=device)
        self._rays = 0

    def add(self, rays: Rays, edges: Tensor, weights: Tensor) -> None:
        """Count the weights (R, S) of rendered samples; edges (R, S + 1)."""
        self._rays += len(rays)
        for points, weight in _samples(rays, edges, weights, 0.0):
            # Blocks are sample-centred: half a voxel later than their cells.
            voxel = (to_contracted(points, self.spec) + 2.0) / 4.0 * self.spec.voxel_resolution - 0.5
            block = (voxel / BLOCK).floor().long().clamp(0, self.spec.blocks - 1)
            block = (block[:, 0] * self.spec.blocks + block[:, 1]) * self.spec.blocks + block[:, 2]
            self._total.index_add_(0, block, weight.double())

    def grid(self) -> Tensor:
        """Return the mean weights (B, B, B) float32, on the CPU."""
        mean = self._total / max(1, self._rays)
        return mean.float().view((self.spec.blocks,) * 3).cpu()


def _samples(rays: Rays, edges: Tensor, weights: Tensor, threshold: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the middles (N, 3) and weights (N,) of samples whose weight (R, S) exceeds a threshold, of some rays at a
    time: all at once would take more memory than training.
    """
    for first in range(0, len(rays), _RAYS):
        some, parts, held = (
            rays[first : first + _RAYS],
            edges[first : first + _RAYS],
            weights[first : first + _RAYS],
        )
        rows, columns = torch.nonzero(held > threshold, as_tuple=True)
        middle = 0.5 * (parts[rows, columns] + parts[rows, columns + 1])
        yield some.origins[rows] + middle[:, None] * some.directions[rows], held[rows, columns]
