"""The split of the cube of cameras into cells, one submodel each (SMERF, arXiv 2312.07541, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Partition"]


@dataclass(frozen=True)
class Partition:
    """``edge``^3 equal cells, of which ``cells`` (linear indices, x slowest) hold a submodel.

    ``scale`` takes training units, relative to a cell's centre, to the contraction's unit cube.
    """

    edge: int
    cells: tuple[int, ...]
    scale: float

    def centre(self, submodel: int) -> np.ndarray:
        """Return the centre (3,) of a submodel's cell in training space, float64."""
        cell = np.array(np.unravel_index(self.cells[submodel], (self.edge,) * 3), np.float64)
        return 2.0 * cell / self.edge - 1.0 + 1.0 / self.edge

    def assign(self, origins: Tensor) -> Tensor:
        """Return the submodel (R,) whose cell centre is nearest to each origin (R, 3), by largest offset."""
        centres = torch.tensor(
            np.stack([self.centre(k) for k in range(len(self.cells))]), dtype=origins.dtype
        )
        return (origins[:, None] - centres.to(origins.device)).abs().amax(-1).argmin(-1)

    def local(self, origins: Tensor, submodel: int) -> Tensor:
        """Return origins (R, 3) relative to a cell, which maps to [-1, 1]^3."""
        return (
            origins - torch.tensor(self.centre(submodel), dtype=origins.dtype, device=origins.device)
        ) * self.edge
