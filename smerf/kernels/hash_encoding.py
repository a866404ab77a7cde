"""Multi-resolution hash encoding with footprint fading: checks, dispatch and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.records import hash_levels
from smerf.kernels.reference import hash_encoding as reference
from smerf.kernels.types import HashSpec

__all__ = ["hash_encode"]

_CUDA_LEVELS = 32


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec, sigma: Tensor | None = None) -> Tensor:
    """Encode points with a multi-resolution hash grid.

    Args:
        x: Points (N, 3) float32 in [0, 1]; values outside are clamped. A point with a NaN has zero features.
        table: Entries (spec.entry_count, spec.features) float32.
        spec: Level sizes.
        sigma: Optional footprint (N,) float32, standard deviation in the units of ``x``: a level is faded by
            erf(1 / (sqrt(8) sigma n)) (Zip-NeRF, arXiv 2304.06706). No gradient flows to it.

    Returns:
        Features (N, L * F), level-major. Gradients flow to ``table`` and, if it requires them, ``x``. On a GPU the
        gradient of the table repeats exactly only under ``torch.use_deterministic_algorithms``.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    native.check("x", x, torch.float32, (None, 3))
    native.check("table", table, torch.float32, (spec.entry_count, spec.features), x.device)
    if sigma is not None:
        native.check("sigma", sigma, torch.float32, (x.shape[0],), x.device)
    backend = native.backend(x, "smerf_hash_encode_forward")
    if backend is None or (backend.kind == "cuda" and spec.level_count > _CUDA_LEVELS):
        return reference.hash_encode(x, table, spec, sigma)
    return _HashEncode.apply(
        x.contiguous(), table.contiguous(), spec, None if sigma is None else sigma.contiguous(), backend
    )


class _HashEncode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, table: Tensor, spec: HashSpec, sigma: Tensor | None, backend: native.Backend
    ) -> Any:
        levels = hash_levels(spec)
        out = x.new_empty(x.shape[0], spec.width)
        backend.call(
            "smerf_hash_encode_forward", levels, spec.level_count, spec.features,
            table, x, sigma, x.shape[0],
            out,
        )  # fmt: skip
        ctx.save_for_backward(x, table, sigma)
        ctx.spec, ctx.backend = spec, backend
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, table, sigma = ctx.saved_tensors
        spec, levels, upstream = ctx.spec, hash_levels(ctx.spec), upstream.contiguous()
        backend, count = ctx.backend, x.shape[0]
        grad_table = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(table)
            common = (
                levels, spec.level_count, spec.features, x,
                sigma, count, upstream,
            )  # fmt: skip
            if backend.kind == "cuda" and torch.are_deterministic_algorithms_enabled():
                units = torch.zeros(table.shape, dtype=torch.int64, device=table.device)
                backend.call(
                    "smerf_hash_encode_backward_repeatable", *common, units,
                    grad_table, spec.entry_count,
                )  # fmt: skip
            else:
                backend.call("smerf_hash_encode_backward", *common, grad_table)
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            backend.call(
                "smerf_hash_encode_backward_input", levels, spec.level_count, spec.features,
                table, x, sigma, count, upstream,
                grad_x,
            )  # fmt: skip
        return grad_x, grad_table, None, None, None
