"""How much each voxel block of a submodel contributes to what is seen: what a size budget spares first."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.kernels import GridSpec
from smerf.kernels.grid_render import BLOCK
from smerf.student.initialise import to_contracted

__all__ = ["BlockWeights"]


class BlockWeights:
    """The mean weight that a ray's samples have in each voxel block, on viewer axes."""

    def __init__(self, spec: GridSpec, device: torch.device | str = "cpu") -> None:
        self.spec = spec
        self._total = torch.zeros(spec.blocks**3, dtype=torch.float64, device=device)
        self._rays = 0

    def add(self, rays: Rays, edges: Tensor, weights: Tensor) -> None:
        """Count the weights (R, S) of rendered samples; edges (R, S + 1)."""
        self._rays += len(rays)
        rows, columns = torch.nonzero(weights > 0.0, as_tuple=True)
        middle = 0.5 * (edges[rows, columns] + edges[rows, columns + 1])
        points = to_contracted(rays.origins[rows] + middle[:, None] * rays.directions[rows], self.spec)
        # Blocks are sample-centred: half a voxel later than their cells.
        voxel = (points + 2.0) / 4.0 * self.spec.voxel_resolution - 0.5
        block = (voxel / BLOCK).floor().long().clamp(0, self.spec.blocks - 1)
        block = (block[:, 0] * self.spec.blocks + block[:, 1]) * self.spec.blocks + block[:, 2]
        self._total.index_add_(0, block, weights[rows, columns].double())

    def grid(self) -> Tensor:
        """Return the mean weights (B, B, B) float32, on the CPU."""
        mean = self._total / max(1, self._rays)
        return mean.float().view((self.spec.blocks,) * 3).cpu()
