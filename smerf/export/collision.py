"""What stops a visitor as a mesh: the faces between solid and empty cells, for game engines and other viewers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene.grids import unpack_bits
from smerf.scene.read import load_scene
from smerf.scene.region import uncontract
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedScene

__all__ = ["collision_mesh", "export_collision"]

_OUTERMOST = 1.9
"""Contracted coordinate beyond which cells are so long that nobody walks there."""
_GLTF_FROM_TRAINING = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""glTF has y up and looks along -z."""


def export_collision(scene_dir: Path, path: Path) -> Path:
    """Write the collision mesh of a baked scene as GLB in the units of its source, y up, and return ``path``.

    Raises:
        InvalidDataError: If the scene has no known region, which says what photos confirm.
    """
    import trimesh

    scene = load_scene(scene_dir, cache_size=1)
    if scene.manifest.region is None:
        raise InvalidDataError(f"{scene_dir}: has no known region; bake it again (bake.region)")
    vertices, faces = collision_mesh(scene)
    similarity = scene.manifest.training_from_source
    source = (vertices - similarity.translation) @ similarity.rotation / similarity.scale
    mesh = trimesh.Trimesh(source @ _GLTF_FROM_TRAINING.T, faces, process=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene(mesh)))
    return path


def collision_mesh(scene: BakedScene) -> tuple[np.ndarray, np.ndarray]:
    """Return vertices (V, 3) in training space and triangles (F, 3), wound so that they face empty cells.

    Every submodel gives the part of space for which it is rendered; a scene of one submodel gives all.
    """
    vertices, faces, count = [], [], 0
    for k in range(len(scene.params.params_to_sm)):
        points, triangles = _submodel_mesh(scene, k)
        vertices.append(points)
        faces.append(triangles + count)
        count += len(points)
    return np.concatenate(vertices), np.concatenate(faces)


def _submodel_mesh(scene: BakedScene, k: int) -> tuple[np.ndarray, np.ndarray]:
    submodel, params = scene.submodel(k), scene.params
    packed = submodel.solid if submodel.solid is not None else submodel.occupancy[8]
    solid = np.pad(unpack_bits(packed), 1)
    corners, cells = [], []
    for axis in range(3):
        for side in (-1, 1):
            cell = np.argwhere(solid & ~np.roll(solid, -side, axis)) - 1
            corners.append(_quads(cell, axis, side))
            cells.append(cell)
    quads, owner = np.concatenate(corners), np.concatenate(cells)
    size = 4.0 / (len(solid) - 2)
    keep = (np.abs(quads * size - 2.0) < _OUTERMOST).all((1, 2)) & _is_served(scene, k, owner, size)
    unique, index = np.unique(quads[keep].reshape(-1, 3), axis=0, return_inverse=True)
    index = index.reshape(-1, 4)
    training = _to_training(unique * size - 2.0) / params.submodel_scale + params.submodel_centre(k)
    return training, np.concatenate([index[:, [0, 1, 2]], index[:, [0, 2, 3]]])


def _quads(cell: np.ndarray, axis: int, side: int) -> np.ndarray:
    """Return the corners (n, 4, 3) of the faces of cells (n, 3), seen from outside in the order of training axes."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    offsets = np.zeros((4, 3), np.int64)
    offsets[:, axis] = side > 0
    offsets[[1, 2], first] = 1
    offsets[[2, 3], second] = 1
    # Viewer axes are turned, not mirrored, against training axes: the order of corners stays.
    return cell[:, None] + (offsets if side > 0 else offsets[::-1])


def _is_served(scene: BakedScene, k: int, cell: np.ndarray, size: float) -> np.ndarray:
    """Return which cells (n, 3) lie where submodel k is rendered."""
    if len(scene.params.params_to_sm) == 1:
        return np.ones(len(cell), bool)
    middle = _to_training((cell + 0.5) * size - 2.0) / scene.params.submodel_scale
    local = np.abs(middle).max(-1) if len(middle) else np.zeros(0)
    return np.asarray(local <= 1.0 / scene.params.submodel_grid_resolution)


def _to_training(contracted: np.ndarray) -> np.ndarray:
    """Undo the contraction of points (n, 3) and turn them to training axes."""
    return np.asarray(uncontract(contracted) @ VIEWER_FROM_TRAINING.T)
