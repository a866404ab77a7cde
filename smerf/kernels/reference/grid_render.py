"""Rendering the student's 8-bit grids in plain PyTorch: the specification of the native kernels.

A sample reads eight voxels and twelve texels (``find_stencil``), interpolates their bytes and dequantises the
result (``read``); a ray's samples are gated, culled, activated and composited (``composite``). See
``cuda/include/smerf/grid.h`` and SMERF (arXiv 2312.07541). Letters: P points, R rays, S samples. Points lie
on the viewer's axes: (x, y, z) of training space become (-x, z, y).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from smerf.kernels.reference.contraction import contract, contraction_speed
from smerf.kernels.types import BLOCK, Grids, GridSpec

__all__ = [
    "Stencil",
    "composite",
    "find_stencil",
    "frustum_mean",
    "grid_adam_",
    "grid_coordinates",
    "grid_mark",
    "grid_read",
    "grid_render",
    "read",
    "viewer_axes",
]

GATE = 7
OPAQUE = 1e-4
"""Light at or below which the rest of a ray is skipped: less than a tenth of one step of an 8-bit picture."""
MAX_EXPONENT = 15.0
"""Bound of the density's exponent; the gradient ignores it."""


def viewer_axes(p: Tensor) -> Tensor:
    """Turn vectors (..., 3) of training space to the axes of the grids."""
    return torch.stack([-p[..., 0], p[..., 2], p[..., 1]], -1)


def grid_coordinates(s: Tensor, resolution: int) -> Tensor:
    """Return the array coordinates of contracted points: values sit at cell centres of [-2, 2]."""
    return (s + 2.0) * (0.25 * resolution) - 0.5


def frustum_mean(t0: Tensor, t1: Tensor) -> Tensor:
    """Return the distance of a conical frustum's centre of mass (mip-NeRF, arXiv 2103.13415)."""
    total, width = t0 + t1, t1 - t0
    return total * (0.5 + width**2 / (3.0 * total**2 + width**2).clamp_min(1e-20))


@dataclass(frozen=True)
class Stencil:
    """Where points read.

    ``alive`` (P,) is false where the block of the lowest voxel is missing or a coordinate is not a number.
    ``voxels`` (P, 8) are rows of the voxels, -1 outside the blocks, ``texels`` (P, 12) rows of the planes;
    the weights go with them.
    """

    alive: Tensor
    voxels: Tensor
    voxel_weights: Tensor
    texels: Tensor
    texel_weights: Tensor


