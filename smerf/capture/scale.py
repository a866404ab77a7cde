"""How much of training space deserves full resolution."""

from __future__ import annotations

import numpy as np

from smerf.capture.types import Capture

__all__ = ["content_scale"]

_ORBIT_SCALE = 2.5
_WALK_SCALE = 1.0
_OBJECT_SCALE = 2.5
_INWARD = 0.6


def content_scale(capture: Capture) -> float:
    """Return the factor from training units to the contraction's unit cube, inside which nothing is compressed.

    An object on its own (photos with alpha) lies between the near and the far bound of the rays and nothing is around
    it: it may reach into the contracted shell, where half of the resolution would otherwise lie idle.
    Cameras that look inwards circle their subject, which fills the middle of the cube of cameras: 2.5 as SMERF uses for
    such captures (arXiv 2312.07541). Cameras that walk through their scene need all of that cube: 1.
    """
    if capture.bounded and capture.background is not None:
        return _OBJECT_SCALE / (0.5 * (capture.far - capture.near))
    poses = np.stack([frame.camera.world_from_cam for frame in capture.frames])
    inward = -poses[:, :, 3] / np.maximum(np.linalg.norm(poses[:, :, 3], axis=-1, keepdims=True), 1e-9)
    view = -poses[:, :, 2]
    return _ORBIT_SCALE if float((inward * view).sum(-1).mean()) > _INWARD else _WALK_SCALE
