"""The controls in a scene with a known region: they stay where photos are, and walk, without any window."""

from __future__ import annotations

import numpy as np
import pytest

from smerf.export.desktop import desktop_viewer
from smerf.scene.example import example_scene
from smerf.scene.walk import Place

desktop_viewer("controls")

from smerf.viewer.desktop.camera import look_at  # noqa: E402
from smerf.viewer.desktop.controls import Controls  # noqa: E402
from smerf.viewer.desktop.visitor import Visitor, look  # noqa: E402
from tests.helpers.example_regions import unseen_beside  # noqa: E402

DT = 1 / 30
EYE = 0.55


@pytest.fixture
def controls():
    scene = example_scene(128, region=True)
    visitor = Visitor(EYE, lambda: (0.6, 0.45))
    visitor.place = Place.of(scene, 0)
    made = Controls(lambda u, v: 0.5, mode="fly", visitor=visitor)
    made.set_pose(look_at(np.array([-0.5, -0.4, 0.0]), np.array([-0.5, 0.5, 0.0])))
    return made


def hold(controls, key, seconds):
    controls.keys = {key}
    for _ in range(round(seconds / DT)):
        controls.update(DT)
    controls.keys = set()
    for _ in range(60):
        controls.update(DT)
    return controls.pose[:, 3]


def test_the_camera_comes_back_from_what_nobody_photographed(controls):
    x = hold(controls, "D", 4.0)[0]
    assert -0.5 < x < 0.4 and controls.visitor.is_held
    controls.visitor.is_free = True
    assert hold(controls, "D", 4.0)[0] > 0.8


def test_views_are_known_where_photos_look_along_them(controls):
    place = controls.visitor.place
    ahead = controls.heading.basis(np.pi / 2, 0.0, 0.0)
    back = controls.heading.basis(-np.pi / 2, 0.0, 0.0)
    origin = np.array([-0.5, -0.4, 0.0])
    assert look(place, origin, ahead, (0.4, 0.3))[0] > 0.8 > 0.2 > look(place, origin, back, (0.4, 0.3))[0]
    assert look(place, origin + [2.0, 0.0, 0.0], ahead, (0.4, 0.3))[0] == 0.0


def test_nobody_looks_through_what_no_photo_looked_into(controls):
    place = controls.visitor.place
    ahead, beside = controls.heading.basis(np.pi / 2, 0.0, 0.0), np.array([-0.4, -0.4, 0.0])
    before = look(place, beside, ahead, (0.4, 0.3))[0]
    # Right of x = -0.4 may stand what no photo shows.
    place.known = unseen_beside(place.known, place.scale)
    assert before > 0.8 and 0.3 < look(place, beside, ahead, (0.4, 0.3))[0] < 0.85 * before
    controls.set_pose(look_at(np.array([-0.8, -0.4, 0.0]), np.array([-0.8, 0.5, 0.0])))
    assert -0.8 < hold(controls, "D", 4.0)[0] < -0.4


def test_the_camera_does_not_stay_inside_of_things(controls):
    place, ahead = controls.visitor.place, controls.heading.basis(np.pi / 2, 0.0, 0.0)
    start = controls.pose[:, 3]
    inside = start + [0.0, 0.05 + place.cast(start, ahead[2], 4.0), 0.0]
    assert place.is_solid(*inside) and look(place, inside, ahead, (0.4, 0.3))[0] == 0.0
    # Only a little is known there, so that the wall is what stops the camera.
    controls.visitor.pull = lambda origin, basis, dt: float(place.is_solid(*origin)) * 0.3
    y = hold(controls, "W", 4.0)[1]
    assert start[1] + 0.1 < y < inside[1] and controls.visitor.is_held


def test_the_near_plane_comes_closer_before_near_things(controls):
    visitor = controls.visitor
    assert visitor.near_plane(0.2) == 0.2
    visitor.nearest = 0.1
    assert visitor.near_plane(0.2) == pytest.approx(0.06)
    visitor.nearest = 0.0
    assert visitor.near_plane(0.2) == pytest.approx(0.02)


def test_a_walker_keeps_to_the_floor_and_stops_at_the_furniture(controls):
    controls.visitor.is_free = True
    controls.set_mode("walk")
    _, y, z = hold(controls, "W", 6.0)
    # The blue box begins at y = 0.3, as cells of a sixteenth see it; the floor's top is at about -0.62.
    assert -0.2 < y < 0.3 and abs(z - (-0.62 + EYE)) < 0.2


def test_a_walker_goes_where_it_is_sent(controls):
    controls.visitor.is_free = True
    controls.set_mode("walk")
    before = controls.pose[:, 3]
    controls.focus(0.5, 0.9, np.array([0.0, 0.8, -0.6]))
    for _ in range(150):
        controls.update(DT)
    after = controls.pose[:, 3]
    assert 0.1 < after[1] - before[1] < 0.45 and abs(after[0] - before[0]) < 0.05
    assert not controls.visitor.is_busy
