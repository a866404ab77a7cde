"""Adam for sparse tables: only records with a gradient move, and their gradient is cleared."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from smerf.kernels import native

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
    correction = 1.0 - betas[0] ** step, 1.0 - betas[1] ** step
    name, also = "smerf_sparse_adam", ()
    if half is not None:
        name, also = "smerf_sparse_adam_half", (native.pointer(half),)
    backend = native.backend(values, name)
    if backend is not None:
        f = ctypes.c_float
        backend.call(
            name, native.pointer(values), native.pointer(gradient), native.pointer(moment1),
            native.pointer(moment2), ctypes.c_int64(values.shape[0]), values.shape[1], f(lr), f(betas[0]),
            f(betas[1]), f(eps), f(correction[0]), f(correction[1]), f(decay), *also,
        )  # fmt: skip
        return
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
