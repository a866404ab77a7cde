"""Rays of pinhole cameras and their encoding.

A camera is a centre (3,) and a rotation (3, 3) whose rows are its axes x right, y down, z forward in world
coordinates, with a horizontal field of view. Rays leave the centre.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smerf.objects.config import RayCode

__all__ = [
    "encode_rays",
    "frequency_code",
    "look_at",
    "pixel_directions",
    "slab_points",
    "to_reference_frame",
    "view_rays",
]

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
    between the planes depends on it smoothly, which a small model learns much sooner than origin and direction.
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


def look_at(centre: Tensor, target: Tensor | None = None) -> Tensor:
    """Return the rotation (..., 3, 3) of a level camera at ``centre`` (..., 3) that looks at ``target``.

    World up is z; ``target`` is the origin if not given.

    Raises:
        ValueError: If a camera looks straight up or down.
    """
    forward = torch.nn.functional.normalize((0.0 if target is None else target) - centre, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0], dtype=centre.dtype, device=centre.device).expand_as(forward)
    right = torch.linalg.cross(forward, up)
    if bool((right.norm(dim=-1) < 1e-6).any()):
        raise ValueError("centre: a level camera cannot look straight up or down")
    right = torch.nn.functional.normalize(right, dim=-1)
    return torch.stack([right, torch.linalg.cross(forward, right), forward], -2)


def pixel_directions(
    rotation: Tensor, fov_x: Tensor, column: Tensor, row: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return unit directions through pixel centres.

    Args:
        rotation: Camera rotations (..., 3, 3).
        fov_x: Horizontal fields of view in radians (...).
        column: Pixel columns (...), from 0 at the left.
        row: Pixel rows (...), from 0 at the top.
        size: Height and width of the image.

    Returns:
        Shape (..., 3). Pixels are square.
    """
    height, width = size
    tangent = torch.tan(0.5 * fov_x)
    u = ((column + 0.5) * (2.0 / width) - 1.0) * tangent
    v = ((row + 0.5) * (2.0 / height) - 1.0) * tangent * (height / width)
    right, down, forward = rotation.unbind(-2)
    return torch.nn.functional.normalize(forward + u[..., None] * right + v[..., None] * down, dim=-1)


def view_rays(
    centre: Tensor, rotation: Tensor, fov_x: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return origins and directions (..., H, W, 3) of all pixels of cameras (...)."""
    rows, columns = torch.meshgrid(
        torch.arange(size[0], device=centre.device),
        torch.arange(size[1], device=centre.device),
        indexing="ij",
    )
    directions = pixel_directions(
        rotation[..., None, None, :, :], fov_x[..., None, None], columns.to(centre), rows.to(centre), size
    )
    return centre[..., None, None, :].expand_as(directions), directions


def to_reference_frame(centre: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor]:
    """Express cameras (B, V, 3) and (B, V, 3, 3) in the frame of each scene's first camera."""
    first = rotation[:, :1]
    moved = (first @ (centre - centre[:, :1])[..., None])[..., 0]
    return moved, rotation @ first.mT
