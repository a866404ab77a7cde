"""The desktop windows, driven through their event handlers."""

from __future__ import annotations

import time

import numpy as np


def settle(window, seconds=60.0):
    """Go on until nothing changes any more; return the picture, int16."""
    end = time.monotonic() + seconds
    while not window.viewer.is_finished or window.viewer.needs_ticks:
        assert time.monotonic() < end, "the window does not come to rest"
        window.glfw.poll_events()
        window.step(time.monotonic())
    return window.viewer.image().astype(np.int16)


def press(window, key, mods=0):
    """Press a key and let it go."""
    window.on_key(key, window.glfw.PRESS, mods)
    window.on_key(key, window.glfw.RELEASE, mods)
