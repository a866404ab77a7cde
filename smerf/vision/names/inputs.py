"""What the network sees of a photo: colour, and what depth says of shape and size.

Channels: 0..2 colour, 3..5 the surface normal (up, right, towards the camera), 6 the logarithm of a pixel's width
against that of the photo's median, and, where the unit of length is known: 7 the median width in metres, 8 the height
over the lowest ground, 9 whether they are known. H W are multiples of ``PATCH``.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.rays import pixel_rays
from smerf.capture.types import Camera

__all__ = ["CHANNELS", "PATCH", "look", "mirrored"]

PATCH = 8
CHANNELS = 10
_WIDTH = 0.01
"""Metres that a pixel's width is compared with."""


def look(
    rgb: np.ndarray,
    depth: np.ndarray,
    camera: Camera,
    ground: float = 0.0,
    metre: float | None = 1.0,
    middle: float | None = None,
) -> np.ndarray:
    """Return the channels (C, H, W) float32 of a photo.

    Args:
        rgb: uint8 (H, W, 3).
        depth: (H, W) as ``lift`` takes it, 0 unknown.
        camera: Of that size, z up.
        ground: Height of the lowest thing seen.
        metre: How many units of length are a metre, if that is known.
        middle: Median depth of the whole photo, where this is a part of it.
    """
    height, width = depth.shape
    origins, directions, _ = pixel_rays(camera)
    points = (origins + directions * depth.reshape(-1, 1)).reshape(height, width, 3)
    known = depth > 0
    out = np.zeros((CHANNELS, height, width), np.float32)
    out[:3] = rgb.transpose(2, 0, 1) / 127.5 - 1.0
    normals = _normals(points, directions.reshape(height, width, 3))
    right, back = camera.world_from_cam[:, 0], camera.world_from_cam[:, 2]
    out[3:6] = np.stack([normals[..., 2], normals @ right, normals @ back]) * known
    if not known.any():
        return out
    pixel = np.log(np.where(known, depth, 1.0) / camera.intrinsics.fx)
    median = float(np.log((middle or np.median(depth[known])) / camera.intrinsics.fx))
    out[6] = np.clip(pixel - median, -2.0, 2.0) * known
    if metre is not None:
        out[7] = np.clip((median - np.log(metre * _WIDTH)) / 2.0, -2.0, 2.0)
        out[8] = np.clip((points[..., 2] - ground) / metre, -1.0, 4.0) / 2.0 * known
        out[9] = 1.0
    return out


def mirrored(channels: np.ndarray) -> np.ndarray:
    """Return the channels of the photo with left and right exchanged."""
    turned = channels[..., ::-1].copy()
    turned[4] *= -1.0
    return turned


def _normals(points: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Return unit normals (H, W, 3) that face the camera, from the differences of neighbouring points."""
    across, down = np.gradient(points, axis=1), np.gradient(points, axis=0)
    normals = np.cross(across, down)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    away = (normals * directions).sum(-1, keepdims=True) > 0
    return np.where(away, -normals, normals)
