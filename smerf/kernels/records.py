"""The plain data of types.py as the structures that the native kernels read."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

from smerf.kernels import abi
from smerf.kernels.types import Adam, Grids, HashSpec, Spacing

__all__ = ["adam_step", "grid_view", "hash_levels", "layer_widths", "ray_spacing", "supports_spacing"]


@cache
def hash_levels(spec: HashSpec) -> ctypes.Array[Any]:
    """Return the ``HashLevel`` of each level of a hash grid."""
    rows = [
        (offset, resolution, size - 1 if size < resolution**3 else 0)
        for offset, resolution, size in spec.levels()
    ]
    return abi.records("HashLevel", rows)


def layer_widths(dims: Sequence[int]) -> ctypes.Array[Any]:
    """Return the layer widths of a network, input first."""
    return (ctypes.c_int32 * len(dims))(*dims)


def supports_spacing(spacing: Spacing) -> bool:
    """Tell whether the kernels know this spacing: the linear one, and the default ladder."""
    return spacing.linear or (spacing.power, spacing.scale) == (-1.5, 2.0)


def ray_spacing(spacing: Spacing) -> ctypes.Structure:
    """Return a spacing that ``supports_spacing`` accepts."""
    near_g, far_g = spacing.ends()
    return abi.record(
        "RaySpacing",
        near_t=spacing.near,
        far_t=spacing.far if spacing.linear else min(spacing.far, 1e4),
        near_g=near_g,
        far_g=far_g,
        linear=spacing.linear,
    )


def grid_view(grids: Grids) -> ctypes.Structure:
    """Return what the kernels read of a submodel's grids."""
    spec = grids.spec
    return abi.record(
        "GridView",
        voxels=grids.voxels,
        block_index=grids.block_index,
        planes=grids.planes,
        voxel_resolution=spec.voxel_resolution,
        plane_resolution=spec.plane_resolution,
        centre=spec.centre,
        scale=spec.scale,
        density_low=spec.density_range[0],
        density_high=spec.density_range[1],
        feature_low=spec.feature_range[0],
        feature_high=spec.feature_range[1],
    )


def adam_step(adam: Adam) -> ctypes.Structure:
    """Return an update by Adam as the kernels' ``AdamStep``."""
    (beta1, beta2), (correction1, correction2) = adam.betas, adam.corrections()
    return abi.record(
        "AdamStep",
        lr=adam.lr,
        beta1=beta1,
        beta2=beta2,
        eps=adam.eps,
        correction1=correction1,
        correction2=correction2,
    )