def _split(s: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Return the two cells around each coordinate (..., 2), clamped to the grid, and their weights."""
    g = grid_coordinates(s, resolution)
    base = torch.floor(g)
    cells = torch.stack([base, base + 1.0], -1).clamp(0, resolution - 1).long()
    return cells, torch.stack([1.0 - (g - base), g - base], -1)


def find_stencil(grids: Grids, s: Tensor) -> Stencil:
    """Find what contracted points (P, 3) read."""
    alive = ~torch.isnan(s).any(-1)
    s = torch.where(alive[:, None], s, torch.zeros_like(s))
    cells, weights = _split(s, grids.spec.voxel_resolution)
    corner = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], device=s.device)
    axis = torch.arange(3, device=s.device)
    at = cells[:, axis, corner]
    block, inside = at // BLOCK, at % BLOCK
    number = grids.block_index[block[..., 0], block[..., 1], block[..., 2]].long()
    row = (inside[..., 0] * BLOCK + inside[..., 1]) * BLOCK + inside[..., 2]
    voxels = torch.where(number < 0, -1, number * BLOCK**3 + row)

    resolution = grids.spec.plane_resolution
    cells, plane_weights = _split(s, resolution)
    texels, texel_weights = [], []
    for plane, (first, second) in enumerate(((1, 2), (0, 2), (0, 1))):
        for low, high in ((0, 0), (0, 1), (1, 0), (1, 1)):
            texels.append((plane * resolution + cells[:, first, low]) * resolution + cells[:, second, high])
            texel_weights.append(plane_weights[:, first, low] * plane_weights[:, second, high])
    return Stencil(
        alive & (voxels[:, 0] >= 0),
        voxels,
        weights[:, axis, corner].prod(-1),
        torch.stack(texels, -1),
        torch.stack(texel_weights, -1),
    )


def _dequantise(spec: GridSpec, byte: Tensor, weight: float) -> Tensor:
    """Turn weighted sums of bytes (..., 8), of total weight ``weight``, into values."""
    ranges = torch.tensor([spec.density_range] + 7 * [spec.feature_range], dtype=byte.dtype).to(byte.device)
    low, high = ranges.unbind(-1)
    return weight * low + (high - low) * (byte / 255.0)


def read(grids: Grids, stencil: Stencil) -> tuple[Tensor, Tensor]:
    """Return the voxel values (P, 8) and the sum of the three planes' values (P, 8).

    A voxel outside the blocks counts as no density (byte 0) and features next to zero (byte 128).
    """
    if not grids.voxels.shape[0]:
        zero = stencil.voxel_weights.new_zeros(stencil.voxels.shape[0], 8)
        return zero, zero.clone()
    dtype = stencil.voxel_weights.dtype
    absent = torch.tensor([0.0] + 7 * [128.0], dtype=dtype, device=stencil.voxels.device)
    present = (stencil.voxels >= 0)[..., None]
    voxel_bytes = torch.where(present, grids.voxels[stencil.voxels.clamp_min(0)].to(dtype), absent)
    texel_bytes = grids.planes[stencil.texels].to(dtype)
    voxel_sum = (stencil.voxel_weights[..., None] * voxel_bytes).sum(1)
    texel_sum = (stencil.texel_weights[..., None] * texel_bytes).sum(1)
    return _dequantise(grids.spec, voxel_sum, 1.0), _dequantise(grids.spec, texel_sum, 3.0)


def composite(
    v: Tensor, t: Tensor, dt: Tensor, world_step: Tensor, alive: Tensor, tau: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Activate and composite the samples of rays; differentiable in ``v`` and ``t``.

    Args:
        v: Voxel values (R, S, 8).
        t: Sums of the planes' values (R, S, 8).
        dt: Metric interval lengths (R, S); samples with none are skipped.
        world_step: Metric length of one marching step at each sample (R, S).
        alive: Samples that are not empty (R, S) bool.
        tau: Samples whose alpha over ``world_step`` is below this are dropped.

    Returns:
        Features (R, 14), weights (R, S), and which samples were kept (R, S) bool: not culled, and not behind
        ``OPAQUE``.
    """
    gate = v[..., GATE]
    raw = gate * t[..., 0] + v[..., 0] - 1.0
    bounded = raw - (raw - MAX_EXPONENT).clamp_min(0.0).detach()
    sigma = torch.exp(bounded)
    alive = alive & (dt > 0.0)
    if tau > 0.0:
        alive = alive & (sigma * world_step >= (-math.log1p(-tau) if tau < 1.0 else math.inf))
    depth = torch.where(alive, sigma * torch.where(alive, dt, 0.0), 0.0)
    # The sum over earlier samples alone: a large depth, added and subtracted again, wipes out small ones.
    light = torch.exp(-torch.nn.functional.pad(depth, (1, 0)).cumsum(-1)[:, :-1])
    kept = alive & (light > OPAQUE)
    weights = torch.where(kept, light * -torch.expm1(-depth), 0.0)
    fine = torch.sigmoid(gate[..., None] * t[..., 1:] + v[..., 1:])
    coarse = torch.sigmoid(v[..., 1:])
    features = (weights[..., None] * torch.cat([fine, coarse], -1)).sum(1)
    return features, weights, kept


def _places(grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor) -> tuple[Stencil, Tensor]:
    """Return what the intervals' samples read (R * S points), and the metric marching step there (R, S)."""
    spec = grids.spec
    centre = torch.tensor(spec.centre, dtype=edges.dtype, device=edges.device)
    t = frustum_mean(edges[:, :-1], edges[:, 1:])
    p = viewer_axes((origins[:, None] + t[..., None] * directions[:, None] - centre) * spec.scale)
    speed = contraction_speed(p, viewer_axes(directions)[:, None].expand_as(p)).clamp_min(1e-12)
    return find_stencil(grids, contract(p).reshape(-1, 3)), spec.step / (spec.scale * speed)


def grid_render(
    grids: Grids, anchor: Tensor, origins: Tensor, directions: Tensor, edges: Tensor, tau: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Composite the grids' features over the intervals of rays; see ``smerf.kernels.grid_render``."""
    return _GridRender.apply(anchor, grids, origins, directions, edges, tau)


def _clean(stencil: Stencil, v: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Zero the values of empty points, which carry no gradient either."""
    alive = stencil.alive[:, None]
    return torch.where(alive, v, 0.0), torch.where(alive, t, 0.0)


class _GridRender(torch.autograd.Function):
    """The backward pass differentiates ``composite`` again and spreads the gradients over the vertices."""

    @staticmethod
    def forward(
        ctx: Any, anchor: Tensor, grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor, tau: float
    ) -> Any:
        ctx.save_for_backward(anchor, origins, directions, edges)
        ctx.grids, ctx.tau = grids, tau
        stencil, world_step = _places(grids, origins, directions, edges)
        v, t = _clean(stencil, *read(grids, stencil))
        shape = world_step.shape
        features, weights, _ = composite(
            v.view(*shape, 8),
            t.view(*shape, 8),
            edges.diff(dim=-1),
            world_step,
            stencil.alive.view(shape),
            tau,
        )
        return features, weights

    @staticmethod
    def backward(ctx: Any, up_features: Tensor, up_weights: Tensor) -> Any:
        anchor, origins, directions, edges = ctx.saved_tensors
        grids = ctx.grids
        stencil, world_step = _places(grids, origins, directions, edges)
        shape = world_step.shape
        v, t = (x.view(*shape, 8).requires_grad_() for x in _clean(stencil, *read(grids, stencil)))
        with torch.enable_grad():
            features, weights, kept = composite(
                v, t, edges.diff(dim=-1), world_step, stencil.alive.view(shape), ctx.tau
            )
            grad_v, grad_t = torch.autograd.grad((features, weights), (v, t), (up_features, up_weights))
        kept = kept.reshape(-1)
        for grad, rows, row_weights, records, touched in (
            (grad_v, stencil.voxels, stencil.voxel_weights, grids.voxel_records, grids.voxel_touched),
            (grad_t, stencil.texels, stencil.texel_weights, grids.plane_records, grids.plane_touched),
        ):
            rows = torch.where(kept[:, None], rows, -1)
            share = row_weights[..., None] * grad.reshape(-1, 1, 8)
            present = rows >= 0
            records[:, :8].index_add_(0, rows[present], share[present].to(records.dtype))
            touched[rows[present]] = 1
        return torch.zeros_like(anchor), None, None, None, None, None


@torch.no_grad()
def grid_mark(grids: Grids, origins: Tensor, directions: Tensor, edges: Tensor) -> None:
    """Set the touched flag of every vertex that the samples read; see ``smerf.kernels.grid_mark``."""
    stencil, _ = _places(grids, origins, directions, edges)
    reads = stencil.alive & (edges.diff(dim=-1) > 0.0).reshape(-1)
    grids.voxel_touched[stencil.voxels[reads][stencil.voxels[reads] >= 0]] = 1
    grids.plane_touched[stencil.texels[reads].reshape(-1)] = 1


@torch.no_grad()
def grid_read(grids: Grids, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Interpolate the grids at contracted points (P, 3); see ``smerf.kernels.grid_read``."""
    stencil = find_stencil(grids, points)
    v, t = _clean(stencil, *read(grids, stencil))
    return v, t, stencil.alive


@torch.no_grad()
def grid_adam_(
    grids: Grids, *, step: int, lr: float, plane_lr: float | None, betas: tuple[float, float], eps: float
) -> None:
    """Update the touched vertices, requantise them, and clear gradients; see ``smerf.kernels.grid_adam_``."""
    spec = grids.spec
    widths = [high - low for low, high in (spec.density_range, *7 * (spec.feature_range,))]
    parts = (
        (grids.voxel_records, grids.voxels, grids.voxel_touched, lr),
        (grids.plane_records, grids.planes, grids.plane_touched, lr if plane_lr is None else plane_lr),
    )
    for records, values, touched, rate in parts:
        rows = torch.nonzero(touched).squeeze(-1)
        gradient, z, moment1, moment2 = records[rows].split(8, -1)
        sane = torch.isfinite(gradient).all(-1, keepdim=True)
        u = torch.sigmoid(z)
        slope = gradient * torch.tensor(widths, device=z.device) * u * (1.0 - u)
        new1 = betas[0] * moment1 + (1.0 - betas[0]) * slope
        new2 = betas[1] * moment2 + (1.0 - betas[1]) * slope**2
        root = (new2 / (1.0 - betas[1] ** step)).sqrt() + eps
        new_z = z - rate * (new1 / (1.0 - betas[0] ** step)) / root
        updated = torch.cat([torch.zeros_like(z), new_z, new1, new2], -1)
        skipped = torch.cat([torch.zeros_like(z), z, moment1, moment2], -1)
        records[rows] = torch.where(sane, updated, skipped)
        values[rows] = torch.round(255.0 * torch.sigmoid(records[rows, 8:16])).to(torch.uint8)
        touched[rows] = 0
