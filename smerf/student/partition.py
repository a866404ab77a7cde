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

    @classmethod
    def of_cameras(cls, edge: int, centres: np.ndarray, scale: float) -> Partition:
        """Return the partition whose submodels are the cells that hold a camera centre (N, 3)."""
        where = np.floor(edge * (np.asarray(centres, np.float64) + 1.0) / 2.0).astype(int).clip(0, edge - 1)
        cells = np.unique(np.ravel_multi_index(tuple(where.T), (edge,) * 3))
        return cls(edge, tuple(cells.tolist()), scale)

    def __len__(self) -> int:
        return len(self.cells)

    def _cell(self, submodel: int) -> np.ndarray:
        return np.array(np.unravel_index(self.cells[submodel], (self.edge,) * 3))

    def centre(self, submodel: int) -> np.ndarray:
        """Return the centre (3,) of a submodel's cell in training space, float64."""
        return 2.0 * self._cell(submodel) / self.edge - 1.0 + 1.0 / self.edge

    def distances(self, origins: Tensor) -> Tensor:
        """Return how far origins (R, 3) are from every cell's centre, by largest offset: (R, K)."""
        cells = np.stack([self.centre(k) for k in range(len(self.cells))])
        centres = torch.tensor(cells, dtype=origins.dtype, device=origins.device)
        return (origins[:, None] - centres).abs().amax(-1)

    def assign(self, origins: Tensor) -> Tensor:
        """Return the submodel (R,) whose cell centre is nearest to each origin (R, 3), by largest offset."""
        return self.distances(origins).argmin(-1)

    def served(self, origins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the home (R,) of each origin (R, 3), and which others (R, K) bool are its neighbours.

        A neighbour's cell centre is less than a cell's edge away by largest offset: of the cells around the
        home, those on the side towards which the origin lies in it (section 3.4).
        """
        distances = self.distances(origins)
        home = distances.argmin(-1)
        near = distances < 2.0 / self.edge
        near[torch.arange(len(home), device=home.device), home] = False
        return home, near

    def acceptance(self, origins: Tensor, submodel: int, reassigned: float) -> Tensor:
        """Return the probability (R,) with which a ray from each origin (R, 3) is given to a submodel.

        Rays belong to their home; with probability ``reassigned`` they go to one of their neighbours instead,
        any of them alike, if they have one.
        """
        home, near = self.served(origins)
        count = near.sum(-1)
        own = torch.where(count > 0, 1.0 - reassigned, 1.0)
        lent = near[:, submodel] * (reassigned / count.clamp_min(1))
        return torch.where(home == submodel, own, lent)

    def adjacent(self, submodel: int) -> tuple[int, ...]:
        """Return the submodels whose cells touch a submodel's, corners included."""
        here = self._cell(submodel)
        reach = [int(np.abs(self._cell(k) - here).max()) for k in range(len(self.cells))]
        return tuple(k for k, steps in enumerate(reach) if steps == 1)

    def wave(self, submodel: int) -> int:
        """Return a number in 0 .. 7 that no adjacent submodel shares: the parities of the cell's indices."""
        x, y, z = (int(i) % 2 for i in self._cell(submodel))
        return 4 * x + 2 * y + z
