"""Noise on teacher rays, so that the student is right between the photos too (SMERF, section 6.2)."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.fields.rays import Rays

__all__ = ["jitter", "look_anywhere", "small_rotations"]


def small_rotations(count: int, share: float | Tensor, generator: torch.Generator) -> Tensor:
    """Draw rotations (count, 3, 3): a uniform random one's axis, and ``share``, one or (count,), of its angle in
    [0, pi].
    """
    quaternion = torch.randn(count, 4, generator=generator)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    w = quaternion[:, 0].abs().clamp_max(1.0)
    axis = quaternion[:, 1:] * torch.sign(quaternion[:, :1])
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    angle = 2.0 * torch.acos(w) * share
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    sin, cos = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    return torch.eye(3) + sin * cross + (1.0 - cos) * (cross @ cross)


def jitter(
    rays: Rays, origin_sigma: float, direction_share: float, generator: torch.Generator, group: int = 1
) -> Rays:
    """Move origins by Gaussian noise and turn directions by at most ``direction_share`` * pi.

    Rays in a row move together, ``group`` at a time.
    """
    count = len(rays) // group
    shift = origin_sigma * torch.randn(count, 3, generator=generator)
    origins = rays.origins + shift.repeat_interleave(group, 0)
    turns = small_rotations(count, direction_share, generator).repeat_interleave(group, 0)
    directions = torch.einsum("rij,rj->ri", turns, rays.directions)
    return Rays(origins, directions / directions.norm(dim=-1, keepdim=True), rays.radii)


def look_anywhere(rays: Rays, share: float, generator: torch.Generator, group: int = 1) -> Rays:
    """Turn the directions of a share of the rays by uniform random rotations, ``group`` in a row together."""
    count = len(rays) // group
    turned = (torch.rand(count, generator=generator) < share).float()
    turns = small_rotations(count, turned, generator).repeat_interleave(group, 0)
    return Rays(rays.origins, torch.einsum("rij,rj->ri", turns, rays.directions), rays.radii)
