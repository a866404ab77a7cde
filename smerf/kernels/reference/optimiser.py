"""Adam for sparse tables in plain PyTorch: the specification of the native kernel."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sparse_adam_"]


@torch.no_grad()
def sparse_adam_(
    values: Tensor,
    gradient: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    decay: float,
    half: Tensor | None,
) -> None:
    """Update the rows whose gradient is not zero, and zero the gradient; see ``smerf.kernels.sparse_adam_``."""
    correction = 1.0 - betas[0] ** step, 1.0 - betas[1] ** step
    size = gradient.abs().sum(-1)
    rows = torch.nonzero((size > 0) & (size <= 3e38)).squeeze(-1)
    slope = gradient[rows] + decay * values[rows]
    moment1[rows] = betas[0] * moment1[rows] + (1.0 - betas[0]) * slope
    moment2[rows] = betas[1] * moment2[rows] + (1.0 - betas[1]) * slope**2
    root = (moment2[rows] / correction[1]).sqrt() + eps
    values[rows] -= lr * (moment1[rows] / correction[0]) / root
    if half is not None:
        half[rows] = values[rows].half()
    gradient.zero_()
