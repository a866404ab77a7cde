"""The encoding of rays that encoder and decoders see."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smerf.objects.config import RayCode

__all__ = ["encode_rays", "frequency_code", "slab_points"]

_SLAB_REACH = 8.0


def frequency_code(x: Tensor, octaves: int, start: int) -> Tensor:
    """Encode coordinates as sines and cosines of ``2^k pi x``, k = start .. start + octaves - 1, in float32.

    Args:
        x: Coordinates (..., C).
        octaves: Number of frequencies.
        start: First octave.

    Returns:
        Shape (..., 2 * C * octaves): all sines (coordinate by coordinate, octaves within), then all cosines.
    """
    # Arguments reach 5e4 radians: half precision would leave nothing of the upper octaves.
    with torch.autocast(x.device.type, enabled=False):
        powers = torch.arange(start, start + octaves, device=x.device, dtype=torch.float32)
        scaled = (x.float()[..., None] * (math.pi * 2.0**powers)).flatten(-2)
        return torch.cat([scaled.sin(), scaled.cos()], -1)


def encode_rays(origins: Tensor, directions: Tensor, code: RayCode) -> Tensor:
    """Encode rays, both (..., 3), directions of unit length; shape (..., code.size), float32.

    Origins may have sides of length 1, where many directions leave one camera.
    """
    origin = frequency_code(origins, code.origin_octaves, code.origin_start)
    parts = [
        origin.expand(*directions.shape[:-1], -1),
        frequency_code(directions, code.direction_octaves, code.direction_start),
    ]
    if code.slab_octaves:
        slab = slab_points(origins, directions, code.slab_heights)
        parts.append(frequency_code(slab, code.slab_octaves, code.slab_start))
    return torch.cat(parts, -1)


def slab_points(origins: Tensor, directions: Tensor, heights: tuple[float, float]) -> Tensor:
    """Return x and y where rays (..., 3) meet two level planes, (..., 4), float32, within 8 units of the axis.

    The two-plane parametrisation of a light field (Levoy and Hanrahan 1996): whether a ray meets an object
    between the planes depends on it smoothly, so a small model learns it much sooner than from origin and direction.
    Rays that go up end far away in their direction.
    """
    with torch.autocast(origins.device.type, enabled=False):
        origins, directions = origins.float(), directions.float()
        points = []
        for height in heights:
            t = (height - origins[..., 2:]) / directions[..., 2:].clamp_max(-0.02)
            point = origins[..., :2] + t.clamp_min(0.0) * directions[..., :2]
            points.append(point / (point.norm(dim=-1, keepdim=True) / _SLAB_REACH).clamp_min(1.0))
        return torch.cat(points, -1)
