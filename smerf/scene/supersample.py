"""Pictures drawn smaller than trained: several rays a pixel, so that they do not alias.

A scene is as fine as the photos that it was made from. A picture whose pixels are wider than theirs by a ratio r is
drawn with round(r) rays along each edge of a pixel, at most four; their display-referred colours are averaged, as
photos are when they are scaled down (``smerf.capture.images.reduce_by_average``). ``viewer/web/quality.js`` has the
same rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from smerf.capture.downscale import scale_intrinsics
from smerf.capture.types import Camera, Intrinsics

__all__ = ["draw_supersampled", "pixel_angle", "rays_in_window", "rays_per_axis", "trained_pixel_angle"]

MAX_RAYS = 4
"""Rays along an edge of a pixel, at most."""
_WINDOW_RAYS, _WINDOW_EDGE = 3840 * 2160, 8192
"""Rays of a picture that is held in graphics memory whole, those of a 4K screen, and along an edge of it."""
_BAND_RAYS = 1 << 20


def pixel_angle(intrinsics: Intrinsics) -> float:
    """Return the angle in radians of a pixel at the optical axis: 1 / focal length in pixels."""
    return 1.0 / math.sqrt(intrinsics.fx * intrinsics.fy)


def trained_pixel_angle(cameras: Sequence[Camera]) -> float | None:
    """Return the median ``pixel_angle`` of photos at the size trained on; ``None`` without any."""
    return float(np.median([pixel_angle(camera.intrinsics) for camera in cameras])) if cameras else None


def rays_per_axis(drawn: float, trained: float | None) -> int:
    """Return how many rays a pixel takes along each edge, 1 to ``MAX_RAYS``.

    Args:
        drawn: ``pixel_angle`` of the picture.
        trained: That of the photos; ``None`` where the scene does not name it, which is one ray.
    """
    return 1 if trained is None else min(MAX_RAYS, max(1, math.floor(drawn / trained + 0.5)))


def rays_in_window(drawn: float, trained: float | None, width: int, height: int) -> int:
    """Return ``rays_per_axis`` of a window of ``width`` x ``height`` pixels, fewer where memory asks for it."""
    most = min(math.isqrt(_WINDOW_RAYS // (width * height)), _WINDOW_EDGE // max(width, height))
    return max(1, min(most, rays_per_axis(drawn, trained)))


def draw_supersampled(
    camera: Camera, trained: float | None, draw: Callable[[Camera], np.ndarray]
) -> np.ndarray:
    """Draw a camera with as many rays a pixel as it takes.

    Args:
        camera: The camera, at the size of the picture.
        trained: ``pixel_angle`` of the photos, as in ``rays_per_axis``.
        draw: Draws a camera with one ray a pixel: (H, W, 3), display-referred.

    Returns:
        What ``draw`` returns where one ray is enough, else the mean of its colours, float32 (H, W, 3). Bands of rows
        bound the memory.
    """
    lens = camera.intrinsics
    n = rays_per_axis(pixel_angle(lens), trained)
    if n == 1:
        return draw(camera)
    rows = max(1, _BAND_RAYS // (lens.width * n * n))
    bands = []
    for low in range(0, lens.height, rows):
        high = min(lens.height, low + rows)
        picture = draw(_band(camera, n, low, high)).reshape(high - low, n, lens.width, n, -1)
        bands.append(picture.mean((1, 3), dtype=np.float32))
    return np.concatenate(bands)


def _band(camera: Camera, n: int, low: int, high: int) -> Camera:
    """Return the camera of rows [low, high) of a picture, ``n`` times as wide and high."""
    lens = camera.intrinsics
    part = Intrinsics(
        lens.model, lens.width, high - low, lens.fx, lens.fy, lens.cx, lens.cy - low, lens.distortion
    )
    return Camera(scale_intrinsics(part, n * part.width, n * part.height, (n, n)), camera.world_from_cam)
