"""How far rays may skip through empty cells: the face of ``cuda/include/smerf/distance_grid.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import distance_grid as reference

__all__ = ["distance_grid"]


def distance_grid(occupied: Tensor) -> Tensor:
    """Return for every cell how many cells a ray may skip.

    Args:
        occupied: (X, Y, Z) bool.

    Returns:
        (X, Y, Z) uint8: max(0, chessboard distance to the nearest occupied cell - 1), at most
        min(255, longest edge); that limit everywhere if no cell is occupied.

    Raises:
        ValueError: If the shape or dtype is not as stated.
    """
    native.check("occupied", occupied, torch.bool, (None, None, None))
    backend = native.backend(occupied, "smerf_distance_grid")
    if backend is None:
        return reference.distance_grid(occupied)
    occupied = occupied.contiguous()
    result = torch.empty_like(occupied, dtype=torch.uint8)
    if not occupied.numel():
        return result
    # On a CPU the launcher has its own memory.
    work = None if backend.kind == "cpu" else occupied.new_empty(4 * occupied.numel(), dtype=torch.uint8)
    backend.call(
        "smerf_distance_grid", occupied, *occupied.shape,
        min(255, max(occupied.shape)), result, work,
    )  # fmt: skip
    return result
