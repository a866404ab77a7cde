"""The window's list of objects: a click selects, keys hide, isolate and show."""

from __future__ import annotations

import numpy as np
import pytest

from smerf.scene.example import example_scene
from tests.viewer.desktop.test_window import press, screen, settle

RED, BLUE = 1, 77


@pytest.fixture
def window(open_window):
    return open_window(example_scene(64, objects=True), size=(96, 72))


def owners(window):
    """Return the object that each pixel of the window shows."""
    width, height = window.viewer.size
    found = [
        window.viewer.object_at((x + 0.5) / width, (y + 0.5) / height)
        for y in range(height)
        for x in range(width)
    ]
    return np.array(found).reshape(height, width)


def click(window, row, column, drag=0):
    g = window.glfw
    window.on_button(g.MOUSE_BUTTON_LEFT, g.PRESS, 0)
    window._pointer = window._pressed_at = (column + 0.5, row + 0.5)
    if drag:
        window.on_pointer(column + 0.5 + drag, row + 0.5)
    window.on_button(g.MOUSE_BUTTON_LEFT, g.RELEASE, 0)


def test_a_click_selects_and_keys_hide_isolate_and_show(window):
    g, objects = window.glfw, window.viewer.objects
    plain, owner = settle(window), owners(window)
    row, column = (int(x) for x in np.median(np.argwhere(owner == RED), 0))
    assert owner[row, column] == RED and (owner == BLUE).any()
    click(window, row, column)
    assert objects.selected is None, "the list is closed"
    press(window, g.KEY_O)
    click(window, row, column, drag=20)
    assert objects.selected is None, "that was a drag"
    window.viewer.reset()
    click(window, row, column)
    assert objects.selected == RED and window._notice[0] == "red box"
    lit = settle(window)
    assert (np.abs(lit - plain).max(-1)[owner == RED] > 8).mean() > 0.9
    shown = screen(window)
    assert np.abs(shown - lit)[:, 48:].max() > 30, "the list lies over the picture"
    press(window, g.KEY_H)
    hidden = settle(window)
    assert not window.is_help_shown and RED not in owners(window)
    assert (np.abs(hidden - plain).max(-1)[owner == RED] > 20).mean() > 0.9
    press(window, g.KEY_C)
    copied = g.get_clipboard_string(None).decode()
    assert copied.startswith("#pos=") and copied.endswith("&object=1&hidden=1")
    press(window, g.KEY_PAGE_DOWN)
    press(window, g.KEY_I)
    assert objects.selected == BLUE and objects.hidden == {0, RED}
    assert set(np.unique(owners(window))) == {0, BLUE}
    press(window, g.KEY_U)
    press(window, g.KEY_ESCAPE)
    assert np.array_equal(settle(window), plain) and objects.is_open
    press(window, g.KEY_ESCAPE)
    press(window, g.KEY_H)
    assert not objects.is_open and window.is_help_shown


def test_a_scene_without_objects_says_so(open_window):
    window = open_window(example_scene(64), size=(48, 36))
    press(window, window.glfw.KEY_O)
    assert "no objects" in window._notice[0] and not window.viewer.objects.is_open
