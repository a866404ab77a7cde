"""Points of conical frustums and their multisampled encoding in plain PyTorch: the specification of the native kernel.

Zip-NeRF (arXiv 2304.06706, section 3.1); see ``cuda/include/smerf/multisample.h``. Letters: R rays, S samples, J points
of an interval, L levels, F features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from smerf.kernels.reference.contraction import contract, contraction_scale
from smerf.kernels.reference.hash_encoding import hash_encode, level_fade
from smerf.kernels.types import Frustums, HashSpec

__all__ = ["contract_ball", "frustum_points", "multisample_encode", "scale_features"]

_UINT32 = 0xFFFFFFFF
_SIXTHS = (0, 2, 4, 3, 5, 1)


def contract_ball(x: Tensor) -> Tensor:
    """Map points (..., 3) into the ball of radius 2: identity in the unit ball (mip-NeRF 360, arXiv 2111.12077)."""
    norm = x.square().sum(-1, keepdim=True).clamp_min(1.0).sqrt()
    return x * (2.0 - 1.0 / norm) / norm


def _ball_scale(x: Tensor) -> Tensor:
    """Return the cube root of the Jacobian determinant of ``contract_ball`` at points (..., 3): (...,)."""
    norm = x.square().sum(-1).clamp_min(1.0).sqrt()
    return (2.0 * norm - 1.0) ** (2.0 / 3.0) / norm**2


def _mix_bits(x: Tensor) -> Tensor:
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _UINT32
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _UINT32
    return x ^ (x >> 16)


def _patterns(frustums: Frustums, rays: int, samples: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each interval's turn in radians, whether it is mirrored, and its half of the six points: (R, S)."""
    sample = torch.arange(samples, device=like.device).expand(rays, -1)
    if frustums.seed is None:
        odd = sample & 1
        return odd * like.new_tensor(math.pi / 6), odd.bool(), sample >> 1 & 1
    ray = (torch.arange(rays, device=like.device) + frustums.first_ray) & _UINT32
    seed = _mix_bits(torch.tensor(frustums.seed & _UINT32, device=like.device))
    bits = _mix_bits(_mix_bits(seed ^ ray)[:, None] ^ sample)
    turn = (bits >> 8).to(like.dtype) * (2.0 * math.pi / (1 << 24))
    return turn, (bits & 1).bool(), bits >> 1 & 1


def _across(directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return two axes across directions (R, 3) of any length."""
    normalise = torch.nn.functional.normalize
    d = normalise(directions, dim=-1)
    up = torch.where(
        (d[:, :2].square().sum(-1, keepdim=True) < 1e-6), d.new_ones(3), d.new_tensor([0.0, 0.0, 1.0])
    )
    u = normalise(torch.linalg.cross(d, up), dim=-1)
    return u, torch.linalg.cross(d, u)


def frustum_points(
    origins: Tensor, directions: Tensor, edges: Tensor, radii: Tensor, frustums: Frustums
) -> tuple[Tensor, Tensor]:
    """Return points (R * S, J, 3) in [0, 1]^3 and their footprints (R * S, J), differentiable in the rays."""
    rays, samples, points = edges.shape[0], edges.shape[1] - 1, frustums.points
    t0, t1 = edges[:, :-1, None], edges[:, 1:, None]
    m, h = 0.5 * (t0 + t1), 0.5 * (t1 - t0)
    if points == 1:
        t, rho, side = m, radii[:, None, None] * m, edges.new_zeros(1)
    else:
        turn, mirror, half = _patterns(frustums, rays, samples, edges)
        j = torch.arange(6, device=edges.device).expand(rays, samples, 6)
        if points == 3:
            j = 2 * j[..., :3] + half[..., None]
        mm, hh = m**2, h**2
        root = torch.sqrt((hh - mm) ** 2 + 4.0 * mm**2)
        step = 3.0 / math.sqrt(7.0) * (0.4 * j - 1.0) * root
        t = t0 + h / (hh + 3.0 * mm).clamp_min(1e-30) * (t1**2 + 2.0 * mm + step)
        rho = radii[:, None, None] * t / math.sqrt(2.0)
        sixths = torch.tensor(_SIXTHS, device=edges.device)[torch.where(mirror[..., None], 5 - j, j)]
        angle = math.pi / 3 * sixths.to(edges.dtype) + turn[..., None]
        u, v = _across(directions)
        side = rho[..., None] * (
            angle.cos()[..., None] * u[:, None, None] + angle.sin()[..., None] * v[:, None, None]
        )
    p = frustums.scale * (origins[:, None, None] + t[..., None] * directions[:, None, None] + side)
    is_ball = frustums.contraction == "ball"
    sigma = 0.125 * frustums.scale * rho * (_ball_scale(p) if is_ball else contraction_scale(p)).detach()
    x = ((contract_ball(p) if is_ball else contract(p)) + 2.0) / 4.0
    return x.reshape(-1, points, 3), sigma.reshape(-1, points)


def scale_features(sigma: Tensor, spec: HashSpec, level_scales: Tensor) -> Tensor:
    """Return mean_j (2 fade - 1) * level_scale for footprints (N, J): (N, L), without gradient."""
    fades = [level_fade(sigma.detach(), resolution).mean(-1) for resolution in spec.resolutions()]
    return (2.0 * torch.stack(fades, -1) - 1.0) * level_scales.detach()


def multisample_encode(
    x: Tensor,
    sigma: Tensor,
    table: Tensor,
    spec: HashSpec,
    level_scales: Tensor | None,
    encode: Callable[..., Tensor] = hash_encode,
) -> Tensor:
    """Return the mean features of points (N, J, 3) with footprints (N, J): (N, L * F [+ L])."""
    count, points = sigma.shape
    features = (
        encode(x.reshape(-1, 3), table, spec, sigma.reshape(-1)).view(count, points, spec.width).mean(1)
    )
    if level_scales is None:
        return features
    return torch.cat([features, scale_features(sigma, spec, level_scales)], -1)
