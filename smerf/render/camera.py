"""From cameras to the rays of a baked scene, in training axes and in a submodel's frame."""

from __future__ import annotations

import numpy as np

from smerf.capture.rays import pixel_directions
from smerf.capture.types import Camera
from smerf.scene.types import VIEWER_FROM_TRAINING, SceneParams

__all__ = ["near_rays", "to_submodel"]


def near_rays(camera: Camera, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the camera centre (1, 3) and one direction per pixel (H * W, 3), float32, training axes.

    The directions are those of ``capture.rays.pixel_rays`` times ``near``: t = 1 is the near plane (of a fisheye
    camera, the sphere of that radius).
    """
    centre = np.asarray(camera.world_from_cam, np.float32)[None, :3, 3]
    return centre, pixel_directions(camera) * np.float32(near)


def to_submodel(
    params: SceneParams, k: int, origins: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Take rays (..., 3) from training axes to submodel k's frame on viewer axes, float32; t keeps its meaning."""
    scale = params.submodel_scale
    moved = (np.asarray(origins, np.float64) - params.submodel_centre(k)) @ VIEWER_FROM_TRAINING.T * scale
    # The rotation only permutes and negates: three copies beat a matrix product on a whole frame.
    rotated = np.empty(directions.shape, np.float32)
    rotated[..., 0] = directions[..., 0] * -scale
    rotated[..., 1] = directions[..., 2] * scale
    rotated[..., 2] = directions[..., 1] * scale
    return moved.astype(np.float32), rotated
