"""Multi-resolution hash encoding in plain PyTorch: the specification of the native kernel.

Conventions of Zip-NeRF (arXiv 2304.06706) and instant-ngp (arXiv 2201.05989); see
``cuda/include/smerf/hash_encoding.h``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from smerf.kernels.types import HashSpec

__all__ = ["hash_bucket", "hash_encode", "level_fade"]

_PRIME_Y = 19349663
_PRIME_Z = 83492791
_UINT32 = 0xFFFFFFFF


def hash_bucket(cells: Tensor, size: int) -> Tensor:
    """Hash integer cells (..., 3) into ``size`` (a power of two) buckets, in uint32 arithmetic."""
    x, y, z = (cells[..., axis].long() & _UINT32 for axis in range(3))
    mixed = x ^ ((y * _PRIME_Y) & _UINT32) ^ ((z * _PRIME_Z) & _UINT32)
    return mixed & (size - 1)


def level_fade(sigma: Tensor, resolution: int) -> Tensor:
    """Return the share of a level of n cells that outlives a footprint: erf(1 / (sqrt(8) sigma n))."""
    squared = 1.0 / (8.0 * sigma**2 * resolution**2).clamp_min(1e-12)
    return torch.sqrt(1.0 - torch.exp(-4.0 / math.pi * squared))


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec, sigma: Tensor | None = None) -> Tensor:
    """Encode points (N, 3) in [0, 1]^3 to features (N, L * F); see ``smerf.kernels.hash_encode``."""
    features = []
    is_point = ~torch.isnan(x).any(-1, keepdim=True)
    x = torch.where(is_point, x, 0.0)
    for offset, resolution, size in spec.levels():
        grid = x.clamp(0.0, 1.0) * resolution - 0.5
        base = torch.floor(grid)
        fraction = grid - base
        total = x.new_zeros(x.shape[0], spec.features)
        for corner in range(8):
            bits = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2 & 1], device=x.device)
            cells = (base.long() + bits).clamp(0, resolution - 1)
            if size < resolution**3:
                entries = hash_bucket(cells, size)
            else:
                entries = (cells[:, 2] * resolution + cells[:, 1]) * resolution + cells[:, 0]
            weight = torch.where(bits.bool(), fraction, 1.0 - fraction).prod(-1, keepdim=True)
            total = total + weight * table[offset + entries]
        if sigma is not None:
            total = total * level_fade(sigma.detach(), resolution)[:, None]
        features.append(torch.where(is_point, total, 0.0))
    return torch.cat(features, -1)
