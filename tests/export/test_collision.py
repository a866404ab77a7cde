"""The collision mesh: closed, facing outward, where the boxes are, in the source's units."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from smerf.errors import InvalidDataError
from smerf.export.collision import collision_mesh, export_collision
from smerf.scene.example import example_scene
from smerf.scene.grids import pack_bits
from smerf.scene.write import write_scene


def write(folder, scene):
    write_scene(folder, scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    return folder


def test_one_solid_cell_is_a_closed_cube_that_faces_outward():
    scene = example_scene(64, region=True)
    cells = np.zeros((16, 16, 16), bool)
    cells[9, 8, 7] = True
    scene.submodel(0).solid = pack_bits(cells)
    mesh = trimesh.Trimesh(*collision_mesh(scene), process=False)
    assert mesh.is_watertight and mesh.volume == pytest.approx(0.25**3)
    # Viewer axes (0.25 .. 0.5, 0 .. 0.25, -0.25 .. 0) are -x, z, y in training space.
    assert np.allclose(mesh.bounds, [[-0.5, -0.25, 0.0], [-0.25, 0.0, 0.25]])


def test_the_file_opens_elsewhere_with_y_up(tmp_path):
    scene = example_scene(64, region=True)
    path = export_collision(write(tmp_path / "scene", scene), tmp_path / "walls.glb")
    mesh = trimesh.load(path, force="mesh")
    assert mesh.volume > 0.0
    # The floor, low in z of training space, is low in y of glTF; the tower outside stands at y = 2.8, here z = -2.8.
    assert mesh.bounds[0][1] < -0.6 and mesh.bounds[0][2] < -1.5


def test_a_scene_without_region_is_refused(tmp_path):
    with pytest.raises(InvalidDataError, match="known region"):
        export_collision(write(tmp_path / "scene", example_scene(64)), tmp_path / "walls.glb")
