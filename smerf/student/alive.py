"""Which cells of a submodel anybody sees: what baking keeps (SMERF, section 7.1)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.kernels import GridSpec, mark_alive_

__all__ = ["CELL_TEXELS", "AliveCells"]

CELL_TEXELS = 4
"""Edge of a cell in texels: the finest occupancy that viewers of the asset format read."""


_SOLID = 0.1
"""Weight from which a sample belongs to a surface, whose neighbours other views may see; haze has none."""


class AliveCells:
    """Two bool grids (C, C, C), C = R_t / 4, on viewer axes, that rendered samples are marked in.

    ``grid`` holds what is seen at all, ``solid`` what is seen as part of a surface.
    """

    def __init__(self, spec: GridSpec, packed: np.ndarray | None = None) -> None:
        """Start empty, or from what ``packed`` returned; one row of bits stands for both grids."""
        self.spec = spec
        self.size = spec.plane_resolution // CELL_TEXELS
        cube = (self.size,) * 3
        if packed is None:
            self._seen, self._solid = torch.zeros(2, *cube, dtype=torch.bool)
        else:
            rows = np.unpackbits(np.atleast_2d(packed), axis=-1, count=self.size**3).astype(bool)
            self._seen, self._solid = (torch.tensor(rows[i]).view(cube) for i in (0, -1))

    def mark(self, rays: Rays, edges: Tensor, weights: Tensor, threshold: float) -> None:
        """Mark the cells of all samples whose weight (R, S) exceeds the threshold; edges (R, S + 1)."""
        given = rays.origins, rays.directions, edges, weights
        mark_alive_(self._seen, self._solid, self.spec, *given, threshold, _SOLID)

    def packed(self) -> np.ndarray:
        """Return both grids as bits, eight cells a byte: (2, ceil(C^3 / 8)) uint8."""
        return np.packbits(torch.stack([self._seen, self._solid]).flatten(1).cpu().numpy(), axis=-1)

    def grid(self) -> np.ndarray:
        """Return what is seen (C, C, C) bool."""
        return self._seen.cpu().numpy()

    def solid(self) -> np.ndarray:
        """Return what is seen as part of a surface (C, C, C) bool."""
        return self._solid.cpu().numpy()
