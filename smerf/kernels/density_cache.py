"""Sample placement by a coarse grid of densities over contracted space: checks and dispatch."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import density_cache as reference
from smerf.kernels.types import Spacing

__all__ = ["cache_raise_", "cache_sample"]

_MOST_BINS = 256


class SpacingRecord(ctypes.Structure):
    """``smerf::RaySpacing`` of ``cuda/include/smerf/spacing.h``."""

    _fields_ = [
        ("near_t", ctypes.c_float),
        ("far_t", ctypes.c_float),
        ("near_g", ctypes.c_float),
        ("far_g", ctypes.c_float),
        ("linear", ctypes.c_int32),
    ]


def spacing_record(spacing: Spacing) -> SpacingRecord:
    """Return a spacing as the kernels' structure, which knows the default ladder alone."""
    far = spacing.far if spacing.linear else min(spacing.far, 1e4)
    return SpacingRecord(spacing.near, far, *spacing.ends(), int(spacing.linear))


def supports_spacing(spacing: Spacing) -> bool:
    """Tell whether the kernels know this spacing: the linear one, and the default ladder."""
    return spacing.linear or (spacing.power, spacing.scale) == (-1.5, 2.0)


class _Sampling(ctypes.Structure):
    _fields_ = [
        ("spacing", SpacingRecord),
        ("cache", ctypes.c_void_p),
        ("resolution", ctypes.c_int32),
        ("bins", ctypes.c_int32),
        ("samples", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("cap", ctypes.c_float),
        ("mix", ctypes.c_float),
    ]


def cache_sample(
    cache: Tensor,
    origins: Tensor,
    directions: Tensor,
    spacing: Spacing,
    *,
    bins: int,
    samples: int,
    scale: float,
    cap: float,
    mix: float,
    shift: Tensor | None = None,
    jitter: Tensor | None = None,
) -> Tensor:
    """Place samples where a cache of densities expects content.

    Args:
        cache: Densities per training unit (n, n, n) float32, z first, over contracted space.
        origins: (R, 3) float32.
        directions: Unit vectors (R, 3).
        spacing: The map from s to distance.
        bins: Evenly spaced intervals of s in which the cache is read, at most 256.
        samples: Intervals to draw.
        scale: Training units to the contraction's unit cube.
        cap: Most optical depth of a bin: a ray never goes blind behind one.
        mix: Share of the probability that is spread evenly over s.
        shift: Moves the bins by a share of an interval in [-0.5, 0.5), (R,).
        jitter: Moves the samples likewise, (R,).

    Returns:
        Ascending edges in s (R, samples + 1), without gradient.

    Raises:
        ValueError: If a shape, dtype or count is not as stated.
    """
    native.check("cache", cache, torch.float32, (cache.shape[0],) * 3)
    rays = origins.shape[0]
    native.check("origins", origins, torch.float32, (rays, 3))
    native.check("directions", directions, torch.float32, (rays, 3))
    for name, value in (("shift", shift), ("jitter", jitter)):
        if value is not None:
            native.check(name, value, torch.float32, (rays,))
    if not 1 <= bins <= _MOST_BINS or samples < 1:
        raise ValueError(
            f"bins, samples: expected 1 to {_MOST_BINS} and at least 1, got {bins} and {samples}"
        )
    library = native.load_cpu()
    if library is None or cache.device.type != "cpu" or not supports_spacing(spacing):
        return reference.cache_sample(
            cache, origins, directions, spacing, bins, samples, scale, cap, mix, shift, jitter
        )
    cache, origins, directions = cache.contiguous(), origins.contiguous(), directions.contiguous()
    shift, jitter = (None if a is None else a.contiguous() for a in (shift, jitter))
    edges = origins.new_empty(rays, samples + 1)
    sampling = _Sampling(
        spacing_record(spacing), cache.data_ptr(), cache.shape[0], bins, samples, scale, cap, mix
    )
    library.smerf_cache_sample(
        ctypes.byref(sampling), native.pointer(origins), native.pointer(directions), native.pointer(shift),
        native.pointer(jitter), ctypes.c_int64(rays), native.pointer(edges),
    )  # fmt: skip
    return edges


def cache_raise_(cache: Tensor, x: Tensor, density: Tensor) -> None:
    """Raise the cells (n, n, n) that hold points x (N, 3) in [0, 1]^3 to the densities (N,) seen there, in place.

    Densities that are not finite are left out.
    """
    native.check("x", x, torch.float32, (None, 3))
    native.check("density", density, torch.float32, (x.shape[0],))
    library = native.load_cpu()
    if library is None or cache.device.type != "cpu":
        reference.cache_raise_(cache, x, density)
        return
    x, density = x.contiguous(), density.contiguous()
    library.smerf_cache_raise(
        native.pointer(cache), cache.shape[0], native.pointer(x), native.pointer(density),
        ctypes.c_int64(x.shape[0]),
    )  # fmt: skip
