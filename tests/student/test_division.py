"""How many submodels a capture gets: by where its cameras are, with the reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from smerf.capture.types import Camera, Capture, Frame, Intrinsics, Similarity
from smerf.student.division import divide, looks_about

LENS = Intrinsics("PINHOLE", 64, 48, 40.0, 40.0, 32.0, 24.0)


def capture(centres, views, points=None):
    """Make a capture of cameras at ``centres`` that look along ``views``."""
    frames = []
    for index, (centre, view) in enumerate(zip(np.asarray(centres, float), np.asarray(views, float))):
        back = -view / np.linalg.norm(view)
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        pose = np.stack([right, np.cross(back, right), back, centre], 1)
        frames.append(Frame(f"{index}.jpg", Path("x"), Camera(LENS, pose), "train"))
    points = np.zeros((0, 3)) if points is None else points
    return Capture(Path("x"), "fake", tuple(frames), Similarity(), 0.05, np.inf, False, None, points)


def walk(count=240, seed=0):
    """Return a closed walk in a square, with cameras that look in all directions."""
    turn = np.linspace(0.0, 8.0, count, endpoint=False)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1], [-1, -1]], float)
    side, part = (turn / 2).astype(int), (turn / 2) % 1
    place = corners[side] + part[:, None] * (corners[side + 1] - corners[side])
    angle = np.random.default_rng(seed).uniform(0, 2 * np.pi, count)
    centres = np.concatenate([place, np.zeros((count, 1))], 1)
    return centres, np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1)


def orbit(count=60):
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    centres = np.stack([np.cos(angle), np.sin(angle), 0.3 + 0 * angle], 1)
    return centres, -centres


def test_an_orbit_and_an_object_get_one_submodel():
    found = divide(capture(*orbit()))
    assert (found.edge, found.submodels) == (1, 1) and "circle" in found.reason
    found = divide(replace(capture(*walk()), background="white"))
    assert found.edge == 1 and "object" in found.reason


def test_a_walk_gets_cells_with_enough_photos_each():
    found = divide(capture(*walk(240)))
    assert found.edge >= 2 and found.submodels > 1 and "walk" in found.reason
    assert 240 / found.submodels >= 16
    more = divide(capture(*walk(900)))
    assert more.edge > found.edge and more.submodels > found.submodels
    assert divide(capture(*walk(24))).edge == 1


def test_a_walk_within_one_room_gets_one_submodel():
    centres, views = walk(240)
    rng = np.random.default_rng(1)
    far = rng.normal(size=(4000, 3))
    walls = 4.0 * far / np.linalg.norm(far, axis=1, keepdims=True)
    found = divide(capture(centres, views, walls))
    assert found.edge == 1 and "one room" in found.reason


@pytest.mark.parametrize("most", [1, 4])
def test_little_time_allows_few_submodels_and_says_so(most):
    found = divide(capture(*walk(900)), most)
    assert found.submodels <= most and "time" in found.reason


def test_photos_of_a_walk_look_about_and_those_of_an_orbit_do_not():
    assert looks_about(capture(*walk()).frames)
    assert not looks_about(capture(*walk(24)).frames)
    assert not looks_about(capture(*orbit()).frames)
