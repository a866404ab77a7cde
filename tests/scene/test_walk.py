"""Walking: what stops a visitor, what he climbs, where he lands; the page does the same by the same vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from smerf.scene.example import example_scene
from smerf.scene.types import SceneParams
from smerf.scene.walk import Body, Place, Walker
from tests.helpers.walk_room import VECTORS, run, walk_room

FLOOR, EYE = -0.5, 0.5


@pytest.fixture(scope="module")
def room():
    return walk_room()


def at(x, y, z=FLOOR + EYE):
    return np.array([x, y, z])


def test_nobody_walks_through_a_wall(room):
    walker = Walker(room, Body.of_eye(EYE), at(0.0, 0.0))
    for _ in range(100):
        walker.move(0.05, 0.0, 1 / 60)
    # The wall begins at 0.75; half the body's width stays before it.
    assert 0.5 < walker.x < 0.75 - walker.body.radius + 1e-9


def test_a_wall_is_slid_along(room):
    walker = Walker(room, Body.of_eye(EYE), at(0.0, 0.0))
    for _ in range(40):
        walker.move(0.05, 0.012, 1 / 60)
    assert walker.y == pytest.approx(40 * 0.012, abs=0.02) and walker.x < 0.75


def test_a_step_is_climbed_and_a_table_is_not(room):
    walker = Walker(room, Body.of_eye(EYE), at(0.0, 0.0))
    for _ in range(30):
        walker.move(-0.02, 0.0, 1 / 60)
    assert walker.feet == pytest.approx(FLOOR + 0.125) and walker.x < -0.5
    walker = Walker(room, Body.of_eye(EYE), at(0.3, 0.0))
    for _ in range(30):
        walker.move(0.0, -0.03, 1 / 60)
    assert walker.feet == pytest.approx(FLOOR) and walker.y > -0.5


def test_gravity_brings_one_down_to_eye_height(room):
    walker = Walker(room, Body.of_eye(EYE), at(0.1, 0.1, 0.6))
    heights = [walker.position[2]]
    for _ in range(60):
        walker.move(0.0, 0.0, 1 / 60)
        heights.append(walker.position[2])
    assert heights == sorted(heights, reverse=True) and heights[3] < heights[0]
    assert heights[-1] == pytest.approx(FLOOR + EYE)


def test_one_who_starts_inside_a_thing_is_put_beside_it(room):
    walker = Walker(room, Body.of_eye(EYE), at(0.3, -0.65))
    assert walker.spawn()
    assert walker.feet == pytest.approx(FLOOR)
    before = walker.position
    walker.move(0.0, 0.05, 1 / 60)
    assert walker.y > before[1]


def test_where_nobody_looked_nobody_walks(room):
    known = np.zeros((8, 8, 8, 4), np.uint8)
    known[3:5, :, 3:5, 3] = 255
    place = Place(SceneParams(64, 16), 0, room.occupancy, known)
    walker = Walker(place, Body.of_eye(EYE), at(0.2, 0.0))
    for _ in range(40):
        walker.move(0.03, 0.0, 1 / 60)
    # The cells that photos look into end at half a unit.
    assert 0.4 < walker.x < 0.5


def test_the_place_of_a_baked_submodel_is_solid_where_its_boxes_are():
    scene = example_scene(64, region=True)
    place = Place.of(scene, 0)
    assert place.is_solid(0.35, 0.3, -0.4) and not place.is_solid(-0.1, -0.4, 0.0)
    assert place.is_known(-0.5, 0.0, 0.0) and not place.is_known(0.8, 0.0, 0.0)
    assert place.cast(np.array([-0.1, -0.4, 0.0]), np.array([0.0, 0.0, -1.0]), 2.0) == pytest.approx(
        0.6, abs=0.25
    )


def test_both_implementations_share_these_vectors(room):
    wanted = json.loads(VECTORS.read_text())
    solid = np.array(wanted["solid"], np.uint8).reshape(16, 16, 16).transpose(2, 1, 0)
    assert np.array_equal(solid, room.occupancy)
    for walk in wanted["walks"]:
        assert np.allclose(run(room, walk), walk["positions"], atol=1e-9)
