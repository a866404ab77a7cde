"""Rays through pixels, and points back into pixels.

World space is whatever space the camera is posed in; camera axes are OpenGL (x right, y up, z backward). N
counts rays or points. Source: Zip-NeRF (arXiv 2304.06706), ``camera_utils.pixels_to_rays`` of its published
code.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.distortion import camera_from_image, image_from_camera
from smerf.capture.types import Camera

__all__ = ["pixel_directions", "pixel_rays", "project"]

_GL_FROM_CV = np.array([1.0, -1.0, -1.0])
# A disc of radius 2/sqrt(12) / 2 has the variance of a box one pixel wide along each axis, 1/12.
_RADIUS_OF_PIXEL = 2.0 / np.sqrt(12.0)


def pixel_rays(camera: Camera, pixels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rays through pixel centres.

    Args:
        camera: The camera.
        pixels: Integer (column, row) indices, shape (N, 2); the ray of (i, j) passes through the image point
            (i + 0.5, j + 0.5). ``None`` means every pixel, row by row.

    Returns:
        Origins (N, 3), directions (N, 3) and cone radii per unit t (N, 1), all float32, in the camera's world
        space. Directions are not normalised: their camera-space z is -1, so that t is the distance along the
        optical axis. Fisheye directions have unit length, so that t is the distance from the camera.

    Raises:
        ValueError: If ``pixels`` is not an integer array of shape (N, 2).
    """
    width, height = camera.intrinsics.width, camera.intrinsics.height
    if pixels is None:
        # One row and one column more than the image gives every pixel its right and lower neighbour.
        columns, rows = np.meshgrid(np.arange(width + 1) + 0.5, np.arange(height + 1) + 0.5)
        grid = _gl_directions(camera, np.stack([columns, rows], axis=-1).reshape(-1, 2))
        grid = grid.reshape(height + 1, width + 1, 3)
        centre = grid[:-1, :-1].reshape(-1, 3)
        right, down = grid[:-1, 1:].reshape(-1, 3), grid[1:, :-1].reshape(-1, 3)
    else:
        pixels = np.asarray(pixels)
        if pixels.ndim != 2 or pixels.shape[1] != 2 or not np.issubdtype(pixels.dtype, np.integer):
            raise ValueError(f"pixels: expected integers of shape (N, 2), got {pixels.dtype} {pixels.shape}")
        points = pixels + 0.5
        stacked = _gl_directions(camera, np.concatenate([points, points + (1, 0), points + (0, 1)]))
        centre, right, down = stacked.reshape(3, -1, 3)

    spread = np.linalg.norm(right - centre, axis=1) + np.linalg.norm(down - centre, axis=1)
    radii = (0.5 * _RADIUS_OF_PIXEL) * spread[:, None]
    directions = centre @ camera.world_from_cam[:3, :3].T
    origins = np.broadcast_to(camera.world_from_cam[:3, 3], directions.shape)
    return origins.astype(np.float32), directions.astype(np.float32), radii.astype(np.float32)


def pixel_directions(camera: Camera) -> np.ndarray:
    """Return the directions of ``pixel_rays`` for every pixel (H * W, 3), float32; alone they are much faster."""
    intrinsics = camera.intrinsics
    columns, rows = np.arange(intrinsics.width) + 0.5, np.arange(intrinsics.height) + 0.5
    if intrinsics.model != "OPENCV_FISHEYE" and not any(intrinsics.distortion):
        right, up, back = camera.world_from_cam[:3, :3].astype(np.float64).T
        lines = ((intrinsics.cy - rows) / intrinsics.fy)[:, None] * up - back
        directions = lines[:, None] + ((columns - intrinsics.cx) / intrinsics.fx)[:, None] * right
    else:
        points = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
        directions = _gl_directions(camera, points) @ camera.world_from_cam[:3, :3].T
    return directions.reshape(-1, 3).astype(np.float32)


def project(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project world points into the image: the inverse of ``pixel_rays``.

    Args:
        camera: The camera.
        points: Shape (N, 3), in the camera's world space.

    Returns:
        Image points (N, 2) in pixels with (0, 0) at the outer corner of the first pixel, and depths (N,),
        both float64. Depth is the t of ``pixel_rays``: along the optical axis (negative behind the camera),
        for fisheye cameras the distance. Image points are NaN where the camera cannot see the point.
    """
    rotation, centre = camera.world_from_cam[:3, :3], camera.world_from_cam[:3, 3]
    local = ((np.asarray(points, np.float64).reshape(-1, 3) - centre) @ rotation) * _GL_FROM_CV
    image_points = image_from_camera(camera.intrinsics, local)
    if camera.intrinsics.model == "OPENCV_FISHEYE":
        return image_points, np.linalg.norm(local, axis=1)
    return image_points, local[:, 2]


def _gl_directions(camera: Camera, image_points: np.ndarray) -> np.ndarray:
    return camera_from_image(camera.intrinsics, image_points) * _GL_FROM_CV
