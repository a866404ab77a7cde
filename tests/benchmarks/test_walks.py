"""Walks through the built-in flat, whose own surfaces are the grid: nobody goes through a wall, nobody is stuck."""

from __future__ import annotations

from types import SimpleNamespace
from urllib.parse import urljoin

import numpy as np
import pytest

from benchmarks.browser import chromium
from benchmarks.walks import WALKER, crossings, random_walks
from smerf.capture.synth.assemble import build_world
from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.rigs import rig_poses
from smerf.capture.types import Similarity
from smerf.export.serve import SceneServer
from smerf.scene.grids import pack_bits
from smerf.scene.types import VIEWER_FROM_TRAINING, SceneParams
from smerf.scene.walk import Place

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


@pytest.mark.browser
def test_nobody_goes_through_a_wall_and_nobody_is_stuck(flat, tmp_path):
    place, caster, capture, starts = flat
    chosen = [(seed, starts[seed]) for seed in range(0, 60, 3)]
    length = 0.0
    with SceneServer(tmp_path) as server, chromium() as browser:
        page = browser.new_page()
        page.goto(urljoin(server.url, WALKER))
        for walk in random_walks(page, place, 1.5 / _METRES, 1.0 / _METRES, chosen, 100):
            assert not walk.is_stuck
            assert crossings(caster, capture, walk.way) == 0
            length += float(np.linalg.norm(np.diff(walk.way, axis=0), axis=-1).sum()) * _METRES
    # They do get about: more than half of what they would without any wall.
    assert length > 0.5 * len(chosen) * 100 * 0.3
