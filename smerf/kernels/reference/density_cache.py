"""Sample placement by a density cache in plain PyTorch: see ``cuda/include/smerf/density_cache.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels.reference.contraction import contract
from smerf.kernels.types import CacheSampling

__all__ = ["cache_raise_", "cache_sample", "cell_of"]


def cell_of(x: Tensor, resolution: int) -> Tensor:
    """Return the flat cell index (N,) of points (N, 3) in [0, 1]^3; what is not a number goes to cell 0."""
    cell = (torch.nan_to_num(x) * resolution).long().clamp(0, resolution - 1)
    return (cell[..., 2] * resolution + cell[..., 1]) * resolution + cell[..., 0]


def cache_sample(
    cache: Tensor,
    origins: Tensor,
    directions: Tensor,
    sampling: CacheSampling,
    shift: Tensor | None,
    jitter: Tensor | None,
) -> Tensor:
    """Return ascending edges (R, samples + 1) in s; see ``smerf.kernels.density_cache.cache_sample``."""
    spacing, bins, samples, mix = sampling.spacing, sampling.bins, sampling.samples, sampling.mix
    zero = origins.new_zeros(origins.shape[0])
    shift, jitter = (zero if a is None else a for a in (shift, jitter))
    s = torch.arange(bins + 1, dtype=origins.dtype, device=origins.device) / bins + shift[:, None] / bins
    s[:, 0], s[:, -1] = 0.0, 1.0
    t = spacing.t_from_s(s)
    middle = 0.5 * (t[:, 1:] + t[:, :-1])
    points = sampling.scale * (origins[:, None] + middle[..., None] * directions[:, None])
    cells = cell_of(0.25 * (contract(points) + 2.0), cache.shape[0])
    depth = (cache.reshape(-1)[cells] * t.diff(dim=-1)).clamp_max(sampling.cap)
    weights = torch.exp(depth - torch.cumsum(depth, -1)) * -torch.expm1(-depth)
    wide = torch.cat([weights[:, :1], weights, weights[:, -1:]], -1)
    maxima = torch.maximum(wide[:, 1:], wide[:, :-1])
    blurred = 0.5 * (maxima[:, 1:] + maxima[:, :-1])
    total = blurred.sum(-1, keepdim=True)
    lit = total >= 1e-8
    pdf = torch.where(lit, (1.0 - mix) * blurred / total, 0.0) + torch.where(lit, mix, 1.0) * s.diff(dim=-1)
    cdf = torch.cumsum(pdf, -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf / cdf[:, -1:]], -1)
    u = (torch.arange(samples, dtype=s.dtype, device=s.device) + 0.5 + jitter[:, None]) / samples
    u = u.clamp(1e-6, 1.0 - 1e-6).contiguous()
    index = torch.searchsorted(cdf, u, right=True).clamp(1, bins)
    low, high = cdf.gather(-1, index - 1), cdf.gather(-1, index)
    start, end = s.gather(-1, index - 1), s.gather(-1, index)
    centres = start + ((u - low) / (high - low).clamp_min(1e-9)).clamp_max(1.0) * (end - start)
    if samples == 1:
        return torch.cat([zero[:, None], zero[:, None] + 1.0], -1)
    inner = 0.5 * (centres[:, 1:] + centres[:, :-1])
    first = (2.0 * centres[:, :1] - inner[:, :1]).clamp(0.0, 1.0)
    last = (2.0 * centres[:, -1:] - inner[:, -1:]).clamp(0.0, 1.0)
    return torch.cat([first, inner, last], -1)


def cache_raise_(cache: Tensor, x: Tensor, density: Tensor) -> None:
    """Raise the cells that hold points to the densities seen there, in place."""
    fine = torch.isfinite(density)
    cells = cell_of(x[fine], cache.shape[0])
    cache.view(-1).scatter_reduce_(0, cells, density[fine], "amax", include_self=True)
