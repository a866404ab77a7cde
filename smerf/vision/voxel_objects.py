"""From points whose object is known to the objects of a baked submodel's voxels.

Points stand for equal shares of the weight with which photos' rays show them, so that the object with the most points
in a voxel is that with the greatest weight. Letter: N points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from smerf.scene.grids import atlas_slots
from smerf.scene.objects import SceneObject
from smerf.scene.region import contract, uncontract
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedSubmodel, SceneParams

__all__ = ["VoxelVotes", "spread_objects"]

_MERGE_EVERY = 16
_CHUNK = 512
"""Blocks looked at together."""
_MARGIN = 0.25
"""Share of a box by which it is grown: labels' boxes leave out the outermost voxels."""


class _Boxes:
    """The objects' boxes, somewhat grown."""

    def __init__(self, objects: Sequence[SceneObject], voxel: float) -> None:
        self.low, self.high = np.full((256, 3), np.inf), np.full((256, 3), -np.inf)
        for each in objects:
            reach = (1.0 + _MARGIN) * np.array(each.half) + voxel
            self.low[each.id], self.high[each.id] = each.centre - reach, each.centre + reach
        self._ids = [each.id for each in objects]

    def hold(self, points: np.ndarray, ids: np.ndarray | int) -> np.ndarray:
        """Return which points (N, 3) lie in the boxes of objects (N,)."""
        return np.asarray(((points >= self.low[ids]) & (points <= self.high[ids])).all(-1))

    def any_holds(self, points: np.ndarray) -> np.ndarray:
        """Return which points (N, 3) lie in any box."""
        held = np.zeros(len(points), bool)
        for each in self._ids:
            held |= self.hold(points, each)
        return held


class VoxelVotes:
    """Counts which objects' points lie in the voxels of submodel k, at the resolution of ``params``."""

    def __init__(self, params: SceneParams, k: int, objects: Sequence[SceneObject]) -> None:
        self.params, self.k = params, k
        self.boxes = _Boxes(objects, params.sparse_grid_voxel_size / params.submodel_scale)
        self._keys, self._counts = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._waiting: list[np.ndarray] = []

    def add(self, points: np.ndarray, ids: np.ndarray) -> None:
        """Count points (N, 3) of training space and their objects (N,), 0 for none.

        Points outside the box of their object, such as those of rays that pass its edge, belong to none.
        """
        ids = np.where(self.boxes.hold(points, ids), ids, 0)
        params, size = self.params, self.params.sparse_grid_voxel_size
        local = (points - params.submodel_centre(self.k)) @ VIEWER_FROM_TRAINING.T * params.submodel_scale
        voxel = np.floor((contract(local) + 2.0) / size).astype(np.int64)
        keys = _voxel_keys(voxel.clip(0, params.sparse_grid_resolution - 1), params)
        self._waiting.append((keys << 8) | ids)
        if len(self._waiting) >= _MERGE_EVERY:
            self._merge()

    def _merge(self) -> None:
        keys, inverse = np.unique(np.concatenate([self._keys, *self._waiting]), return_inverse=True)
        fresh = sum(len(each) for each in self._waiting)
        counts = np.concatenate([self._counts, np.ones(fresh, np.int64)])
        self._keys, self._counts = keys, np.bincount(inverse, counts, len(keys)).astype(np.int64)
        self._waiting = []

    def winners(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the voxels with points, ascending int64 (V,), and the object that has most of each, uint8 (V,)."""
        if self._waiting:
            self._merge()
        order = np.lexsort((self._counts, self._keys >> 8))
        voxels = (self._keys >> 8)[order]
        is_last = np.ones(len(voxels), bool)
        is_last[:-1] = voxels[1:] != voxels[:-1]
        return voxels[is_last], (self._keys[order][is_last] & 255).astype(np.uint8)


def _voxel_keys(voxels: np.ndarray, params: SceneParams) -> np.ndarray:
    size = params.sparse_grid_resolution
    return np.asarray((voxels[..., 0] * size + voxels[..., 1]) * size + voxels[..., 2])


def _centres(voxels: np.ndarray, params: SceneParams, k: int) -> np.ndarray:
    """Return the centres of voxels (N, 3) in training space."""
    local = uncontract((voxels + 0.5) * params.sparse_grid_voxel_size - 2.0) / params.submodel_scale
    return np.asarray(local @ VIEWER_FROM_TRAINING.T + params.submodel_centre(k))


def spread_objects(votes: VoxelVotes, submodel: BakedSubmodel) -> np.ndarray:
    """Return the object of every voxel of a level's atlas, uint8 (W, H, D).

    Voxels that no photo's ray shows, such as those inside a thing, take the object of the nearest voxel that one does,
    within that object's box.
    """
    params, k, boxes = votes.params, votes.k, votes.boxes
    edge, size = params.data_block_size + 1, params.sparse_grid_resolution
    keys, winners = votes.winners()
    seen = np.stack(np.unravel_index(keys, (size,) * 3), -1)
    near = boxes.any_holds(_centres(seen, params, k)) if len(keys) else np.zeros(0, bool)
    tree = cKDTree(seen[near]) if near.any() else None
    offsets = np.stack(np.meshgrid(*(np.arange(edge),) * 3, indexing="ij"), -1).reshape(-1, 3)
    ids = np.zeros(submodel.atlas.shape[:3], np.uint8)
    width, height, depth = (length // edge for length in submodel.atlas.shape[:3])
    is_written = np.zeros((width, height, depth), np.bool_)
    coords, slots = atlas_slots(submodel.block_indices, edge)
    for start in range(0, len(coords), _CHUNK):
        part = coords[start : start + _CHUNK]
        voxels = (part[:, None] * params.data_block_size + offsets).clip(max=size - 1).reshape(-1, 3)
        found = _look_up(keys, winners, _voxel_keys(voxels, params))
        if tree is not None:
            _fill(found, voxels, _centres(voxels, params, k), boxes, tree, winners[near])
        values = found.clip(0).astype(np.uint8).reshape(-1, edge, edge, edge)
        for value, (x, y, z) in zip(values, slots[start : start + _CHUNK]):
            slot = (x // edge, y // edge, z // edge)
            place = ids[x : x + edge, y : y + edge, z : z + edge]
            # Blocks of equal content share a slot: what they do not agree on belongs to nobody.
            place[...] = np.where(place == value, value, 0) if is_written[slot] else value
            is_written[slot] = True
    return ids


def _look_up(keys: np.ndarray, winners: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the objects of voxels, int16, -1 for those without points."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int16)
    place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[place] == wanted, winners[place].astype(np.int16), -1)


def _fill(
    found: np.ndarray,
    voxels: np.ndarray,
    points: np.ndarray,
    boxes: _Boxes,
    tree: cKDTree,
    owners: np.ndarray,
) -> None:
    """Give voxels without points, in boxes, the object of the nearest one that has some."""
    rows = np.flatnonzero(found < 0)
    rows = rows[boxes.any_holds(points[rows])]
    if len(rows):
        nearest = owners[tree.query(voxels[rows])[1]]
        found[rows] = np.where(boxes.hold(points[rows], nearest), nearest, 0)
