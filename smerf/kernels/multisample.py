"""Multisampled hash encoding of ray intervals: checks, dispatch and gradients.

Zip-NeRF (arXiv 2304.06706, section 3.1). Letters: R rays, S samples, L levels, F features.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.hash_encoding import hash_encode
from smerf.kernels.records import hash_levels
from smerf.kernels.reference import multisample as reference
from smerf.kernels.types import Frustums, HashSpec

__all__ = ["multisample_encode"]


def _record(frustums: Frustums) -> ctypes.Structure:
    """Return the kernels' ``FrustumSpec``."""
    return abi.record(
        "FrustumSpec",
        first_ray=frustums.first_ray,
        scale=frustums.scale,
        points=frustums.points,
        is_ball=frustums.contraction == "ball",
        is_random=frustums.seed is not None,
        seed=(frustums.seed or 0) & 0xFFFFFFFF,
        padding=0,
    )


def multisample_encode(
    origins: Tensor,
    directions: Tensor,
    edges: Tensor,
    radii: Tensor,
    table: Tensor,
    spec: HashSpec,
    frustums: Frustums,
    level_scales: Tensor | None = None,
) -> Tensor:
    """Encode the intervals of rays with a hash grid, each as the mean over points of its conical frustum.

    The points are contracted, mapped to the unit cube and encoded with their footprint's fading; nothing but
    the features is stored.

    Args:
        origins: (R, 3) float32.
        directions: (R, 3) float32; the point at t is ``origins + t * directions``.
        edges: Ascending distances (R, S + 1) float32, no gradient.
        radii: Cone radius per unit t (R,) float32.
        table: Entries (spec.entry_count, spec.features) float32.
        spec: Level sizes of the grid.
        frustums: The pattern of points.
        level_scales: Size of each level's values (L,) float32; adds the features (2 fade - 1) * size, which
            tell how far each level is faded. No gradient.

    Returns:
        Features (R * S, L * F), level-major, or (R * S, L * F + L). Gradients flow to ``table`` and, through
        the PyTorch reference, to ``origins`` and ``directions`` where they require them.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    native.check("edges", edges, torch.float32, (None, None))
    rays, samples = edges.shape[0], edges.shape[1] - 1
    if samples < 0:
        raise ValueError("edges: expected at least one distance a ray, got none")
    native.check("origins", origins, torch.float32, (rays, 3))
    native.check("directions", directions, torch.float32, (rays, 3))
    native.check("radii", radii, torch.float32, (rays,))
    native.check("table", table, torch.float32, (spec.entry_count, spec.features))
    if level_scales is not None:
        native.check("level_scales", level_scales, torch.float32, (spec.level_count,))
    native.check_device(
        edges=edges,
        origins=origins,
        directions=directions,
        radii=radii,
        table=table,
        level_scales=level_scales,
    )
    needs_rays = torch.is_grad_enabled() and (origins.requires_grad or directions.requires_grad)
    backend = native.backend(edges, "smerf_multisample_forward")
    if needs_rays or backend is None:
        x, sigma = reference.frustum_points(origins, directions, edges.detach(), radii, frustums)
        return reference.multisample_encode(x, sigma, table, spec, level_scales, hash_encode)
    constant = (a.detach().contiguous() for a in (origins, directions, edges, radii))
    scales = None if level_scales is None else level_scales.detach().contiguous()
    return _MultisampleEncode.apply(*constant, table.contiguous(), spec, frustums, scales, backend)


class _MultisampleEncode(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        origins: Tensor,
        directions: Tensor,
        edges: Tensor,
        radii: Tensor,
        table: Tensor,
        spec: HashSpec,
        frustums: Frustums,
        level_scales: Tensor | None,
        backend: native.Backend,
    ) -> Any:
        rays, samples = edges.shape[0], edges.shape[1] - 1
        levels, record = hash_levels(spec), _record(frustums)
        width = spec.width + (0 if level_scales is None else spec.level_count)
        out = edges.new_empty(rays * samples, width)
        backend.call(
            "smerf_multisample_forward", record, origins, directions,
            edges, radii, rays, samples,
            levels, spec.level_count, spec.features, table,
            level_scales, out,
        )  # fmt: skip
        ctx.save_for_backward(origins, directions, edges, radii, table)
        ctx.spec, ctx.frustums, ctx.backend = spec, frustums, backend
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        origins, directions, edges, radii, table = ctx.saved_tensors
        spec, levels, record = ctx.spec, hash_levels(ctx.spec), _record(ctx.frustums)
        gradient, upstream = torch.zeros_like(table), upstream.contiguous()
        ctx.backend.call(
            "smerf_multisample_backward", record, origins, directions,
            edges, radii, edges.shape[0],
            edges.shape[1] - 1, levels, spec.level_count, spec.features,
            upstream, upstream.shape[1], gradient,
        )  # fmt: skip
        return None, None, None, None, gradient, None, None, None, None
