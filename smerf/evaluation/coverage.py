"""Where the photos look: how far a view is from them, and how many of them support what it shows.

Cameras are those of a capture, in training space. Letters: V views, P points, N photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from smerf.capture.downscale import scale_intrinsics
from smerf.capture.rays import project
from smerf.capture.types import Camera, Intrinsics

__all__ = ["count_supporting", "free_views", "nearest_views", "pose_distances", "reduce_camera"]


def nearest_views(views: Sequence[Camera], photos: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Return the angle to the nearest photo (V,) in degrees and the distance to the nearest centre (V,).

    The angle is that between optical axes; the two minima may belong to two photos.
    """
    angles, distances = pose_distances(views, photos)
    return angles.min(axis=1), distances.min(axis=1)


def pose_distances(views: Sequence[Camera], photos: Sequence[Camera]) -> tuple[np.ndarray, np.ndarray]:
    """Return the angles (V, N) in degrees between optical axes and the distances (V, N) between centres."""
    first, second = (np.stack([camera.world_from_cam for camera in group]) for group in (views, photos))
    cosine = np.clip(first[:, :, 2] @ second[:, :, 2].T, -1.0, 1.0)
    distance = np.linalg.norm(first[:, None, :, 3] - second[None, :, :, 3], axis=-1)
    return np.degrees(np.arccos(cosine)), distance


def count_supporting(points: np.ndarray, photos: Sequence[Camera]) -> np.ndarray:
    """Return in how many photos each point (P, 3) lies within the frame, (P,) int; what occludes it is ignored."""
    count = np.zeros(len(points), int)
    for camera in photos:
        places, depth = project(camera, points)
        size = (camera.intrinsics.width, camera.intrinsics.height)
        with np.errstate(invalid="ignore"):
            count += (depth > 0.0) & ((places >= 0.0) & (places <= size)).all(axis=1)
    return count


def reduce_camera(camera: Camera, longest: int) -> Camera:
    """Return a camera with at most ``longest`` pixels along its longer side and the same field of view."""
    intrinsics = camera.intrinsics
    scale = min(1.0, longest / max(intrinsics.width, intrinsics.height))
    width, height = (max(1, round(side * scale)) for side in (intrinsics.width, intrinsics.height))
    exact = (width / intrinsics.width, height / intrinsics.height)
    return replace(camera, intrinsics=scale_intrinsics(intrinsics, width, height, exact))


def free_views(start: np.ndarray, step: float, intrinsics: Intrinsics) -> dict[str, Camera]:
    """Return eight cameras that no photo stands for: the start (3, 4) rotated, and moved by ``step``."""
    right, up, back = np.eye(3)
    turns = {
        "left": (up, 90),
        "right": (up, -90),
        "behind": (up, 180),
        "up": (right, 45),
        "down": (right, -45),
    }
    steps = {"a step to the left": -right, "a step to the right": right, "a step back": back}
    rotation = start[:, :3]
    poses = {
        name: np.column_stack([rotation @ _rotation(axis, degrees), start[:, 3]])
        for name, (axis, degrees) in turns.items()
    }
    poses |= {
        name: np.column_stack([rotation, start[:, 3] + step * (rotation @ direction)])
        for name, direction in steps.items()
    }
    return {name: Camera(intrinsics, pose) for name, pose in poses.items()}


def _rotation(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Return the rotation about a unit axis by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    angle = np.radians(degrees)
    rotation: np.ndarray = np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross)
    return rotation
