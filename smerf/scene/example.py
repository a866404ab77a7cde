"""A small baked scene made from formulas: a room with boxes, open on one side to something far away.

It needs no training and uses every part of the format (gate, planes, features, network lattice, outer
regions), so tests and benchmarks of writers, renderers and viewers can start from it. Nothing about it looks
real.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from smerf.capture.types import Camera, Intrinsics
from smerf.scene.grids import atlas_slots, build_atlas, distance_grid, max_pool, pack_bits
from smerf.scene.manifest import Manifest, StartCamera
from smerf.scene.objects import SceneObject
from smerf.scene.region import Region, RegionStart
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedScene, BakedSubmodel, SceneParams

__all__ = ["example_camera", "example_scene"]

# Centre and half size in training axes, a colour, and the greatest density before activation.
# Floor, ceiling, three walls, two pieces of furniture, a cloud, and a tower outside.
_BOXES = (
    ((0.0, 0.0, -0.7), (1.0, 1.0, 0.08), (0.55, 0.45, 0.35), 14.0),
    ((0.0, 0.0, 0.8), (1.0, 1.0, 0.08), (0.9, 0.9, 0.85), 14.0),
    ((0.95, 0.0, 0.05), (0.08, 1.0, 0.7), (0.8, 0.7, 0.6), 14.0),
    ((-0.95, 0.0, 0.05), (0.08, 1.0, 0.7), (0.6, 0.75, 0.8), 14.0),
    ((0.0, -0.95, 0.05), (1.0, 0.08, 0.7), (0.75, 0.8, 0.7), 14.0),
    ((0.35, 0.3, -0.4), (0.2, 0.25, 0.25), (0.85, 0.15, 0.1), 14.0),
    ((-0.4, 0.45, -0.45), (0.15, 0.15, 0.2), (0.15, 0.3, 0.9), 14.0),
    ((-0.35, 0.5, 0.25), (0.2, 0.25, 0.15), (0.95, 0.85, 0.2), 2.4),
    ((-0.1, 2.8, 0.0), (1.2, 0.4, 1.6), (0.2, 0.7, 0.25), 14.0),
)
_OBJECTS = {5: (1, "red box"), 6: (77, "blue box")}
"""Box -> id and name."""
_KNOWN_CELLS = 24
_ALIVE = -4.0
"""Density before activation under which a step's opacity stays below 0.25/255 near the cameras."""


def example_camera(width: int = 64, height: int = 48, fov_degrees: float = 70.0, turn: float = 0.0) -> Camera:
    """Return a camera inside the room; ``turn`` radians about the vertical, 0 looks at the furniture and
    outside.
    """
    focal = 0.5 * height / np.tan(0.5 * np.radians(fov_degrees))
    back = np.array([np.sin(turn), -np.cos(turn), 0.15])
    back /= np.linalg.norm(back)
    right = np.cross([0.0, 0.0, 1.0], back)
    right /= np.linalg.norm(right)
    pose = np.stack([right, np.cross(back, right), back, [0.1, -0.45, 0.12]], -1)
    return Camera(Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2), pose)


def example_scene(
    triplane_resolution: int = 64,
    submodel_grid_resolution: int = 1,
    params_to_sm: tuple[int, ...] = (0,),
    lattice: int = 2,
    seed: int = 0,
    region: bool = False,
    objects: bool = False,
    **params: Any,
) -> BakedScene:
    """Bake the room.

    Args:
        triplane_resolution: T, a multiple of 32; the sparse grid has T / 4 samples per axis.
        submodel_grid_resolution: R.
        params_to_sm: Regions that get a submodel.
        lattice: G, vertices of the network lattice per axis.
        seed: Of the network's random weights.
        region: Whether it has a known region: its half at low x, seen by photos that look along y.
        objects: Whether its two pieces of furniture have ids.
        **params: Further fields of ``SceneParams``.

    Returns:
        A scene in memory; pass its parts to ``write_scene`` to put it on disk.
    """
    if triplane_resolution % 32 or triplane_resolution < 32:
        raise ValueError(f"triplane_resolution: expected a multiple of 32, got {triplane_resolution}")
    values: dict[str, Any] = {"submodel_scale": float(submodel_grid_resolution), **params}
    shared = SceneParams(
        triplane_resolution=triplane_resolution,
        sparse_grid_resolution=triplane_resolution // 4,
        submodel_grid_resolution=submodel_grid_resolution,
        params_to_sm=params_to_sm,
        **values,
    )
    start = example_camera()
    return BakedScene(
        params=shared,
        mlp=_random_network(shared, lattice, seed),
        manifest=Manifest(
            start=StartCamera(start.world_from_cam, 70.0),
            near=0.05,
            region=_example_region() if region else None,
            objects=_example_objects() if objects else (),
        ),
        load=lambda k: _bake(shared, k, region, objects),
        cache_size=len(params_to_sm),
    )


