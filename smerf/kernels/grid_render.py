"""Rendering the student's 8-bit grids along given intervals, forward and backward, and their optimiser.

A submodel's grids hold eight channels a vertex: density, red, green, blue and four view features, of which
the last of the voxel grid is the gate. All axes are the viewer's. Every vertex has a record of 32 floats,
gradient (8), parameter z (8) and two moments (8 + 8), and eight bytes round(255 sigmoid(z)), which are all
that rendering reads.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.records import grid_view
from smerf.kernels.reference import grid_render as reference
from smerf.kernels.types import BLOCK, FEATURES, MAX_SAMPLES, Grids

__all__ = [
    "BLOCK",
    "grid_adam_",
    "grid_mark",
    "grid_read",
    "grid_render",
]


def _check_rays(grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor) -> None:
    native.check("edges", edges, torch.float32, (None, None))
    native.check("origins", origins, torch.float32, (edges.shape[0], 3), edges.device)
    native.check("directions", directions, torch.float32, (edges.shape[0], 3), edges.device)
    if grids.voxels.device != edges.device:
        raise ValueError(
            f"edges: expected a tensor on {grids.voxels.device}, as the grids, got {edges.device}"
        )
    if not 1 <= edges.shape[1] <= MAX_SAMPLES + 1:
        raise ValueError(f"edges: expected 1 to {MAX_SAMPLES + 1} interval ends a ray, got {edges.shape[1]}")


def grid_render(
    grids: Grids, anchor: Tensor, origins: Tensor, directions: Tensor, edges: Tensor, tau: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Composite the grids' features over the intervals of rays.

    Args:
        grids: What is rendered. The backward pass adds to the gradient part of its records and marks the
            vertices.
        anchor: Any tensor that requires a gradient, so that the backward pass runs; its own gradient is zero.
        origins: (R, 3) float32, training space.
        directions: Unit directions (R, 3).
        edges: Metric interval ends (R, S + 1), ascending.
        tau: Samples whose alpha over one marching step is below this are dropped.

    Returns:
        Features (R, 14), the activated channels weighted and summed (seven gated, seven of the voxels alone),
        and weights (R, S). Nothing lies outside the voxel blocks.

    Raises:
        ValueError: If a shape or dtype is not as stated.
    """
    _check_rays(grids, origins, directions, edges)
    backend = native.backend(edges, "smerf_grid_render_forward")
    if backend is None:
        return reference.grid_render(grids, anchor, origins, directions, edges, tau)
    return _GridRender.apply(
        anchor, grids, origins.contiguous(), directions.contiguous(), edges.contiguous(), tau, backend
    )


class _GridRender(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        anchor: Tensor,
        grids: Grids,
        origins: Tensor,
        directions: Tensor,
        edges: Tensor,
        tau: float,
        backend: native.Backend,
    ) -> Any:
        rays, samples = edges.shape[0], edges.shape[1] - 1
        features, weights = edges.new_empty(rays, FEATURES), edges.new_empty(rays, samples)
        backend.call(
            "smerf_grid_render_forward", grid_view(grids), origins, directions,
            edges,
            rays, samples, tau, grids.spec.step,
            features, weights,
        )  # fmt: skip
        ctx.save_for_backward(anchor, origins, directions, edges)
        ctx.grids, ctx.tau, ctx.backend = grids, tau, backend
        return features, weights

    @staticmethod
    def backward(ctx: Any, up_features: Tensor, up_weights: Tensor) -> Any:
        anchor, origins, directions, edges = ctx.saved_tensors
        grids, rays, samples = ctx.grids, edges.shape[0], edges.shape[1] - 1
        up_features, up_weights = up_features.contiguous(), up_weights.contiguous()
        ctx.backend.call(
            "smerf_grid_render_backward", grid_view(grids), origins, directions,
            edges,
            rays, samples, ctx.tau, grids.spec.step,
            up_features, up_weights,
            grids.voxel_records, grids.voxel_touched,
            grids.plane_records, grids.plane_touched,
        )  # fmt: skip
        return torch.zeros_like(anchor), None, None, None, None, None, None


def grid_mark(grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor) -> None:
    """Set the touched flag of every vertex that the samples read (arguments as in ``grid_render``)."""
    _check_rays(grids, origins, directions, edges)
    backend = native.backend(edges, "smerf_grid_mark")
    if backend is None:
        reference.grid_mark(grids, origins, directions, edges)
        return
    origins, directions, edges = origins.contiguous(), directions.contiguous(), edges.contiguous()
    backend.call(
        "smerf_grid_mark", grid_view(grids), origins, directions,
            edges,
        edges.shape[0], edges.shape[1] - 1,
        grids.voxel_touched, grids.plane_touched,
    )  # fmt: skip


def grid_read(grids: Grids, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Interpolate the grids at points.

    Args:
        grids: What is read.
        points: Contracted points (N, 3) float32 on viewer axes.

    Returns:
        Dequantised voxel values (N, 8), the sum of the planes' values (N, 8), and whether a block is there
        (N,) bool (values are zero where not).
    """
    native.check("points", points, torch.float32, (None, 3), grids.voxels.device)
    backend = native.backend(points, "smerf_grid_read")
    if backend is None:
        return reference.grid_read(grids, points)
    points, count = points.contiguous(), points.shape[0]
    voxels, planes = points.new_zeros(count, 8), points.new_zeros(count, 8)
    alive = torch.zeros(count, dtype=torch.uint8, device=points.device)
    backend.call(
        "smerf_grid_read", grid_view(grids), points, count,
        voxels,
        planes, alive,
    )  # fmt: skip
    return voxels, planes, alive.bool()


def grid_adam_(
    grids: Grids,
    *,
    step: int,
    lr: float,
    plane_lr: float | None = None,
    betas: tuple[float, float] = (0.9, 0.99),
    eps: float = 1e-15,
) -> None:
    """Update the touched vertices from their gradients, requantise them, and clear gradients and flags.

    Args:
        grids: Updated in place.
        step: Number of this update, from 1, for the bias correction (one count for all vertices).
        lr: Learning rate of z, the logit of a byte.
        plane_lr: The same for the planes; ``lr`` if not given.
        betas: Decay of the moments.
        eps: Added to the denominator.
    """
    backend = native.backend(grids.voxels, "smerf_grid_adam")
    if backend is None:
        reference.grid_adam_(grids, step=step, lr=lr, plane_lr=plane_lr, betas=betas, eps=eps)
        return
    ranges = [high - low for low, high in (grids.spec.density_range, grids.spec.feature_range)]
    parts = (
        (grids.voxel_records, grids.voxels, grids.voxel_touched, lr),
        (grids.plane_records, grids.planes, grids.plane_touched, lr if plane_lr is None else plane_lr),
    )
    for records, values, touched, rate in parts:
        backend.call(
            "smerf_grid_adam", records, values, touched,
            len(values), *ranges, rate, *betas, eps,
            1.0 - betas[0] ** step, 1.0 - betas[1] ** step,
        )  # fmt: skip
