"""How the camera answers to keys, mouse and gamepad; the same numbers as on the page."""

from __future__ import annotations

import math

import numpy as np
import pytest

from smerf.viewer.desktop.camera import Heading, view_text
from smerf.viewer.desktop.controls import Controls
from tests.helpers.tiny_scene import look_at

NO_BUTTONS = [False] * 15


def settle(controls):
    for _ in range(300):
        if not controls.update(1 / 60):
            return controls.pose
    raise AssertionError("the motion does not end")


def start(mode="orbit", depth=None, pose=None, target=(0.0, 0.0, 0.0)):
    controls = Controls(lambda u, v: depth, mode=mode)
    pose = look_at([0, -2, 0], [0, 0, 0]) if pose is None else pose
    controls.set_pose(pose, None if target is None else np.array(target))
    return controls


def rolled(pose, degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.eye(4)
    turn[:2, :2] = [[c, -s], [s, c]]
    return pose @ turn


def test_a_camera_stays_exactly_as_it_was_given_until_it_is_moved():
    pose = rolled(look_at([0.3, -2.0, 0.7], [0, 0, 0]), 25)
    controls = start(pose=pose)
    assert not controls.update(0.1)
    assert np.array_equal(controls.pose, pose[:3])


def test_headings_give_back_the_camera_they_were_taken_from():
    heading = Heading()
    for origin, degrees in (([1, -2, 0.5], 0), ([-1, 0.2, -1.5], 40), ([0.1, 3, 0], -170)):
        pose = rolled(look_at(origin, [0, 0, 0]), degrees)[:3]
        assert np.allclose(heading.pose(*heading.of_pose(pose), pose[:, 3]), pose, atol=1e-9)


def test_dragging_orbits_around_the_target_and_the_scene_follows_the_pointer():
    controls = start()
    controls.rotate(50, 0)
    pose = settle(controls)
    assert np.linalg.norm(pose[:, 3]) == pytest.approx(2, abs=1e-3)
    assert -pose[:, 2] @ -pose[:, 3] == pytest.approx(2, abs=1e-3)
    assert pose[0, 3] < -0.3


def test_without_a_target_the_orbit_turns_around_what_the_picture_shows():
    controls = start(depth=1.5, target=None)
    controls.rotate(100, 0)
    pose = settle(controls)
    assert np.linalg.norm(pose[:, 3] - [0, -0.5, 0]) == pytest.approx(1.5, abs=1e-3)


@pytest.mark.parametrize(
    ("key", "axis", "sign"), [("W", 1, 1), ("S", 1, -1), ("A", 0, -1), ("D", 0, 1), ("Q", 2, -1), ("E", 2, 1)]
)
def test_keys_fly_along_six_directions(key, axis, sign):
    controls = start("fly")
    controls.keys.add(key)
    for _ in range(30):
        assert controls.update(1 / 60)
    controls.keys.clear()
    moved = settle(controls)[:, 3] - [0, -2, 0]
    assert moved[axis] == pytest.approx(sign * 0.4 * 0.5, abs=0.01)
    assert np.allclose(np.delete(moved, axis), 0, atol=1e-6)


@pytest.mark.parametrize(("modifier", "factor"), [("SHIFT", 4.0), ("ALT", 0.25)])
def test_shift_is_faster_and_alt_slower(modifier, factor):
    controls = start("fly")
    controls.keys |= {"W", modifier}
    for _ in range(30):
        controls.update(1 / 60)
    controls.keys.clear()
    assert settle(controls)[1, 3] + 2 == pytest.approx(0.2 * factor, abs=0.01 * factor)


def test_rolling_is_kept_while_flying_and_levelled_on_demand():
    controls = start("fly")
    controls.roll(0.5)
    controls.rotate(20, 10)
    assert abs(controls.heading.of_pose(settle(controls))[2]) == pytest.approx(0.5, abs=1e-3)
    controls.level()
    assert controls.heading.of_pose(settle(controls))[2] == pytest.approx(0, abs=1e-4)


def test_a_drag_moves_the_picture_along_the_drag_even_when_rolled():
    controls = start("fly", pose=look_at([0, -2, 0], [0, 0, 0]))
    controls.roll(math.pi / 2)
    before = settle(controls)
    controls.rotate(40, 0)
    after = settle(controls)
    # The old view direction leaves along the picture's horizontal axis.
    shift = before[:, 2] @ after[:, :2]
    assert abs(shift[0]) > 0.15 and abs(shift[1]) < 0.01


def test_a_photo_that_is_tilted_is_levelled_once_the_user_moves():
    controls = start(pose=rolled(look_at([0, -2, 0], [0, 0, 0]), 30))
    controls.rotate(1, 0)
    assert controls.heading.of_pose(settle(controls))[2] == pytest.approx(0, abs=1e-4)


def test_the_wheel_scales_the_distance_or_flies():
    controls = start()
    controls.dolly(-0.15)
    assert settle(controls)[1, 3] == pytest.approx(-2 * math.exp(-0.15), abs=1e-3)
    controls = start("fly")
    controls.dolly(-0.15)
    assert settle(controls)[1, 3] == pytest.approx(-2 + 0.15 * 0.4, abs=1e-3)


def test_panning_moves_what_is_at_the_target_with_the_pointer():
    controls = start()
    controls.pan(100, 0, 500)
    pose = settle(controls)
    reach = 2 * math.tan(math.radians(20)) * 2 / 500
    assert pose[0, 3] == pytest.approx(-100 * reach, abs=1e-3) and pose[1, 3] == pytest.approx(-2, abs=1e-3)


def test_focus_turns_to_a_point_and_flies_half_way():
    ray = np.array([0.3, 1.0, 0.0])
    ray /= np.linalg.norm(ray)
    controls = start(depth=2.0)
    controls.focus(0.7, 0.5, ray)
    pose = settle(controls)
    assert np.allclose(-pose[:, 2], ray, atol=1e-3) and np.allclose(pose[:, 3], [0, -2, 0], atol=1e-3)
    controls = start("fly", depth=2.0)
    controls.focus(0.7, 0.5, ray)
    assert np.allclose(settle(controls)[:, 3], [0, -2, 0] + ray, atol=1e-3)
    nothing = start()
    nothing.focus(0.5, 0.5, ray)
    assert not nothing.update(0.1)


def test_changing_the_mode_leaves_the_camera_where_it_is():
    controls = start()
    controls.rotate(30, 20)
    before = settle(controls)
    controls.set_mode("fly")
    assert np.allclose(controls.pose, before, atol=1e-6)


def test_moving_interrupts_a_path():
    called = []
    controls = Controls(interrupt=lambda: called.append(1))
    controls.rotate(1, 0)
    assert called


def test_a_gamepad_moves_looks_and_rolls_beyond_its_dead_zone():
    still = [0.05, -0.08, 0.02, 0.09, -1.0, -1.0]
    controls = start("fly")
    assert not controls.gamepad(still, NO_BUTTONS, 1 / 60)
    for _ in range(60):
        controls.gamepad([0, -1, 0, 0, -1, -1], NO_BUTTONS, 1 / 60)
    assert settle(controls)[1, 3] == pytest.approx(-2 + 0.4, abs=0.01)
    controls = start("fly")
    for _ in range(30):
        controls.gamepad([0, 0, 1, 0, -1, -1], NO_BUTTONS, 1 / 60)
    assert -settle(controls)[0, 2] > 0.3
    right_shoulder = [index == 5 for index in range(15)]
    controls.gamepad(still, right_shoulder, 0.1)
    assert controls.heading.of_pose(settle(controls))[2] < -0.05


def test_a_view_is_spelt_as_in_the_pages_address():
    text = view_text(look_at([0, -2, 0.5], [0, 0, 0.5])[:3], 2.0, 40.0)
    assert text == "#pos=0,-2,0.5&look=0,0,0.5&up=0,0,1&fov=40"
