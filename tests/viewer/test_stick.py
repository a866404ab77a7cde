"""The stick under the left thumb: touch screens alone, who walks or flies, with another finger that looks around."""

from __future__ import annotations

import numpy as np
import pytest

PHONE = {"has_touch": True, "is_mobile": True, "size": (390, 844)}
FRONT = "dpr=0.2&pos=0,-2.4,0&look=0,0,0&fov=40&free=1"


@pytest.fixture
def phone(visit, described_dir):
    """Open the page on a phone, past the first steps."""

    def open_page(query="", **options):
        page = visit(described_dir, f"{FRONT}&{query}", **PHONE, **options).ready()
        if page.page.locator("#coach-end").is_visible():
            page.page.locator("#coach-end").tap()
        return page

    return open_page


class Fingers:
    """Fingers on a tab, by the browser's own touch events."""

    def __init__(self, tab):
        self.session, self.points = tab.context.new_cdp_session(tab), {}

    def put(self, finger, x, y):
        """Put a finger down, or move it."""
        kind = "touchMove" if finger in self.points else "touchStart"
        self.points[finger] = {"x": x, "y": y, "id": finger}
        self._send(kind)

    def lift(self, finger):
        del self.points[finger]
        self._send("touchEnd")

    def _send(self, kind):
        given = {"type": kind, "touchPoints": list(self.points.values())}
        self.session.send("Input.dispatchTouchEvent", given)


def centre(tab):
    box = tab.locator("#stick").bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def moved(page, dx, dy, milliseconds=1200):
    """Return how the camera moves, in its own axes, while the stick is pushed by (dx, dy) pixels."""
    tab, fingers = page.page, Fingers(page.page)
    before = page.camera()
    x, y = centre(tab)
    fingers.put(0, x, y)
    fingers.put(0, x + dx, y + dy)
    tab.wait_for_timeout(milliseconds)
    fingers.lift(0)
    page.wait_until_still()
    after = page.camera()
    assert np.allclose(before[:3, :3], after[:3, :3], atol=1e-6)
    return before[:3, :3].T @ (after[:3, 3] - before[:3, 3])


def test_it_moves_by_how_far_it_is_pushed(phone):
    page = phone("mode=fly")
    forward, little, right = moved(page, 0, -80), moved(page, 0, -16), moved(page, 60, 0)
    assert -forward[2] > 0.04 and abs(forward[0]) < 0.3 * -forward[2]
    assert 0.0 < -little[2] < 0.7 * -forward[2]
    assert right[0] > 0.04 and abs(right[2]) < 0.3 * right[0]
    # Let go, it is at rest in its middle.
    assert page.page.evaluate("document.querySelector('#stick i').style.transform") == ""
    assert page.errors == []


def test_another_finger_looks_around_meanwhile(phone):
    page = phone("mode=fly")
    tab, fingers = page.page, Fingers(page.page)
    before = page.camera()
    x, y = centre(tab)
    fingers.put(0, x, y - 30)
    fingers.put(1, 300, 300)
    for step in range(1, 7):
        fingers.put(1, 300 - 10 * step, 300)
        tab.wait_for_timeout(60)
    fingers.lift(1)
    fingers.lift(0)
    page.wait_until_still()
    after = page.camera()
    assert np.linalg.norm(after[:3, 3] - before[:3, 3]) > 0.01
    assert np.degrees(np.arccos(np.clip(before[:3, 2] @ after[:3, 2], -1, 1))) == pytest.approx(17.2, abs=4)


def test_it_is_there_for_touch_alone_and_hides_with_the_interface(phone, visit, described_dir):
    tab = phone("mode=fly").page
    stick, dock = (tab.locator(name).bounding_box() for name in ("#stick", "#dock"))
    assert stick["x"] >= 0 and stick["x"] + stick["width"] < 195
    assert stick["y"] + stick["height"] <= dock["y"]
    tab.locator("#button-orbit").tap()
    assert tab.locator("#stick").is_hidden()
    tab.locator("#button-walk").tap()
    assert tab.locator("#stick").is_visible()
    assert phone("mode=fly&ui=0").page.locator("#stick").is_hidden()
    assert visit(described_dir, f"{FRONT}&mode=fly").ready().page.locator("#stick").is_hidden()


def test_no_key_gets_caught_in_it(phone, violations):
    tab = phone("mode=fly", bypass_csp=True).page
    seen = set()
    for _ in range(40):
        tab.keyboard.press("Tab")
        seen.add(tab.evaluate("document.activeElement.id"))
    assert "stick" not in seen and {"view", "button-fly"} <= seen
    assert violations(tab) == []
