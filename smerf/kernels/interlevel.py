"""Zip-NeRF's anti-aliased proposal loss: checks, dispatch and gradients. Letters: R rays, S samples, N bins."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import interlevel as reference

__all__ = ["blurred_interlevel"]


def blurred_interlevel(
    edges: Tensor, weights: Tensor, outer_edges: Tensor, outer_weights: Tensor, half_width: float
) -> Tensor:
    """Measure how much weight a proposal misses after the final histogram is blurred.

    The final weights, as a step density over ``edges``, are blurred with a box; what falls into each proposal
    bin beyond the proposal's weight q costs (missing)^2 / (q + 1e-7) (Zip-NeRF, arXiv 2304.06706,
    section 3.2). Intervals without length are left out.

    Args:
        edges: Final edges (R, S + 1) float32, ascending; no gradient.
        weights: Final weights (R, S) float32; no gradient.
        outer_edges: Proposal edges (R, N + 1) float32, ascending; no gradient.
        outer_weights: Proposal weights (R, N) float32; the gradient flows here alone.
        half_width: Half the width of the box, in the units of the edges, more than 0.

    Returns:
        The sum over bins for each ray (R,).

    Raises:
        ValueError: If a shape, dtype, device or number is not as stated.
    """
    native.check("edges", edges, torch.float32, (None, None))
    rays, samples = edges.shape[0], edges.shape[1] - 1
    if samples < 1:
        raise ValueError(f"edges: expected at least two edges a ray, got {edges.shape[1]}")
    native.check("weights", weights, torch.float32, (rays, samples))
    native.check("outer_weights", outer_weights, torch.float32, (rays, None))
    native.check("outer_edges", outer_edges, torch.float32, (rays, outer_weights.shape[1] + 1))
    native.check_device(edges=edges, weights=weights, outer_edges=outer_edges, outer_weights=outer_weights)
    if not half_width > 0.0:
        raise ValueError(f"half_width: expected more than 0, got {half_width}")
    backend = native.backend(edges, "smerf_blurred_interlevel")
    if backend is None:
        return reference.blurred_interlevel(edges, weights, outer_edges, outer_weights, half_width)
    constant = (a.detach().contiguous() for a in (edges, weights, outer_edges))
    return _BlurredInterlevel.apply(*constant, outer_weights.contiguous(), half_width, backend)


class _BlurredInterlevel(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        edges: Tensor,
        weights: Tensor,
        outer_edges: Tensor,
        outer_weights: Tensor,
        half_width: float,
        backend: native.Backend,
    ) -> Any:
        (rays, samples), bins = weights.shape, outer_weights.shape[1]
        loss, gradient = weights.new_empty(rays), torch.empty_like(outer_weights)
        backend.call(
            "smerf_blurred_interlevel", edges, weights, outer_edges,
            outer_weights, half_width, rays, samples, bins,
            loss, gradient,
        )  # fmt: skip
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return None, None, None, upstream[:, None] * ctx.saved_tensors[0], None, None
