"""Rendering the student's 8-bit grids along given intervals, forward and backward, and their optimiser.

A submodel's grids hold eight channels a vertex: density, red, green, blue and four view features, of which
the last of the voxel grid is the gate. All axes are the viewer's. Every vertex has a record of 32 floats,
gradient (8), parameter z (8) and two moments (8 + 8), and eight bytes round(255 sigmoid(z)), which are all
that rendering reads.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import grid_render as reference
from smerf.kernels.types import BLOCK, FEATURES, MAX_SAMPLES, Grids

__all__ = [
    "BLOCK",
    "grid_adam_",
    "grid_mark",
    "grid_read",
    "grid_render",
    "grid_view",
]


class _View(ctypes.Structure):
    _fields_ = [
        ("voxels", ctypes.c_void_p),
        ("block_index", ctypes.c_void_p),
        ("planes", ctypes.c_void_p),
        ("voxel_resolution", ctypes.c_int32),
        ("plane_resolution", ctypes.c_int32),
        ("centre", ctypes.c_float * 3),
        ("scale", ctypes.c_float),
        ("density_low", ctypes.c_float),
        ("density_high", ctypes.c_float),
        ("feature_low", ctypes.c_float),
        ("feature_high", ctypes.c_float),
    ]


def grid_view(grids: Grids) -> _View:
    """Return the grids as the kernels' structure; it lives no longer than the grids."""
    spec = grids.spec
    return _View(
        grids.voxels.data_ptr(), grids.block_index.data_ptr(), grids.planes.data_ptr(),
        spec.voxel_resolution, spec.plane_resolution, (ctypes.c_float * 3)(*spec.centre), spec.scale,
        *spec.density_range, *spec.feature_range,
    )  # fmt: skip


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
    def forward(ctx, anchor, grids, origins, directions, edges, tau, backend):
        rays, samples = edges.shape[0], edges.shape[1] - 1
        features, weights = edges.new_empty(rays, FEATURES), edges.new_empty(rays, samples)
        view = grid_view(grids)
        backend.call(
            "smerf_grid_render_forward", ctypes.byref(view), native.pointer(origins), native.pointer(directions),
            native.pointer(edges),
            ctypes.c_int64(rays), samples, ctypes.c_float(tau), ctypes.c_float(grids.spec.step),
            native.pointer(features), native.pointer(weights),
        )  # fmt: skip
        ctx.save_for_backward(anchor, origins, directions, edges)
        ctx.grids, ctx.tau, ctx.backend = grids, tau, backend
        return features, weights

    @staticmethod
    def backward(ctx, up_features, up_weights):
        anchor, origins, directions, edges = ctx.saved_tensors
        grids, rays, samples = ctx.grids, edges.shape[0], edges.shape[1] - 1
        up_features, up_weights = up_features.contiguous(), up_weights.contiguous()
        view = grid_view(grids)
        ctx.backend.call(
            "smerf_grid_render_backward", ctypes.byref(view), native.pointer(origins), native.pointer(directions),
            native.pointer(edges),
            ctypes.c_int64(rays), samples, ctypes.c_float(ctx.tau), ctypes.c_float(grids.spec.step),
            native.pointer(up_features), native.pointer(up_weights),
            native.pointer(grids.voxel_records), native.pointer(grids.voxel_touched),
            native.pointer(grids.plane_records), native.pointer(grids.plane_touched),
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
    view = grid_view(grids)
    backend.call(
        "smerf_grid_mark", ctypes.byref(view), native.pointer(origins), native.pointer(directions),
            native.pointer(edges),
        ctypes.c_int64(edges.shape[0]), edges.shape[1] - 1,
        native.pointer(grids.voxel_touched), native.pointer(grids.plane_touched),
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
    view = grid_view(grids)
    backend.call(
        "smerf_grid_read", ctypes.byref(view), native.pointer(points), ctypes.c_int64(count),
        native.pointer(voxels),
        native.pointer(planes), native.pointer(alive),
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
    spec, f = grids.spec, ctypes.c_float
    ranges = (
        f(spec.density_range[1] - spec.density_range[0]),
        f(spec.feature_range[1] - spec.feature_range[0]),
    )
    parts = (
        (grids.voxel_records, grids.voxels, grids.voxel_touched, lr),
        (grids.plane_records, grids.planes, grids.plane_touched, lr if plane_lr is None else plane_lr),
    )
    for records, values, touched, rate in parts:
        backend.call(
            "smerf_grid_adam", native.pointer(records), native.pointer(values), native.pointer(touched),
            ctypes.c_int64(values.shape[0]), *ranges, f(rate), f(betas[0]), f(betas[1]), f(eps),
            f(1.0 - betas[0] ** step), f(1.0 - betas[1] ** step),
        )  # fmt: skip
