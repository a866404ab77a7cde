"""Sample placement by a coarse grid of densities over contracted space: checks and dispatch."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.records import ray_spacing, supports_spacing
from smerf.kernels.reference import density_cache as reference
from smerf.kernels.types import CacheSampling

__all__ = ["cache_raise_", "cache_sample"]


def cache_sample(
    cache: Tensor,
    origins: Tensor,
    directions: Tensor,
    sampling: CacheSampling,
    shift: Tensor | None = None,
    jitter: Tensor | None = None,
) -> Tensor:
    """Place samples where a cache of densities expects content.

    Args:
        cache: Densities per training unit (n, n, n) float32, z first, over contracted space.
        origins: (R, 3) float32.
        directions: Unit vectors (R, 3).
        sampling: How many samples, and how they follow the cache.
        shift: Moves the bins by a fraction of an interval in [-0.5, 0.5), (R,).
        jitter: Moves the samples likewise, (R,).

    Returns:
        Ascending edges in s (R, samples + 1), without gradient.

    Raises:
        ValueError: If a shape, dtype is not as stated.
    """
    native.check("cache", cache, torch.float32, (cache.shape[0],) * 3)
    rays = origins.shape[0]
    native.check("origins", origins, torch.float32, (rays, 3))
    native.check("directions", directions, torch.float32, (rays, 3))
    for name, value in (("shift", shift), ("jitter", jitter)):
        if value is not None:
            native.check(name, value, torch.float32, (rays,))
    backend = native.backend(cache, "smerf_cache_sample")
    if backend is None or not supports_spacing(sampling.spacing):
        return reference.cache_sample(cache, origins, directions, sampling, shift, jitter)
    shift, jitter = (None if a is None else a.contiguous() for a in (shift, jitter))
    edges = origins.new_empty(rays, sampling.samples + 1)
    record = abi.record(
        "CacheSampling",
        spacing=ray_spacing(sampling.spacing),
        cache=cache.contiguous(),
        resolution=cache.shape[0],
        bins=sampling.bins,
        samples=sampling.samples,
        scale=sampling.scale,
        cap=sampling.cap,
        mix=sampling.mix,
    )
    backend.call(
        "smerf_cache_sample",
        record,
        origins.contiguous(),
        directions.contiguous(),
        shift,
        jitter,
        rays,
        edges,
    )
    return edges


def cache_raise_(cache: Tensor, x: Tensor, density: Tensor) -> None:
    """Raise the cells (n, n, n) that hold points x (N, 3) in [0, 1]^3 to the densities (N,) seen there, in place.

    Densities that are not finite are left out.
    """
    native.check("x", x, torch.float32, (None, 3))
    native.check("density", density, torch.float32, (x.shape[0],))
    backend = native.backend(cache, "smerf_cache_raise")
    if backend is None:
        reference.cache_raise_(cache, x, density)
        return
    backend.call("smerf_cache_raise", cache, cache.shape[0], x.contiguous(), density.contiguous(), len(x))
