"""What the windows of both desktop viewers share: events in, an image and panels of text out. GLFW names the keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from smerf.errors import SmerfError

from .base_view import BaseView
from .context import create_window
from .controls import HELD_KEYS
from .overlay import Panel

__all__ = ["BaseWindow", "PanelRows"]

PanelRows = tuple[str, Sequence[Sequence[str]], tuple[float, float]]
"""Name of a panel, its rows of cells, and where it lies as fractions of the window from its upper left."""

_WHEEL_STEP = 0.15
_NOTICE_SECONDS, _HINT_SECONDS, _ERROR_SECONDS = 2.5, 6.0, 8.0
_IDLE_SECONDS = 0.25
_TEXT_SIZE = 15


class BaseWindow:
    """A window around a view. ``_set_up`` makes the view once there is a context; ``viewer`` holds it.

    Args:
        title: Name of the scene, for the title bar.
        size: Window size in screen units.
        output: Folder for what is saved.
        panels: Names of the panels.

    Raises:
        MissingPartError: If no window can be opened here.
    """

    viewer: BaseView

    def __init__(self, title: str, size: tuple[int, int], output: Path, panels: Sequence[str]) -> None:
        import glfw

        self.window = create_window(*size, f"{title} - smerf")
        self.glfw, self.output = glfw, output
        self.is_help_shown = False
        self._button: int | None = None
        self._pointer = (0.0, 0.0)
        self._notice: tuple[str, float] | None = None
        self._wants_image: Path | None = None
        self._is_dirty = True
        self._panels = {name: Panel() for name in panels}
        glfw.swap_interval(1)

    def _set_up(self, viewer: BaseView) -> None:
        """Take the view, and start listening to events."""
        self.viewer = viewer
        self._held = _held_keys(self.glfw)
        self._actions = {
            (key, held): act for held in (False, True) for key, act in self._bind_keys(held).items()
        }
        self._listen()

    @property
    def framebuffer_size(self) -> tuple[int, int]:
        """Size in pixels, which on dense screens is more than the window's size in screen units."""
        width, height = self.glfw.get_framebuffer_size(self.window)
        return max(1, width), max(1, height)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Show the window until it is closed, or ``until`` says so."""
        glfw = self.glfw
        self.tell("H: help    drag: turn    wheel: nearer", _HINT_SECONDS)
        while not glfw.window_should_close(self.window) and not until():
            if self.viewer.needs_ticks:
                glfw.poll_events()
            else:
                glfw.wait_events_timeout(self._idle_seconds())
            self.step(time.monotonic())

    def step(self, now: float) -> None:
        """Do what is due at ``now``: move, render, and show what changed."""
        has_changed = self.viewer.tick(now)
        if self._wants_image is not None and self.viewer.is_finished:
            path, self._wants_image = self._wants_image, None
            self._guarded(lambda: self.viewer.save_image(path), f"Saved {path}")
        if self._notice and now >= self._notice[1]:
            self._notice, self._is_dirty = None, True
        if has_changed or self._is_dirty:
            self.draw()

    def draw(self) -> None:
        """Put the image and the panels on the screen."""
        size = self.framebuffer_size
        self._draw_image(size)
        text = round(_TEXT_SIZE * max(1.0, self.glfw.get_window_content_scale(self.window)[0]))
        for name, rows, place in self._shown_panels():
            self._panels[name].draw(rows, text, size, place)
        message = self._message()
        if message:
            self._panels["notice"].draw([(message,)], text, size, (0.5, 1.0))
        self._is_dirty = False
        self.glfw.swap_buffers(self.window)

    def tell(self, text: str, seconds: float = _NOTICE_SECONDS) -> None:
        """Show a sentence for a while."""
        self._notice = (text, time.monotonic() + seconds)
        self._is_dirty = True

    def save_image(self, path: Path | None = None) -> None:
        """Write the full-detail image of this view as soon as it is there."""
        self._wants_image = path or self._free_name("view", ".png")
        self._is_dirty = True

    def close(self) -> None:
        """Free everything and close the window; may be called twice."""
        if self.window is None:
            return
        # Another window may have been current since.
        self.glfw.make_context_current(self.window)
        self._free()
        self.glfw.destroy_window(self.window)
        self.window = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # What a window adds

    def _bind_keys(self, has_control: bool) -> dict[int, Callable[[], object]]:
        """Return what keys do when they go down, with or without the control key."""
        glfw = self.glfw
        if not has_control:
            return {}

        def close() -> None:
            glfw.set_window_should_close(self.window, True)

        return {glfw.KEY_Q: close, glfw.KEY_W: close}

    def _draw_image(self, size: tuple[int, int]) -> None:
        """Put the image on the framebuffer of this size."""
        raise NotImplementedError

    def _shown_panels(self) -> Iterator[PanelRows]:
        """Return the panels to draw, in this order."""
        raise NotImplementedError

    def _message(self) -> str | None:
        return self._notice[0] if self._notice else None

    def _free(self) -> None:
        self.viewer.close()
        for panel in self._panels.values():
            panel.free()

    def _idle_seconds(self) -> float:
        if not self._notice:
            return _IDLE_SECONDS
        return min(_IDLE_SECONDS, max(0.01, self._notice[1] - time.monotonic()))

    # Events

    def _listen(self) -> None:
        glfw, window = self.glfw, self.window
        glfw.set_framebuffer_size_callback(window, lambda _, w, h: self._resize(w, h))
        glfw.set_window_refresh_callback(window, lambda _: self.draw())
        glfw.set_window_focus_callback(
            window, lambda _, focused: focused or self.viewer.controls.keys.clear()
        )
        glfw.set_key_callback(window, lambda _, key, code, action, mods: self.on_key(key, action, mods))
        glfw.set_mouse_button_callback(window, lambda _, *event: self.on_button(*event))
        glfw.set_cursor_pos_callback(window, lambda _, x, y: self.on_pointer(x, y))
        glfw.set_scroll_callback(window, lambda _, x, y: self.viewer.controls.dolly(-_WHEEL_STEP * y))

    def _resize(self, width: int, height: int) -> None:
        raise NotImplementedError

    def on_key(self, key: int, action: int, mods: int) -> None:
        """A key of GLFW went down, up or repeats."""
        glfw = self.glfw
        name = self._held.get(key)
        keys = self.viewer.controls.keys
        if action == glfw.RELEASE:
            keys.discard(name or "")
            return
        has_control = bool(mods & (glfw.MOD_CONTROL | glfw.MOD_SUPER))
        if name is not None and not has_control:
            keys.add(name)
            return
        act = self._actions.get((key, has_control))
        if act is not None and action == glfw.PRESS:
            act()
            self._is_dirty = True

    def on_button(self, button: int, action: int, mods: int) -> None:
        """A mouse button went down or up."""
        raise NotImplementedError

    def on_pointer(self, x: float, y: float) -> None:
        """The pointer moved, in screen units."""
        if self._button is None:
            return
        before, self._pointer = self._pointer, (x, y)
        self._drag(before, (x, y))

    def _drag(self, before: tuple[float, float], after: tuple[float, float]) -> None:
        """Turn with the left button, pan with the others or with Shift; points in screen units."""
        controls = self.viewer.controls
        dx, dy = after[0] - before[0], after[1] - before[1]
        if self._button != self.glfw.MOUSE_BUTTON_LEFT or "SHIFT" in controls.keys:
            controls.pan(dx, dy, self.glfw.get_window_size(self.window)[1])
        else:
            controls.rotate(dx, dy)

    def _toggle_help(self) -> None:
        self.is_help_shown = not self.is_help_shown

    def _guarded(self, act: Callable[[], None], done: str) -> None:
        try:
            act()
        except (SmerfError, OSError) as error:
            self.tell(str(error), _ERROR_SECONDS)
        else:
            self.tell(done)

    def _free_name(self, stem: str, suffix: str) -> Path:
        """Return the first ``stem_001`` of the output folder that does not exist yet."""
        self.output.mkdir(parents=True, exist_ok=True)
        number = 1
        while (path := self.output / f"{stem}_{number:03d}{suffix}").exists():
            number += 1
        return path


def _held_keys(glfw: Any) -> dict[int, str]:
    """Return GLFW's numbers of the keys that act while they are held."""
    modifiers = ("SHIFT", "ALT")
    names = {getattr(glfw, f"KEY_{name}"): name for name in HELD_KEYS.difference(modifiers)}
    sides = ((side, name) for side in ("LEFT", "RIGHT") for name in modifiers)
    return names | {getattr(glfw, f"KEY_{side}_{name}"): name for side, name in sides}
