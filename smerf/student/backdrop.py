"""The wall behind photos without surroundings: a shell of voxels at the border of contracted space.

The asset format shows what lies behind a scene through the appearance network alone, whose sigmoid turns soft
silhouettes into steps. An opaque shell in the photos' background colour composites exactly, in every viewer.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from smerf.kernels import GridSpec
from smerf.kernels.grid_render import BLOCK

__all__ = ["backdrop_blocks", "backdrop_features"]

_VIEW_FEATURES = 3
_NEUTRAL = 128
"""The byte next above zero: the gate of the shell keeps the planes out."""


def _colour_bytes(colour: tuple[float, float, float], spec: GridSpec) -> np.ndarray:
    low, high = spec.feature_range
    share = np.clip(np.asarray(colour, np.float64), 1e-6, 1.0 - 1e-6)
    value = np.clip(np.log(share / (1.0 - share)), low, high)
    return np.round(255.0 * (value - low) / (high - low)).astype(np.uint8)


def backdrop_features(colour: tuple[float, float, float], spec: GridSpec) -> Tensor:
    """Return the composited features (14,) of a ray that meets nothing but the shell."""
    low, high = spec.feature_range
    raw = np.concatenate([_colour_bytes(colour, spec), np.zeros(_VIEW_FEATURES, np.uint8), [_NEUTRAL]])
    one = torch.sigmoid(torch.from_numpy(low + (high - low) * raw.astype(np.float32) / 255.0))
    return torch.cat([one, one])


def backdrop_blocks(colour: tuple[float, float, float], spec: GridSpec) -> tuple[np.ndarray, np.ndarray]:
    """Return the shell's macroblocks: coordinates (n, 3) and samples (n, 9, 9, 9, 8) uint8.

    All voxels of the outermost blocks have the shell's colour; those of the outermost layer are opaque.
    """
    last = spec.blocks - 1
    grid = np.moveaxis(np.indices((spec.blocks,) * 3), 0, -1).reshape(-1, 3)
    coords = grid[((grid == 0) | (grid == last)).any(-1)]
    voxels = coords[:, None] * BLOCK + np.arange(BLOCK + 1)[:, None]
    outer = (voxels == 0) | (voxels >= spec.voxel_resolution - 1)
    opaque = outer[:, :, None, None, 0] | outer[:, None, :, None, 1] | outer[:, None, None, :, 2]
    samples = np.zeros((*opaque.shape, 8), np.uint8)
    samples[..., 0] = np.where(opaque, 255, 0)
    samples[..., 1:4] = _colour_bytes(colour, spec)
    samples[..., 7] = _NEUTRAL
    return coords, samples
