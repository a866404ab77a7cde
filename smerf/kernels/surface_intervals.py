"""Intervals of rays that meet surfaces: the face of ``cuda/include/smerf/surface_intervals.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.records import ray_spacing, supports_spacing
from smerf.kernels.reference import surface_intervals as reference
from smerf.kernels.types import MAX_SAMPLES, Spacing

__all__ = ["surface_intervals"]


def surface_intervals(
    near: Tensor,
    origins: Tensor,
    directions: Tensor,
    met: Tensor,
    opacity: Tensor,
    spacing: Spacing,
    samples: int,
    half_width: float,
) -> tuple[Tensor, Tensor]:
    """Return intervals that are thin where rays meet something, and dense where they pass close to it.

    A surface has a width, over which its weight is spread evenly: what is thinner than a voxel can't be learnt.

    Args:
        near: Which cells of the cube [-1, 1]^3 are near a surface (C + 2, C + 2, W) int32: bits along the last axis,
            the lowest first, with an empty border.
        origins: (R, 3) float32, in units of the cube.
        directions: (R, 3) float32; the point at distance t is ``origins + t * directions``.
        met: Distances of the layers that rays meet (R, L) float32, nearest first.
        opacity: Their weights (R, L) float32; none counts after a layer without weight.
        spacing: Of the intervals.
        samples: Intervals S of each ray, more than twice L.
        half_width: Of a surface, metric.

    Returns:
        Metric interval ends (R, S + 1) and weights (R, S).

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    rays, layers = opacity.shape
    side = near.shape[0]
    for name, tensor, dtype, shape in (
        ("near", near, torch.int32, (side, side, -(-side // 32))),
        ("origins", origins, torch.float32, (rays, 3)),
        ("directions", directions, torch.float32, (rays, 3)),
        ("met", met, torch.float32, (rays, layers)),
        ("opacity", opacity, torch.float32, (rays, layers)),
    ):
        native.check(name, tensor, dtype, shape, opacity.device)
    if not 2 * layers < samples <= MAX_SAMPLES:
        raise ValueError(f"samples: expected above {2 * layers} and at most {MAX_SAMPLES}, got {samples}")
    backend = native.backend(opacity, "smerf_surface_intervals")
    if backend is None or not supports_spacing(spacing):
        return reference.surface_intervals(
            near, origins, directions, met, opacity, spacing, samples, half_width
        )
    middles = spacing.t_from_s(reference.stretches()).float().to(opacity.device)
    grid = abi.record(
        "NearCells", bits=near.contiguous(), middles=middles, cells=side - 2, words=near.shape[2]
    )
    parts = [each.contiguous() for each in (origins, directions, met, opacity)]
    edges, weights = opacity.new_empty(rays, samples + 1), opacity.new_empty(rays, samples)
    backend.call(
        "smerf_surface_intervals",
        grid, ray_spacing(spacing), *parts, rays, layers, samples, half_width,
        edges, weights,
    )  # fmt: skip
    return edges, weights
