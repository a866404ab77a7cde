"""What the reference renderer reads of a baked submodel at contracted points (N, 3): atlas, planes, objects."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from smerf.scene.types import BakedSubmodel, SceneParams

__all__ = ["lookup", "sample_assets", "sample_ids"]


def lookup(grid: Tensor, cell: Tensor) -> Tensor:
    """Return the entries of a grid (X, Y, Z, ...) at cells (N, 3)."""
    return grid[cell[:, 0], cell[:, 1], cell[:, 2]]


def _trilinear(atlas: Tensor, where: Tensor) -> Tensor:
    """Interpolate a uint8 atlas (W, H, D, 8) at positions (N, 3) in voxels, sample centres at whole numbers:
    (N, 8).
    """
    sizes = torch.tensor(atlas.shape[:3])
    low = where.floor()
    frac = where - low
    total = where.new_zeros(len(where), 8)
    for corner in np.ndindex(2, 2, 2):
        offset = torch.tensor(corner)
        index = torch.minimum((low.long() + offset).clamp_min(0), sizes - 1)
        weight = torch.where(offset == 1, frac, 1.0 - frac).prod(-1, keepdim=True)
        total += weight * lookup(atlas, index)
    return total


def _bilinear(plane: Tensor, where: Tensor) -> Tensor:
    """Interpolate a uint8 plane (T, T, 8) at positions (N, 2) in texels, clamped at the edge: (N, 8)."""
    low = where.floor()
    frac = where - low
    total = where.new_zeros(len(where), 8)
    for corner in np.ndindex(2, 2):
        offset = torch.tensor(corner)
        index = (low.long() + offset).clamp(0, plane.shape[0] - 1)
        weight = torch.where(offset == 1, frac, 1.0 - frac).prod(-1, keepdim=True)
        total += weight * plane[index[:, 0], index[:, 1]]
    return total


def _dequantise(params: SceneParams, values: Tensor, count: int) -> Tensor:
    """Turn sums of ``count`` interpolated bytes (N, 8) into values; affine, so interpolation may come
    first.
    """
    (d0, d1), (f0, f1) = params.range_density, params.range_features
    low = values.new_tensor([d0] + 7 * [f0])
    high = values.new_tensor([d1] + 7 * [f1])
    return count * low + values * ((high - low) / 255.0)


def _locate(submodel: BakedSubmodel, params: SceneParams, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return where contracted points lie in the atlas, (N, 3) in voxels, and whether their macroblock has data (N,)."""
    blocks = torch.from_numpy(submodel.block_indices)
    edge = params.data_block_size
    # Sample centres: block b serves [b B + 0.5, (b + 1) B + 0.5) sparse voxels.
    grid_position = (positions + 2.0) / params.sparse_grid_voxel_size - 0.5
    block = (grid_position / edge).floor()
    slot = lookup(blocks, block.long().clamp(0, blocks.shape[0] - 1)).long()
    is_alive = slot[:, 0] != 255
    local = (grid_position - edge * block).clamp(0.0, float(edge))
    return local + (edge + 1) * torch.where(is_alive[:, None], slot, 0), is_alive


def sample_ids(submodel: BakedSubmodel, params: SceneParams, positions: Tensor) -> Tensor:
    """Return the object of the voxel nearest to contracted points (N, 3): int64 (N,), 0 for none.

    Raises:
        ValueError: If the submodel has no ids.
    """
    if submodel.object_ids is None:
        raise ValueError(f"submodel {submodel.index}: has no ids of objects")
    where, is_alive = _locate(submodel, params, positions)
    found = lookup(torch.from_numpy(submodel.object_ids), (where + 0.5).floor().long()).long()
    return torch.where(is_alive, found, 0)


def sample_assets(
    submodel: BakedSubmodel, params: SceneParams, positions: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Read a submodel's arrays at contracted points, before any activation.

    Args:
        submodel: The arrays.
        params: The scene's parameters.
        positions: (N, 3) contracted, viewer axes, float32 or float64.

    Returns:
        ``density_pre`` (N,): the argument of ``exp(x - 1)``, -inf in an empty macroblock; ``fine`` (N, 7):
        r, g, b, f0 .. f3 of sparse grid plus gated planes, before the sigmoid; ``coarse`` (N, 7): the same
        of the sparse grid alone. In empty macroblocks both are 0.
    """
    planes = torch.from_numpy(submodel.planes)
    where, is_alive = _locate(submodel, params, positions)
    sparse = _dequantise(params, _trilinear(torch.from_numpy(submodel.atlas), where), 1)
    texel = (positions + 2.0) / params.triplane_voxel_size - 0.5
    plane = _bilinear(planes[0], texel[:, [1, 2]])
    plane = plane + _bilinear(planes[1], texel[:, [0, 2]])
    plane = _dequantise(params, plane + _bilinear(planes[2], texel[:, [0, 1]]), 3)
    gated = sparse + (sparse[:, 7:] * plane if params.feature_gating else plane)
    density = torch.where(is_alive, gated[:, 0], -math.inf)
    return density, gated[:, 1:] * is_alive[:, None], sparse[:, 1:] * is_alive[:, None]
