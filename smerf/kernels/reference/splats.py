"""Rays and images of Gaussian splats in plain PyTorch: every ray meets every splat.

Sources: Zwicker et al., EWA splatting (2001); Kerbl et al. (arXiv 2308.04079). Letters: R rays or pixels, N splats,
K coefficients, S intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels.splat_tree import ALPHA_MIN, SplatCamera, SplatTree
from smerf.kernels.types import Spacing

__all__ = ["SplatHits", "splat_colours", "splat_hits", "splat_image", "splat_rays"]

_ALPHA_MAX, _STOP, _MIN_FACTOR = 0.99, 1e-4, 2.5e-5
_BINS = 256
_PAIRS = 4_000_000


@dataclass(frozen=True)
class SplatHits:
    """Every splat along every ray (R, N): alpha, 0 where it does not count; place and variance of its response."""

    alpha: Tensor
    t: Tensor
    variance: Tensor


def _covariance_matrices(rows: Tensor) -> Tensor:
    xx, xy, xz, yy, yz, zz = rows[:, 3:9].unbind(-1)
    return torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], -1).view(-1, 3, 3)


def _across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return two unit vectors across each direction (R, 3)."""
    x, y, z = directions.unbind(-1)
    sign = torch.where(z < 0.0, -1.0, 1.0)
    a = -1.0 / (sign + z)
    b = x * y * a
    first = torch.stack([1.0 + sign * x * x * a, sign * b, -sign * x], -1)
    return first, torch.stack([b, sign + y * y * a, -y], -1)


def _alpha(opacity: Tensor, q: Tensor, factor: Tensor, is_antialiased: bool, counts: Tensor) -> Tensor:
    if is_antialiased:
        opacity = opacity * factor.clamp_min(_MIN_FACTOR).sqrt()
    alpha = (opacity * torch.exp(-0.5 * q)).clamp_max(_ALPHA_MAX)
    return torch.where(counts & (alpha >= ALPHA_MIN), alpha, 0.0)


def splat_hits(tree: SplatTree, origins: Tensor, directions: Tensor) -> SplatHits:
    """Return the response of every splat along rays."""
    rows = tree.rows().to(origins.dtype)
    covariance = _covariance_matrices(rows)
    relative = rows[None, :, :3] - origins[:, None]
    axes = torch.stack([*_across(directions), directions], 1)
    along = torch.einsum("raj,rnj->rna", axes, relative)
    du, dv, tau = along.unbind(-1)
    local = torch.einsum("raj,njk,rbk->rnab", axes, covariance, axes)
    wide = tree.dilation * tau * tau
    uv, c = local[..., 0, 1], local[..., 2, 2]
    bu, bv = local[..., 0, 2], local[..., 1, 2]
    uu, vv = local[..., 0, 0] + wide, local[..., 1, 1] + wide
    det = (uu * vv - uv * uv).maximum(uu * vv * 1e-7 + 1e-30)
    su, sv = (vv * du - uv * dv) / det, (uu * dv - uv * du) / det
    q = (du * su + dv * sv).clamp_min(0.0)
    factor = (local[..., 0, 0] * local[..., 1, 1] - uv * uv) / det
    alpha = _alpha(rows[:, 9], q, factor, tree.antialiased, (q <= rows[:, 10]) & (tau > tree.near))
    spread = (vv * bu * bu - 2.0 * uv * bu * bv + uu * bv * bv) / det
    return SplatHits(alpha, tau - (bu * su + bv * sv), (c - spread).clamp_min(0.0))


def splat_colours(tree: SplatTree, towards: Tensor) -> Tensor:
    """Return the colours (R, N, 3) of splats seen along vectors (R, N, 3) of any length."""
    rotation = torch.tensor(tree.sh_rotation, dtype=towards.dtype).view(3, 3)
    unit = towards / towards.norm(dim=-1, keepdim=True).clamp_min(1e-15)
    x, y, z = (unit @ rotation.T).unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    basis = [
        torch.full_like(x, 0.28209479177387814),
        -0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x,
        1.0925484305920792 * x * y, -1.0925484305920792 * y * z,
        0.31539156525252005 * (2.0 * zz - xx - yy), -1.0925484305920792 * x * z, 0.5462742152960396 * (xx - yy),
        -0.5900435899266435 * y * (3.0 * xx - yy), 2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4.0 * zz - xx - yy), 0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy),
        -0.4570457994644658 * x * (4.0 * zz - xx - yy), 1.445305721320277 * z * (xx - yy),
        -0.5900435899266435 * x * (xx - 3.0 * yy),
    ]  # fmt: skip
    used = torch.stack(basis[: tree.sh.shape[1]], -1)
    return (0.5 + torch.einsum("rnk,nkc->rnc", used, tree.sh.to(towards.dtype))).clamp_min(0.0)


