"""Sample intervals along rays, as ascending edges. Letters: R rays, S samples."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["halved"]


def halved(edges: Tensor) -> Tensor:
    """Return edges (R, 2 S + 1) with the middle of each of the intervals (R, S + 1) between its ends."""
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    return torch.cat([torch.stack([edges[:, :-1], middle], -1).flatten(1), edges[:, -1:]], -1)
