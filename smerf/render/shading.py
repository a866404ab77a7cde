"""The colour of a pixel from what its ray has blended: the appearance network, once a pixel (SMERF, section 4)."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from smerf.scene.types import SceneParams

__all__ = ["shade"]


def shade(
    params: SceneParams,
    network: dict[str, np.ndarray],
    channels: Tensor,
    visibility: Tensor,
    view_directions: Tensor,
    background: tuple[float, float, float],
    exposure: float | None = None,
) -> Tensor:
    """Turn blended channels into colours with the appearance network, once per pixel.

    Args:
        params: The scene's parameters.
        network: Six arrays without lattice axes, from ``lattice_mlp_at``.
        channels: (R, 14) or (R, 7), from ``march``.
        visibility: (R,).
        view_directions: (R, 3), training axes, any length, from the camera outward.
        background: RGB; in snerg mode it acts through the network only.
        exposure: Shutter seconds x ISO / 1000, or ``None``.

    Returns:
        Colours (R, 3), not clamped.
    """
    backdrop = visibility[:, None] * channels.new_tensor(background)
    rgb = channels[:, :3]
    is_vfr = params.deferred_rendering_mode == "vfr"
    inputs = torch.cat([rgb if is_vfr else rgb + backdrop, channels[:, 3:]], -1)
    if exposure:
        inputs = torch.logit(inputs.clamp(1e-7, 1.0 - 1e-7)) + math.log(exposure)
    d = view_directions / view_directions.norm(dim=-1, keepdim=True)
    waves = torch.cat([d * 2.0**i for i in range(4)], -1)
    x = torch.cat([inputs, d, waves.sin(), waves.cos()], -1)
    for i in range(3):
        kernel = torch.from_numpy(network[f"ResampleDense_{i}/kernel"])
        x = x @ kernel + torch.from_numpy(network[f"ResampleDense_{i}/bias"])
        if i < 2:
            x = torch.relu(x) if params.activation == "relu" else torch.nn.functional.elu(x)
    return torch.sigmoid(x) + (backdrop if is_vfr else rgb)
