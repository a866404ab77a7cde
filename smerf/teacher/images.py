"""Rendering a camera with any teacher."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from smerf.capture.types import Camera
from smerf.fields.ray_bank import camera_rays

__all__ = ["render_image"]


def render_image(teacher: Any, camera: Camera, chunk: int, device: torch.device | str = "cpu") -> np.ndarray:
    """Render a camera before the teacher's background: (H, W, 3) float32 in [0, 1], ``chunk`` rays at a time."""
    rays = camera_rays(camera)
    parts = []
    for start in range(0, len(rays), chunk):
        answer = teacher.query(rays[start : start + chunk].to(device))
        rest = (1.0 - answer.weights.sum(-1, keepdim=True)).clamp_min(0.0)
        parts.append((answer.colour + rest * teacher.background).cpu())
    image = torch.cat(parts).clamp(0.0, 1.0)
    return image.view(camera.intrinsics.height, camera.intrinsics.width, 3).numpy()