def _composite(alpha: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights (R, N) of splats in the order of a key, equal ones by number, and the light left (R,)."""
    order = torch.sort(key.expand_as(alpha), dim=-1, stable=True).indices
    sorted_alpha = alpha.gather(-1, order)
    after = torch.cumprod(1.0 - sorted_alpha, -1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], -1)
    counts = after >= _STOP
    weights = torch.where(counts, before * sorted_alpha, 0.0)
    light = torch.where(counts, after, 1.0).amin(-1)
    return torch.zeros_like(alpha).scatter(-1, order, weights), light


def splat_rays(
    tree: SplatTree,
    origins: Tensor,
    directions: Tensor,
    spacing: Spacing,
    samples: int,
    min_half: float,
    mix: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return interval ends (R, S + 1), weights (R, S) and colours (R, 3); see ``smerf.kernels.splats``."""
    chunk = max(1, _PAIRS // (64 * len(tree.leaves)))
    parts = []
    for start in range(0, max(len(origins), 1), chunk):
        o, d = origins[start : start + chunk], directions[start : start + chunk]
        hits = splat_hits(tree, o, d)
        towards = tree.rows()[None, :, :3].to(o.dtype) - o[:, None]
        weights, _ = _composite(hits.alpha, towards.square().sum(-1))
        colours = torch.einsum("rn,rnc->rc", weights, splat_colours(tree, towards))
        parts.append((*_intervals(hits, weights, spacing, samples, min_half, mix), colours))
    edges, weights, colours = (torch.cat(each) for each in zip(*parts))
    return edges, weights, colours


def _intervals(
    hits: SplatHits, weights: Tensor, spacing: Spacing, samples: int, min_half: float, mix: float
) -> tuple[Tensor, Tensor]:
    """Return intervals at equal probability of the hits, and the hits' weight in each."""
    used = (weights > 0.0).any(0)
    weights, t, half = weights[:, used], hits.t[:, used], 1.7320508 * hits.variance[:, used].sqrt()
    far = min(spacing.far, 1e4)
    low, high = (
        spacing.s_from_t((t + side).clamp(spacing.near, far)).clamp(0.0, 1.0) for side in (-half, half)
    )
    middle = (0.5 * (low + high)).clamp(min_half, 1.0 - min_half)
    is_thin = high - low < 2.0 * min_half
    low, high = torch.where(is_thin, middle - min_half, low), torch.where(is_thin, middle + min_half, high)

    def cumulative(s: Tensor) -> Tensor:
        """Return the weight (R, E) of the boxes in front of s (R, E) or (E,)."""
        inside = (s[..., None, :] - low[..., None]) / (high - low)[..., None]
        return (weights[..., None] * inside.clamp(0.0, 1.0)).sum(-2)

    ends = torch.arange(_BINS + 1, dtype=low.dtype) / _BINS
    total = weights.sum(-1, keepdim=True)
    function = torch.where(
        total > 0.0, (1.0 - mix) * cumulative(ends) / total.clamp_min(1e-30) + mix * ends, ends
    )
    wanted = (torch.arange(1, samples, dtype=low.dtype) / samples).expand(len(low), -1).contiguous()
    after = torch.searchsorted(function.contiguous(), wanted).clamp(1, _BINS)
    left, right = function.gather(-1, after - 1), function.gather(-1, after)
    inner = (after - 1 + ((wanted - left) / (right - left).clamp_min(1e-12)).clamp(0.0, 1.0)) / _BINS
    s = torch.cat([torch.zeros_like(total), inner, torch.ones_like(total)], -1)
    return spacing.t_from_s(s), cumulative(s).diff(dim=-1).clamp_min(0.0)


def splat_image(tree: SplatTree, camera: SplatCamera) -> Tensor:
    """Return an image by projection (H, W, 4); see ``smerf.kernels.splats``."""
    rows = tree.rows()
    rotation, eye = torch.tensor(camera.rotation).view(3, 3).to(rows), torch.tensor(camera.eye).to(rows)
    towards = rows[:, :3] - eye
    x, y, z = (towards @ rotation.T).unbind(-1)
    size, focal, middle = (camera.width, camera.height), (camera.fx, camera.fy), (camera.cx, camera.cy)
    lines = []
    for axis, value in enumerate((x, y)):
        low = (-middle[axis] - 0.15 * size[axis]) / focal[axis]
        high = (1.15 * size[axis] - middle[axis]) / focal[axis]
        slope = (value / z).clamp(low, high)
        lines.append(focal[axis] / z[:, None] * (rotation[axis] - slope[:, None] * rotation[2]))
    jacobian = torch.stack(lines, 1)
    plain = torch.einsum("nai,nij,nbj->nab", jacobian, _covariance_matrices(rows), jacobian)
    xx, xy, yy = plain[:, 0, 0] + camera.dilation, plain[:, 0, 1], plain[:, 1, 1] + camera.dilation
    det = (xx * yy - xy * xy).maximum(xx * yy * 1e-7 + 1e-30)
    factor = (plain[:, 0, 0] * plain[:, 1, 1] - xy * xy) / det
    key = (z if camera.by_depth else towards.square().sum(-1))[None]
    colours = splat_colours(tree, towards[None])[0]
    columns, lines_ = torch.meshgrid(torch.arange(camera.width), torch.arange(camera.height), indexing="xy")
    pixels = torch.stack([columns, lines_], -1).view(-1, 2).to(rows) + 0.5
    parts = []
    for part in pixels.split(max(1, _PAIRS // len(rows))):
        dx = part[:, :1] - (focal[0] * x / z + middle[0])
        dy = part[:, 1:] - (focal[1] * y / z + middle[1])
        q = (yy * dx * dx - 2.0 * xy * dx * dy + xx * dy * dy) / det
        counts = (q >= 0.0) & (q <= rows[:, 10]) & (z > tree.near)
        weights, light = _composite(_alpha(rows[:, 9], q, factor, tree.antialiased, counts), key)
        parts.append(torch.cat([weights @ colours, light[:, None]], -1))
    return torch.cat(parts).view(camera.height, camera.width, 4)
