"""Volume rendering along rays, and the losses that act on its weights. Letters: R rays, S samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smerf.kernels import blurred_interlevel, volume_render
from smerf.kernels.reference.volume_render import ray_distortion, ray_weights

__all__ = [
    "blurred_interlevel_loss",
    "charbonnier",
    "density_activation",
    "distance_loss",
    "distortion_loss",
    "interlevel_loss",
    "render_weights",
]


_REACH = 0.3
"""Difference from a known distance, relative to it, from which on weights cost no more."""


class _TruncatedExp(torch.autograd.Function):
    """exp(x - 1) whose gradient stays finite for large x."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor) -> Tensor:
        density = torch.exp((raw - 1.0).clamp_max(15.0))
        ctx.save_for_backward(density)
        return density

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        return upstream * ctx.saved_tensors[0].clamp_max(3e3)


def density_activation(raw: Tensor) -> Tensor:
    """Return the density exp(raw - 1), any shape, with a bounded gradient."""
    density: Tensor = _TruncatedExp.apply(raw)
    return density


def render_weights(density: Tensor, edges: Tensor) -> Tensor:
    """Return compositing weights w_i = T_i (1 - exp(-density_i dt_i)).

    Args:
        density: (R, S), per unit of ``edges``.
        edges: Ascending metric distances (R, S + 1).

    Returns:
        Weights (R, S) in [0, 1]; one minus their sum is the light that reaches the background.
    """
    if density.dtype != torch.float32 or edges.requires_grad:
        return ray_weights(density, edges)
    return volume_render(density, edges).weights


def charbonnier(difference: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the mean of sqrt(difference^2 + epsilon^2)."""
    return torch.sqrt(difference**2 + epsilon**2).mean()


def distortion_loss(edges: Tensor, weights: Tensor) -> Tensor:
    """Return mip-NeRF 360's distortion, mean over rays, in O(S).

    sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 (e_{i+1} - e_i) with midpoints m
    (arXiv 2111.12077, equation 15).
    """
    return ray_distortion(edges, weights).mean()


def distance_loss(edges: Tensor, weights: Tensor, distances: Tensor) -> Tensor:
    """Return what weights cost away from where rays are known to meet something, mean over all rays.

    sum_i w_i min(1, a_i / (0.3 d)), where a_i is how far interval i is from the distance d.

    Args:
        edges: Metric distances (R, S + 1), no gradient.
        weights: Weights (R, S).
        distances: Known distances (R,) in the same units; 0 where nothing is known.
    """
    known = distances[:, None]
    away = torch.maximum(edges[:, :-1] - known, known - edges[:, 1:]).clamp_min(0.0)
    cost = (away / (_REACH * known).clamp_min(1e-9)).clamp_max(1.0)
    return torch.where(known > 0.0, weights * cost, 0.0).sum(-1).mean()


def interlevel_loss(edges: Tensor, weights: Tensor, outer_edges: Tensor, outer_weights: Tensor) -> Tensor:
    """Penalise proposal weights that do not cover the final ones (mip-NeRF 360, equation 13).

    Args:
        edges: Final edges (R, S + 1), no gradient.
        weights: Final weights (R, S), no gradient.
        outer_edges: Proposal edges (R, N + 1).
        outer_weights: Proposal weights (R, N); the gradient flows here alone.

    Returns:
        Mean over rays of sum_i max(0, w_i - bound_i)^2 / (w_i + 1e-7).
    """
    edges, weights = edges.detach(), weights.detach()
    cumulative = torch.cat([torch.zeros_like(outer_weights[:, :1]), torch.cumsum(outer_weights, -1)], -1)
    last = outer_edges.shape[-1] - 1
    outer_edges = outer_edges.contiguous()
    start = torch.searchsorted(outer_edges, edges[:, :-1].contiguous(), right=True) - 1
    end = torch.searchsorted(outer_edges, edges[:, 1:].contiguous(), right=False)
    bound = cumulative.gather(-1, end.clamp(0, last)) - cumulative.gather(-1, start.clamp(0, last))
    return ((weights - bound).clamp_min(0.0) ** 2 / (weights + 1e-7)).sum(-1).mean()


def blurred_interlevel_loss(
    edges: Tensor, weights: Tensor, outer_edges: Tensor, outer_weights: Tensor, half_width: float
) -> Tensor:
    """Penalise proposal weights that miss the final ones after a blur (Zip-NeRF, arXiv 2304.06706, section 3.2).

    Unlike ``interlevel_loss`` it pulls wherever the two differ, so that proposals follow smoothly when a camera
    moves. Arguments as there; ``half_width`` is half the width of the blur, in the units of the edges.

    Returns:
        Mean over rays and proposal bins.
    """
    losses = blurred_interlevel(edges, weights, outer_edges, outer_weights, half_width)
    return losses.mean() / outer_weights.shape[-1]
