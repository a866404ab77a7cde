"""The distance grid in plain PyTorch: the specification of the native kernel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import max_pool3d

__all__ = ["distance_grid"]


def distance_grid(occupied: Tensor) -> Tensor:
    """Return how many cells may be skipped (X, Y, Z) uint8; ``occupied`` (X, Y, Z) bool.

    The occupied cells grow by one cell at a time; a cell that is reached after d steps may skip d - 1.
    """
    limit = min(255, max(occupied.shape))
    result = torch.full_like(occupied, limit, dtype=torch.uint8)
    reached = occupied[None].float()
    result[occupied] = 0
    for skipped in range(limit):
        grown = max_pool3d(reached, 3, stride=1, padding=1)
        if torch.equal(grown, reached):
            break
        result[(grown - reached)[0] > 0] = skipped
        reached = grown
    return result
