"""Adam for sparse tables: only records with a gradient move, and their gradient is cleared."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import optimiser as reference

__all__ = ["sparse_adam_"]


def sparse_adam_(
    values: Tensor,
    gradient: Tensor,
    moment1: Tensor,
    moment2: Tensor,
    *,
    step: int,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
    decay: float = 0.0,
    half: Tensor | None = None,
) -> None:
    """Update the records (rows) whose gradient is not zero, in place, and zero the gradient.

    Args:
        values: Parameters (N, F) float32.
        gradient: (N, F). Rows with a value that is not finite are cleared and skipped.
        moment1: First moments (N, F).
        moment2: Second moments (N, F).
        step: Number of this update, from 1, for the bias correction (one count for all rows).
        lr: Learning rate.
        betas: Decay of the moments.
        eps: Added to the denominator.
        half: The values as float16 (N, F), kept up to date for the rows that move.
        decay: Adds ``decay * values`` to the gradient of the touched rows.

    Raises:
        ValueError: If a shape, dtype or memory layout is not as stated.
    """
    tensors = {"values": values, "gradient": gradient, "moment1": moment1, "moment2": moment2}
    for name, tensor in tensors.items():
        native.check(
            name, tensor, torch.float32, (None, None) if tensor is values else values.shape, values.device
        )
        if not tensor.is_contiguous():
            raise ValueError(f"{name}: expected a contiguous tensor, got strides {tensor.stride()}")
    if half is not None:
        native.check("half", half, torch.float16, values.shape)
    name = "smerf_sparse_adam" if half is None else "smerf_sparse_adam_half"
    backend = native.backend(values, name)
    if backend is None:
        reference.sparse_adam_(
            values, gradient, moment1, moment2, step=step, lr=lr, betas=betas, eps=eps, decay=decay, half=half
        )
        return
    backend.call(
        name, values, gradient, moment1, moment2, *values.shape, lr, *betas, eps, 1.0 - betas[0] ** step,
        1.0 - betas[1] ** step, decay, *(() if half is None else (half,)),
    )  # fmt: skip
