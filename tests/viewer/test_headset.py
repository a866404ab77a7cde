"""The page in a headset, emulated: both eyes, turning, going somewhere, and back to the page."""

from __future__ import annotations

import numpy as np
import pytest

from smerf.capture.types import Camera, Intrinsics
from smerf.render import march
from smerf.scene import load_scene
from tests.helpers.tiny_scene import look_at

LEVEL = look_at([0.3, -2.2, 0.0], [0.3, 0, 0.0])
EDGE = 120


@pytest.fixture
def entered(visit, scene_dir, headset):
    """A page whose scene is in the headset; eyes stand in one place, so that both have the page's camera."""
    page = visit(scene_dir, size=(2 * EDGE, EDGE), script=headset).ready()
    page.set_camera(LEVEL, 40)
    page.ready()
    page.page.evaluate("headset.ipd = 0")
    page.page.click("#button-vr")
    page.page.wait_for_timeout(1500)
    return page


def eyes(page):
    frame = page.frame()
    return frame[:, :EDGE], frame[:, EDGE:]


def expected(scene_dir):
    lens = Intrinsics("PINHOLE", EDGE, EDGE, EDGE / 2, EDGE / 2, EDGE / 2, EDGE / 2)
    camera = Camera(lens, np.asarray(LEVEL)[:3])
    return 255 * march.render_camera(load_scene(scene_dir), camera)


def box(image):
    """Return the columns that hold the bright box of the scene."""
    return np.flatnonzero((image[..., 0] > 120).any(0))


def test_each_eye_sees_the_scene_from_where_the_page_stood(entered, scene_dir):
    left, right = eyes(entered)
    wanted = expected(scene_dir)
    # A slow machine has few pixels an eye: edges are soft.
    assert np.median(abs(left - wanted).max(-1)) <= 2
    assert abs(box(left).mean() - box(wanted).mean()) <= 1.5 and len(box(left)) > EDGE // 10
    assert (left == right).mean() > 0.99
    entered.page.evaluate("headset.ipd = 0.3")
    entered.page.wait_for_timeout(1000)
    left, right = eyes(entered)
    assert box(left).mean() > box(right).mean() + 1, "what is near lies further right for the left eye"
    assert entered.errors == []


def test_the_thumb_stick_turns_and_the_trigger_goes_where_it_points(entered):
    page = entered.page
    before = box(eyes(entered)[0])
    page.evaluate("headset.controllers.right.updateAxes('thumbstick', -1, 0)")
    page.wait_for_timeout(1000)
    turned = box(eyes(entered)[0])
    assert turned.mean() > before.mean() + 10, "who turns left sees the box further right"
    page.evaluate("headset.controllers.right.updateAxes('thumbstick', 0, 0)")
    page.wait_for_timeout(500)
    page.evaluate("headset.controllers.right.updateAxes('thumbstick', 1, 0)")
    page.wait_for_timeout(1000)
    assert abs(box(eyes(entered)[0]).mean() - before.mean()) <= 1
    page.evaluate(
        """() => {
          headset.controllers.right.updateAxes('thumbstick', 0, 0);
          headset.controllers.right.position.set(headset.position.x - 0.16, headset.position.y, headset.position.z);
          headset.controllers.right.quaternion.set(0, 0, 0, 1);
          headset.controllers.right.updateButtonValue('trigger', 1);
        }"""
    )
    page.wait_for_timeout(1500)
    assert (eyes(entered)[0].min(-1) == 255).any(), "a mark shows where the ray ends"
    page.evaluate("headset.controllers.right.updateButtonValue('trigger', 0)")
    page.wait_for_timeout(1500)
    assert not np.array_equal(box(eyes(entered)[0]), before)
    assert not (eyes(entered)[0].min(-1) == 255).any()


def test_behind_the_headset_the_page_is_as_it_was(entered):
    page = entered.page
    camera = entered.camera()
    assert page.get_attribute("#button-vr", "aria-pressed") == "true"
    page.evaluate("document.getElementById('button-vr').click()")
    page.wait_for_timeout(500)
    entered.ready()
    assert (
        np.allclose(entered.camera(), camera) and page.get_attribute("#button-vr", "aria-pressed") == "false"
    )
    assert abs(entered.frame()[EDGE // 2, EDGE] - entered.frame()[2, 2]).max() > 60


def test_without_a_headset_nothing_is_offered(visit, scene_dir):
    page = visit(scene_dir).ready()
    assert page.page.locator("#button-vr").is_hidden() and page.page.locator("#button-ar").is_hidden()
