"""Which array files make up one submodel, and what each of them holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene.types import BakedSubmodel, SceneParams

__all__ = ["COARSE_FOLDER", "object_ids_name", "slice_count", "submodel_arrays"]

COARSE_FOLDER = "coarse"
"""Where a submodel's folder holds its coarse level, if it has one (``smerf.baking.coarse``)."""

_SLICE_BYTES = 12 << 20
"""Largest atlas slice in one file (3 channels): small enough to fetch in parallel and to decode as an image."""


def object_ids_name(part: int) -> str:
    """Return the array name of one slice of the objects' ids."""
    return f"object_ids_{part:03d}"


def slice_count(atlas_shape: tuple[int, ...], block_edge: int) -> int:
    """Fewest slices that divide the depth into whole block layers and stay below ``_SLICE_BYTES`` each."""
    layers = atlas_shape[2] // block_edge
    for count in range(1, layers + 1):
        size = 3 * atlas_shape[0] * atlas_shape[1] * (atlas_shape[2] // count)
        if layers % count == 0 and size <= _SLICE_BYTES:
            return count
    return layers


def submodel_arrays(
    params: SceneParams, submodel: BakedSubmodel, slices: int
) -> Iterable[tuple[str, np.ndarray]]:
    """Yield (name, array) of every array file of one submodel; channels as in section "separate storage"."""
    depth = submodel.atlas.shape[2] // slices
    for i in range(slices):
        part = submodel.atlas[:, :, i * depth : (i + 1) * depth]
        yield f"sparse_grid_rgb_{i:03d}", part[..., 1:4]
        yield f"sparse_grid_features_{i:03d}", part[..., 4:7]
        yield f"sparse_grid_density_{i:03d}", part[..., [0, 7]]
        if submodel.object_ids is not None:
            yield object_ids_name(i), submodel.object_ids[:, :, i * depth : (i + 1) * depth, None]
    yield "sparse_grid_block_indices", submodel.block_indices
    for i in range(3):
        yield f"plane_rgb_{i}", submodel.planes[i][..., 1:4]
        yield f"plane_features_{i}", submodel.planes[i][..., 4:8]
        yield f"plane_density_{i}", submodel.planes[i][..., :1]
    if submodel.known is not None:
        yield "known_grid", submodel.known
    if submodel.solid is not None:
        yield "solid_grid", submodel.solid[..., None]
    for kind, grids in (("occupancy", submodel.occupancy), ("distance", submodel.distance)):
        for size, grid in sorted(grids.items()):
            pieces = 1 if grid.shape[2] <= 256 else 8
            if grid.shape[2] % pieces:
                raise InvalidDataError(
                    f"submodel {submodel.index}: {kind}[{size}] has {grid.shape[2]} cells; "
                    "above 256 their number must be a multiple of 8"
                )
            for j, piece in enumerate(np.split(grid, pieces, axis=2)):
                yield f"{kind}_grid_{size}_{j:03d}", piece[..., None]
