"""Walks through the built-in flat, whose own surfaces are the grid: nobody goes through a wall, nobody is stuck."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.walks import crossings, random_walk
from smerf.capture.synth.assemble import build_world
from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.rigs import rig_poses
from smerf.capture.types import Similarity
from smerf.scene.grids import pack_bits
from smerf.scene.types import VIEWER_FROM_TRAINING, SceneParams
from smerf.scene.walk import Body, Place

_METRES = 6.0
"""Half the edge of the cube that holds the flat."""
_CELLS = 256


def surface_points(vertices: np.ndarray, faces: np.ndarray, spacing: float) -> np.ndarray:
    """Return points (N, 3) on triangles, no farther apart than ``spacing``."""
    corners = vertices[faces].astype(np.float64)
    edges = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=-1).max(-1)
    counts = np.ceil(edges / spacing).astype(int)
    points = []
    for count in np.unique(counts):
        steps = np.array([(i, j) for i in range(count + 1) for j in range(count + 1 - i)]) / max(count, 1)
        chosen = corners[counts == count]
        weights = np.concatenate([1.0 - steps.sum(-1, keepdims=True), steps], -1)
        points.append((weights @ chosen).reshape(-1, 3))
    return np.concatenate(points)


@pytest.fixture(scope="module")
def flat():
    pytest.importorskip("embreex", reason="embreex is not installed: pip install embreex")
    from smerf.capture.synth.tracer import Caster

    spec = load_scene_spec("flat")
    world = build_world(spec, 4.0)
    starts = rig_poses(spec.rig, 60)[:, :3, 3]
    middle = 0.5 * (starts.min(0) + starts.max(0))
    capture = SimpleNamespace(training_from_source=Similarity(1.0 / _METRES, np.eye(3), -middle / _METRES))
    points = (surface_points(world.vertices, world.faces, 0.04) - middle) / _METRES
    cell = np.floor((points @ VIEWER_FROM_TRAINING.T + 2.0) * 0.25 * _CELLS).astype(int)
    solid = np.zeros((_CELLS,) * 3, bool)
    inside = ((cell >= 0) & (cell < _CELLS)).all(-1)
    solid[tuple(cell[inside].T)] = True
    place = Place(SceneParams(4 * _CELLS, 64), 0, pack_bits(solid))
    return place, Caster(world.vertices, world.faces), capture, (starts - middle) / _METRES


def test_nobody_goes_through_a_wall_and_nobody_is_stuck(flat):
    place, caster, capture, starts = flat
    body, length = Body.of_eye(1.5 / _METRES), 0.0
    for seed in range(12):
        way, is_stuck = random_walk(place, body, starts[5 * seed], 0.3 / _METRES, 60, seed)
        assert not is_stuck, seed
        assert crossings(caster, capture, way) == 0, seed
        length += float(np.linalg.norm(np.diff(way, axis=0), axis=-1).sum()) * _METRES
    # They do get about: more than half of what they would without any wall.
    assert length > 0.5 * 12 * 60 * 0.3