def _random_network(params: SceneParams, lattice: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    widths = (params.num_mlp_inputs, 16, 16, 3)
    mlp = {}
    for i in range(3):
        shape = (len(params.params_to_sm), lattice, lattice, lattice)
        kernel = rng.normal(0.0, widths[i] ** -0.5, (*shape, widths[i], widths[i + 1]))
        mlp[f"ResampleDense_{i}/kernel"] = kernel.astype(np.float32)
        # The network adds a little to the composited colour, not everything.
        mlp[f"ResampleDense_{i}/bias"] = np.full((*shape, widths[i + 1]), -2.0 if i == 2 else 0.1, np.float32)
    return mlp


def _world(params: SceneParams, k: int, contracted: np.ndarray) -> np.ndarray:
    """Take contracted points (..., 3) of submodel k (viewer axes) to the world (training axes), float32."""
    z = np.asarray(contracted, np.float32)
    largest = np.abs(z).max(-1, keepdims=True)
    scale = 1.0 / np.maximum(1e-6, 2.0 - largest)
    first = np.argmax(np.abs(z), -1)[..., None] == np.arange(3)
    x = np.where(largest > 1.0, np.where(first, np.sign(z) * scale, z * scale), z)
    centre = params.submodel_centre(k).astype(np.float32)
    return x @ VIEWER_FROM_TRAINING.astype(np.float32) / np.float32(params.submodel_scale) + centre


def _density(params: SceneParams, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the density before activation (...,) and the nearest box (...,) at world points (..., 3)."""
    nearest = np.full(x.shape[:-1], np.inf, np.float32)
    which = np.zeros(x.shape[:-1], np.int64)
    for i, (centre, half, _, _) in enumerate(_BOXES):
        distance = (np.abs(x - np.asarray(centre, np.float32)) - np.asarray(half, np.float32)).max(-1)
        which = np.where(distance < nearest, i, which)
        nearest = np.minimum(nearest, distance)
    slope = 11.0 * params.submodel_scale / params.sparse_grid_voxel_size
    peak = np.array([box[3] for box in _BOXES], np.float32)[which]
    return np.clip(np.minimum(6.0 - slope * nearest, peak), *params.range_density), which


def _logit(p: np.ndarray) -> np.ndarray:
    return np.log(p / (1.0 - p))


def _to_bytes(params: SceneParams, values: np.ndarray) -> np.ndarray:
    """Quantise (..., 8) values: density first, then features."""
    low = np.array([params.range_density[0]] + 7 * [params.range_features[0]], np.float32)
    high = np.array([params.range_density[1]] + 7 * [params.range_features[1]], np.float32)
    return np.round(255.0 * np.clip((values - low) / (high - low), 0.0, 1.0)).astype(np.uint8)


def _voxel_values(params: SceneParams, x: np.ndarray) -> np.ndarray:
    """Return the sparse grid's eight values at world points (..., 3)."""
    density, which = _density(params, x)
    colour = _logit(np.array([box[2] for box in _BOXES], np.float32))[which]
    features = np.sin(3.0 * x)
    gate = 0.6 + 0.4 * np.sin(2.0 * x.sum(-1))
    return np.concatenate([density[..., None], colour, features, gate[..., None]], -1)


def _plane_values(params: SceneParams) -> np.ndarray:
    """Return the planes' eight values (3, T, T, 8): fine checks in colour, slow waves elsewhere."""
    axis = (np.arange(params.triplane_resolution) + 0.5) * params.triplane_voxel_size - 2.0
    u, v = np.meshgrid(axis, axis, indexing="ij")
    planes = []
    for i in range(3):
        check = np.sign(np.sin(9.0 * u + i) * np.sin(9.0 * v))
        waves = [np.sin((c + 1.0) * u + i) * np.cos((c + 2.0) * v) for c in range(7)]
        planes.append(np.stack([0.3 * waves[0], *(0.5 * check + 0.1 * w for w in waves[:3]), *waves[3:]], -1))
    return np.stack(planes)


def _occupied(params: SceneParams, k: int) -> np.ndarray:
    """Mark sparse voxels (S, S, S) with content at one of their corners."""
    count, size = params.sparse_grid_resolution, params.sparse_grid_voxel_size
    corner = np.arange(count + 1) * size - 2.0
    occupied = np.zeros((count, count, count), bool)
    before = None
    for i in range(count + 1):
        y, z = np.meshgrid(corner, corner, indexing="ij")
        points = np.stack([np.full_like(y, corner[i]), y, z], -1)
        dense = _density(params, _world(params, k, points))[0] > _ALIVE
        dense = dense[1:] | dense[:-1]
        dense = dense[:, 1:] | dense[:, :-1]
        if before is not None:
            occupied[i - 1] = before | dense
        before = dense
    # The outermost shell must stay empty: one step there is longer than the scene.
    occupied[[0, -1]] = occupied[:, [0, -1]] = occupied[:, :, [0, -1]] = False
    return occupied


def _example_region() -> Region:
    start = RegionStart(1.0, example_camera().world_from_cam, 60.0, 0.98)
    return Region(
        _KNOWN_CELLS,
        ((0.35, 0.5, 0.6), (0.6, 0.8, 0.9), (0.4, 0.3, 0.2)),
        mode="walk",
        eye=0.55,
        starts=(start,),
    )


def _example_objects() -> tuple[SceneObject, ...]:
    return tuple(
        SceneObject(number, name, _BOXES[i][2], _BOXES[i][0], _BOXES[i][1], 0.9)
        for i, (number, name) in _OBJECTS.items()
    )


def _object_ids(params: SceneParams, k: int, baked: BakedSubmodel) -> np.ndarray:
    """Give the voxels nearer to a piece of furniture than to anything else, and within a voxel of it, its id."""
    edge, size = params.data_block_size + 1, params.sparse_grid_voxel_size
    ids = np.zeros(baked.atlas.shape[:3], np.uint8)
    table = np.zeros(len(_BOXES), np.uint8)
    for i, (number, _) in _OBJECTS.items():
        table[i] = number
    offsets = np.stack(np.meshgrid(*(np.arange(edge),) * 3, indexing="ij"), -1)
    for coord, (x, y, z) in zip(*atlas_slots(baked.block_indices, edge)):
        points = (coord * params.data_block_size + offsets + 0.5) * size - 2.0
        density, which = _density(params, _world(params, k, points))
        ids[x : x + edge, y : y + edge, z : z + edge] = np.where(density > -5.0, table[which], 0)
    return ids


def _known(params: SceneParams, k: int) -> np.ndarray:
    """Return a known region that ends softly at x = 0.1 and faces +y, in training axes."""
    axis = (np.arange(_KNOWN_CELLS) + 0.5) * (4.0 / _KNOWN_CELLS) - 2.0
    x = _world(params, k, np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1))
    toward = VIEWER_FROM_TRAINING @ np.array([0.1, 0.7, -0.1])
    known = np.empty((*x.shape[:3], 4), np.float32)
    known[..., :3] = 0.5 * (toward + 1.0)
    known[..., 3] = np.clip(0.5 + 2.0 * (0.1 - x[..., 0]), 0.0, 1.0)
    return np.rint(255.0 * known).astype(np.uint8)


def _bake(params: SceneParams, k: int, region: bool, objects: bool) -> BakedSubmodel:
    occupied = _occupied(params, k)
    edge, size = params.data_block_size, params.sparse_grid_voxel_size
    grid = params.sparse_grid_resolution // edge
    cells = np.argwhere(occupied)
    # Blocks are sample-centred and occupancy is cell-aligned: a cell may be served by two blocks per axis.
    touched = [np.clip((cells + np.array(corner) - 1) // edge, 0, grid - 1) for corner in np.ndindex(2, 2, 2)]
    coords = np.unique(np.concatenate(touched), axis=0)
    offsets = np.stack(np.meshgrid(*(np.arange(edge + 1),) * 3, indexing="ij"), -1)
    blocks = np.zeros((len(coords), edge + 1, edge + 1, edge + 1, 8), np.uint8)
    for i, coord in enumerate(coords):
        points = (coord * edge + offsets + 0.5) * size - 2.0
        blocks[i] = _to_bytes(params, _voxel_values(params, _world(params, k, points)))
    atlas, indices = build_atlas(blocks, coords, grid)
    cells = max_pool(occupied, 2)
    baked = BakedSubmodel(
        index=params.params_to_sm[k],
        atlas=atlas,
        block_indices=indices,
        planes=_to_bytes(params, _plane_values(params)),
        occupancy={8 * 2**i: pack_bits(max_pool(occupied, 2**i)) for i in range(3)},
        distance={8: distance_grid(cells)},
        known=_known(params, k) if region else None,
        solid=pack_bits(occupied) if region else None,
    )
    if objects:
        baked.object_ids = _object_ids(params, k, baked)
    return baked
