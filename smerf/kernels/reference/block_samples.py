"""The samples of macroblocks in plain PyTorch: the specification of the native kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels.types import BLOCK, Grids

__all__ = ["block_samples"]

_ABSENT = (0, *7 * (128,))
"""An absent voxel: no density, every feature next to zero; as the simulation reads it."""

_CHUNK = 256


def block_samples(grids: Grids, coords: Tensor) -> Tensor:
    """Return the samples (N, 9, 9, 9, 8) uint8 of macroblocks (N, 3) int32."""
    parts = [_gather(grids, part.long()) for part in coords.split(_CHUNK)]
    return torch.cat(parts) if parts else grids.voxels.new_empty(0, *3 * (BLOCK + 1,), 8)


def _gather(grids: Grids, coords: Tensor) -> Tensor:
    offsets = torch.arange(BLOCK + 1, device=coords.device)
    # Beyond the last block the grid repeats its last layer.
    voxel = (coords[..., None] * BLOCK + offsets).clamp_max(grids.spec.voxel_resolution - 1)
    x, y, z = voxel[:, 0, :, None, None], voxel[:, 1, None, :, None], voxel[:, 2, None, None, :]
    number = grids.block_index[x // BLOCK, y // BLOCK, z // BLOCK].long()
    inside = ((x % BLOCK) * BLOCK + y % BLOCK) * BLOCK + z % BLOCK
    found = grids.voxels[(number.clamp_min(0) * BLOCK**3 + inside)]
    absent = torch.tensor(_ABSENT, dtype=torch.uint8, device=coords.device)
    return torch.where(number[..., None] >= 0, found, absent)
