"""The coarse level of a submodel: the same layout at a lower resolution, for a first image after a few MB.

It lies in ``sm_XXX/coarse/`` and is listed in ``manifest.json`` like every other file; readers of the official
layout never look there. Its ``scene_params.json`` has its own resolutions and atlas, its arrays are PNG, and its
``deferred_mlp.json.gz`` holds the appearance lattice of this submodel alone (the first axis has length 1), so
that a viewer needs no other submodel's networks.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from smerf.baking.submodel import serving_blocks
from smerf.scene.arrays import encode_array
from smerf.scene.grids import atlas_slots, build_atlas, distance_grid, max_pool, pack_bits, unpack_bits
from smerf.scene.layout import slice_count, submodel_arrays
from smerf.scene.params_io import mlp_to_json, params_to_json
from smerf.scene.types import BakedSubmodel, SceneParams

__all__ = ["coarse_files", "coarsen"]

_FACTORS = ((2, 2), (4, 2), (4, 4), (8, 4), (8, 8))
"""Reductions of the planes and of the sparse grid, finest first."""
_MIN_RATIO = 0.12
"""Encoded size of the arrays over their plain size; content never compresses better by far."""
_OPAQUE = 8.0
"""Largest optical depth of a sample, across a coarse voxel: keeps thin surfaces closed without thickening them."""
_ABSENT = np.array([0, 128, 128, 128, 128, 128, 128, 128], np.uint8)
_CHUNK = 1024


def coarse_files(
    params: SceneParams, mlp: dict[str, np.ndarray], max_bytes: int, submodel: BakedSubmodel, full_bytes: int
) -> dict[str, bytes]:
    """Return name -> content of the finest coarse level whose files take at most ``max_bytes``.

    Empty if the submodel itself (``full_bytes``) is no larger, no reduction is that small, or the resolutions
    cannot be halved.
    """
    if full_bytes <= max_bytes:
        return {}
    k = params.params_to_sm.index(submodel.index)
    network = gzip.compress(mlp_to_json({name: value[k : k + 1] for name, value in mlp.items()}), 9, mtime=0)
    for plane_factor, grid_factor in _FACTORS:
        if not _divides(params, plane_factor, grid_factor):
            continue
        plain = 24 * (params.triplane_resolution // plane_factor) ** 2
        if _MIN_RATIO * plain > max_bytes:
            continue
        shared, level = coarsen(params, submodel, plane_factor, grid_factor)
        files = {"deferred_mlp.json.gz": network}
        if _MIN_RATIO * (plain + level.atlas.size) > max_bytes:
            continue
        slices = slice_count(level.atlas.shape, shared.data_block_size + 1)
        value = params_to_json(shared, level.index, level.atlas.shape[:3], slices, "png")
        files["scene_params.json"] = json.dumps(value, indent=1, allow_nan=False).encode()
        for name, array in submodel_arrays(shared, level, slices):
            files[f"{name}.png"] = encode_array(array, "png")
        if sum(len(data) for data in files.values()) <= max_bytes:
            return files
    return {}


def _divides(params: SceneParams, plane_factor: int, grid_factor: int) -> bool:
    texels, samples, block = params.triplane_resolution, params.sparse_grid_resolution, params.data_block_size
    return (
        texels % samples == 0
        and texels % (16 * plane_factor) == 0
        and samples % (block * grid_factor) == 0
        and block % grid_factor == 0
        and texels // plane_factor >= samples // grid_factor
    )


def coarsen(
    params: SceneParams, submodel: BakedSubmodel, plane_factor: int, grid_factor: int
) -> tuple[SceneParams, BakedSubmodel]:
    """Reduce a submodel's resolution.

    Colours and features of the sparse grid are averaged, weighted by the density that they are rendered with.
    Its own density is then chosen so that, together with the gate and the reduced planes, the mean density of
    the voxel comes out.

    Args:
        params: Of the scene.
        submodel: What is reduced.
        plane_factor: 2, 4 or 8: texels that become one, per axis.
        grid_factor: The same for the sparse grid; divides the block size.

    Returns:
        The parameters with the new resolutions, and the reduced submodel.
    """
    texels = params.triplane_resolution // plane_factor
    samples = params.sparse_grid_resolution // grid_factor
    shared = replace(params, triplane_resolution=texels, sparse_grid_resolution=samples)
    planes = np.stack([_reduce_plane(plane, plane_factor) for plane in submodel.planes])
    grid = _reduce_grid(params, shared, submodel, planes, grid_factor)
    children = max_pool(unpack_bits(submodel.occupancy[8]), plane_factor)
    coords = np.argwhere(
        serving_blocks(children, samples, params.data_block_size) & _filled_blocks(grid, shared)
    )
    atlas, block_indices = build_atlas(
        _gather(grid, coords, params.data_block_size), coords, samples // params.data_block_size
    )
    level = BakedSubmodel(
        index=submodel.index,
        atlas=atlas,
        block_indices=block_indices,
        planes=planes,
        occupancy={8: pack_bits(children)},
        distance={8: distance_grid(max_pool(children, 2))},
        object_ids=_reduce_ids(params, shared, submodel, (atlas, block_indices), grid_factor),
    )
    return shared, level


def _reduce_ids(
    params: SceneParams,
    shared: SceneParams,
    submodel: BakedSubmodel,
    reduced: tuple[np.ndarray, np.ndarray],
    factor: int,
) -> np.ndarray | None:
    """Return the object of each voxel of the reduced atlas, (W, H, D) uint8: that with most of the density under it.

    Of the density, that of the sparse grid alone counts.
    """
    if submodel.object_ids is None:
        return None
    size, block, edge = shared.sparse_grid_resolution, params.data_block_size, params.data_block_size + 1
    part = block // factor
    grid = np.zeros((size + 1,) * 3, np.uint8)
    for (x, y, z), (i, j, k) in zip(*atlas_slots(submodel.block_indices, edge)):
        own = submodel.object_ids[i : i + block, j : j + block, k : k + block]
        if own.any():
            rho = _range(submodel.atlas[i : i + block, j : j + block, k : k + block, 0], params.range_density)
            sigma = _tiles(np.exp(np.minimum(rho, np.log(_OPAQUE)))[None, ..., None], factor)[0]
            tiles, found = _tiles(own[None, ..., None], factor)[0], np.unique(own)
            shares = np.stack([((tiles == each) * sigma).sum((-2, -1)) for each in found])
            most = found[shares.argmax(0)]
            grid[x * part : (x + 1) * part, y * part : (y + 1) * part, z * part : (z + 1) * part] = most
    atlas, block_indices = reduced
    ids = np.zeros(atlas.shape[:3], np.uint8)
    for coord, (i, j, k) in zip(*atlas_slots(block_indices, edge)):
        x, y, z = coord * block
        ids[i : i + edge, j : j + edge, k : k + edge] = grid[x : x + edge, y : y + edge, z : z + edge]
    return ids


def _reduce_plane(plane: np.ndarray, factor: int) -> np.ndarray:
    """Average (T, T, 8) bytes; texels that no content reads (all 0 or all 128) do not count beside others."""
    size = plane.shape[0] // factor
    tiles = plane.reshape(size, factor, size, factor, 8)
    is_used = ~((plane == 0).all(-1) | (plane == 128).all(-1)).reshape(size, factor, size, factor)
    count = is_used.sum((1, 3))[..., None]
    used = (tiles * is_used[..., None]).sum((1, 3), dtype=np.uint32)
    mean = np.where(count > 0, used / np.maximum(count, 1), tiles.mean((1, 3), dtype=np.float32))
    return np.rint(mean).astype(np.uint8)


def _plane_density(params: SceneParams, planes: np.ndarray) -> np.ndarray:
    """Return the planes' density at the sparse grid's resolution: (3, S, S) float32, range applied."""
    ratio = params.triplane_resolution // params.sparse_grid_resolution
    size = params.sparse_grid_resolution
    low, high = params.range_density
    mean = planes[..., 0].reshape(3, size, ratio, size, ratio).mean((2, 4), dtype=np.float32)
    return low + mean * ((high - low) / 255.0)


def _at(planes: np.ndarray, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    return planes[0][y, z] + planes[1][x, z] + planes[2][x, y]


def _reduce_grid(
    params: SceneParams,
    shared: SceneParams,
    submodel: BakedSubmodel,
    coarse_planes: np.ndarray,
    factor: int,
) -> np.ndarray:
    """Return the reduced sparse grid, dense: (S', S', S', 8) uint8."""
    size, block = shared.sparse_grid_resolution, params.data_block_size
    grid = np.broadcast_to(_ABSENT, (size, size, size, 8)).copy()
    part = block // factor
    fine_planes = _plane_density(params, submodel.planes)
    coarse_density = _plane_density(shared, coarse_planes)
    solid = _OPAQUE * params.submodel_scale / shared.sparse_grid_voxel_size
    offsets = np.arange(block)
    for where, bytes_ in _blocks(params, submodel):
        x, y, z = (
            (where[:, axis, None] * block + offsets).reshape(-1, *(block if a == axis else 1 for a in range(3)))
            for axis in range(3)
        )  # fmt: skip
        gate = _range(bytes_[..., 7], params.range_features) if params.feature_gating else np.float32(1.0)
        rho = _range(bytes_[..., 0], params.range_density) + gate * _at(fine_planes, x, y, z)
        sigma = np.minimum(np.exp(np.minimum(rho - 1.0, 60.0)), solid) + 1e-12
        weights = _tiles(sigma[..., None], factor)
        mass = weights.sum(-2)
        mean = (_tiles(bytes_[..., 1:].astype(np.float32), factor) * weights).sum(-2) / mass
        result = np.empty((*mean.shape[:-1], 8), np.uint8)
        result[..., 1:] = np.rint(mean)
        gate = _range(result[..., 7], params.range_features) if params.feature_gating else np.float32(1.0)
        x, y, z = (index[:, ::factor, ::factor, ::factor] // factor for index in (x, y, z))
        own = np.log(mass[..., 0] / factor**3) + 1.0 - gate * _at(coarse_density, x, y, z)
        low, high = params.range_density
        result[..., 0] = np.rint(np.clip((own - low) * (255.0 / (high - low)), 0, 255))
        for corner, values in zip(where * part, result):
            i, j, k = corner
            grid[i : i + part, j : j + part, k : k + part] = values
    return grid


def _range(bytes_: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    return np.float32(bounds[0]) + bytes_.astype(np.float32) * np.float32((bounds[1] - bounds[0]) / 255.0)


def _tiles(values: np.ndarray, factor: int) -> np.ndarray:
    """Bring (n, B, B, B, C) to (n, B/f, B/f, B/f, f^3, C)."""
    n, block, channels = values.shape[0], values.shape[1], values.shape[-1]
    part = block // factor
    split = values.reshape(n, part, factor, part, factor, part, factor, channels)
    return split.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(n, part, part, part, factor**3, channels)


def _blocks(params: SceneParams, submodel: BakedSubmodel) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield block coordinates (n, 3) and their own samples (n, B, B, B, 8)."""
    block = params.data_block_size
    edge = block + 1
    slots = [size // edge for size in submodel.atlas.shape[:3]]
    split = submodel.atlas.reshape(slots[0], edge, slots[1], edge, slots[2], edge, 8)
    coords = np.argwhere(submodel.block_indices[..., 0] != 255)
    for start in range(0, len(coords), _CHUNK):
        where = coords[start : start + _CHUNK]
        sx, sy, sz = submodel.block_indices[tuple(where.T)].T
        yield where, split[sx, :block, sy, :block, sz, :block]


def _filled_blocks(grid: np.ndarray, params: SceneParams) -> np.ndarray:
    """Return the macroblocks whose samples, the next first layers included, are not all absent."""
    filled = max_pool((grid != _ABSENT).any(-1), params.data_block_size)
    for axis in range(3):
        shifted = np.roll(filled, -1, axis)
        shifted[tuple(slice(-1, None) if a == axis else slice(None) for a in range(3))] = False
        filled = filled | shifted
    return filled


def _gather(grid: np.ndarray, coords: np.ndarray, block: int) -> np.ndarray:
    """Return the samples (n, B+1, B+1, B+1, 8) of macroblocks (n, 3)."""
    padded = np.pad(grid, [(0, 1)] * 3 + [(0, 0)], mode="edge")
    result = np.empty((len(coords), block + 1, block + 1, block + 1, 8), np.uint8)
    for out, (x, y, z) in zip(result, coords * block):
        out[:] = padded[x : x + block + 1, y : y + block + 1, z : z + block + 1]
    return result
