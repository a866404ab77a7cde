"""The window of the desktop viewer for a scene of slots: events in, picture and panels out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from smerf.scene.slots import SlotScene

from .context import create_window, gl
from .controls import HELD_KEYS
from .overlay import Panel
from .slot_view import SlotView, moved_on_ground

__all__ = ["HELP", "SlotWindow"]

HELP = (
    ("Objects",),
    ("1 to 9", "hide or show a slot"),
    ("Ctrl+drag", "move the object under the pointer on the ground"),
    ("Click", "highlight the slot under the pointer, or none"),
    ("M", "masks"),
    ("U", "take all edits back"),
    ("Ctrl+S", "save the edits for smerf objects edit --script"),
    ("",),
    ("Drag, right drag, wheel", "turn, shift, nearer or farther"),
    ("W A S D, Q E, arrow keys", "move, down and up, turn"),
    ("R  P  H", "reset, save the picture, this help"),
)
_WHEEL_STEP = 0.15
_NOTICE_SECONDS = 2.5
_CLICK_PIXELS = 4.0
_TEXT_SIZE = 15
_MARGIN = (0.09, 0.09, 0.1, 1.0)


class SlotWindow:
    """A window that shows a scene of slots.

    Args:
        scene: The scene.
        title: Its name, for the title bar.
        size: Window size in screen units.
        fov: Vertical field of view in degrees; that of the input views by default.
        output: Folder for pictures and edits.

    Raises:
        MissingPartError: If no window can be opened here.
    """

    def __init__(
        self,
        scene: SlotScene,
        title: str = "slots",
        size: tuple[int, int] = (960, 800),
        fov: float | None = None,
        output: Path = Path("."),
    ) -> None:
        import glfw

        self.window = create_window(*size, f"{title} - smerf")
        self.glfw, self.output = glfw, output
        self.is_help_shown = False
        self._button: int | None = None
        self._pointer = (0.0, 0.0)
        self._pressed_at = (0.0, 0.0)
        self._dragged: int | None = None
        self._notice: tuple[str, float] | None = None
        self._is_dirty = True
        self._panels = {name: Panel() for name in ("list", "notice", "help")}
        glfw.swap_interval(1)
        self.scene = scene
        self.view = SlotView(scene, self._box()[2:], fov)
        self._keys = {getattr(glfw, f"KEY_{_KEY_NAMES.get(name, name)}"): name for name in HELD_KEYS}
        self._listen()

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Show the window until it is closed, or ``until`` says so."""
        glfw = self.glfw
        while not glfw.window_should_close(self.window) and not until():
            if self.view.needs_ticks:
                glfw.poll_events()
            else:
                glfw.wait_events_timeout(0.1)
            self.step(time.monotonic())

    def step(self, now: float) -> None:
        """Do what is due at ``now``: move, draw, and show what changed."""
        if self._notice and now >= self._notice[1]:
            self._notice, self._is_dirty = None, True
        if self.view.tick(now) or self._is_dirty:
            self.draw()

    def draw(self) -> None:
        """Put the picture and the panels on the screen."""
        GL = gl()
        size = self.glfw.get_framebuffer_size(self.window)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, 0)
        GL.glViewport(0, 0, *size)
        GL.glClearColor(*_MARGIN)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT)
        self.view.present(self._box())
        text = round(_TEXT_SIZE * max(1.0, self.glfw.get_window_content_scale(self.window)[0]))
        rows = self._list()
        if self.is_help_shown:
            self._panels["help"].draw(HELP, text, size, (0.5, 0.5))
        else:
            self._panels["list"].draw(rows, text, size, (0.0, 0.0))
        if self._notice:
            self._panels["notice"].draw([(self._notice[0],)], text, size, (0.5, 1.0))
        self._is_dirty = False
        self.glfw.swap_buffers(self.window)

    def tell(self, text: str) -> None:
        """Show a sentence for a while."""
        self._notice = (text, time.monotonic() + _NOTICE_SECONDS)
        self._is_dirty = True

    def close(self) -> None:
        """Free everything and close the window; may be called twice."""
        if self.window is None:
            return
        self.view.close()
        for panel in self._panels.values():
            panel.free()
        self.glfw.destroy_window(self.window)
        self.window = None

    def __enter__(self) -> SlotWindow:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def on_key(self, key: int, action: int, mods: int) -> None:
        """A key of GLFW went down, up or repeats."""
        glfw, view = self.glfw, self.view
        has_control = bool(mods & (glfw.MOD_CONTROL | glfw.MOD_SUPER))
        name = self._keys.get(key)
        if action == glfw.RELEASE:
            view.controls.keys.discard(name or "")
            return
        if name is not None and not has_control:
            view.controls.keys.add(name)
            return
        if action != glfw.PRESS:
            return
        self._is_dirty = True
        if glfw.KEY_1 <= key <= glfw.KEY_9:
            index = key - glfw.KEY_1
            if index < len(view.scene.slots) and not view.toggle(index):
                self.tell("One slot must stay visible")
        elif has_control and key == glfw.KEY_S:
            path = self._free_name("edits", ".json")
            view.save_operations(path)
            self.tell(f"Saved {path}")
        elif has_control and key in (glfw.KEY_Q, glfw.KEY_W):
            glfw.set_window_should_close(self.window, True)
        elif key == glfw.KEY_M:
            view.are_masks_shown = not view.are_masks_shown
        elif key == glfw.KEY_U:
            view.undo()
        elif key == glfw.KEY_R:
            view.reset()
        elif key == glfw.KEY_P:
            view.finish()
            path = self._free_name("view", ".png")
            self.save_picture(path)
            self.tell(f"Saved {path}")
        elif key in (glfw.KEY_H, glfw.KEY_SLASH):
            self.is_help_shown = not self.is_help_shown
        elif key == glfw.KEY_ESCAPE:
            self.is_help_shown, view.highlight = False, None

    def on_button(self, button: int, action: int, mods: int) -> None:
        """A mouse button went down or up."""
        glfw = self.glfw
        if action == glfw.RELEASE:
            if button == self._button:
                self._click()
                self._button = self._dragged = None
            return
        self._button, self._pointer = button, glfw.get_cursor_pos(self.window)
        self._pressed_at, self._dragged = self._pointer, None
        if button == glfw.MOUSE_BUTTON_LEFT and mods & (glfw.MOD_CONTROL | glfw.MOD_SUPER):
            owner = self.view.owner_at(*self._place(*self._pointer))
            if owner is not None and self.view.scene.slots[owner].is_background:
                self.tell("That is the background; drag an object")
            else:
                self._dragged = owner

    def on_pointer(self, x: float, y: float) -> None:
        """The pointer moved, in screen units."""
        if self._button is None:
            return
        before, self._pointer = self._pointer, (x, y)
        dx, dy = x - before[0], y - before[1]
        view, controls = self.view, self.view.controls
        if self._dragged is not None:
            rays = (view.ray(*self._place(*point)) for point in (before, self._pointer))
            shift = moved_on_ground(controls.pose[:, 3], *rays)
            if np.any(shift):
                view.move(self._dragged, shift)
        elif self._button != self.glfw.MOUSE_BUTTON_LEFT:
            controls.pan(dx, dy, self.glfw.get_window_size(self.window)[1])
        else:
            controls.rotate(dx, dy)

    def save_picture(self, path: Path) -> None:
        """Write the full-detail picture as a PNG."""
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.view.image()).save(path)

    def _click(self) -> None:
        moved = np.hypot(self._pointer[0] - self._pressed_at[0], self._pointer[1] - self._pressed_at[1])
        if self._button == self.glfw.MOUSE_BUTTON_LEFT and self._dragged is None and moved < _CLICK_PIXELS:
            owner = self.view.owner_at(*self._place(*self._pointer))
            self.view.highlight = None if owner == self.view.highlight else owner
            self._is_dirty = True

    def _listen(self) -> None:
        glfw, window = self.glfw, self.window
        glfw.set_framebuffer_size_callback(window, lambda _, w, h: self._resize(w, h))
        glfw.set_window_refresh_callback(window, lambda _: self.draw())
        glfw.set_window_focus_callback(window, lambda _, focused: focused or self.view.controls.keys.clear())
        glfw.set_key_callback(window, lambda _, key, code, action, mods: self.on_key(key, action, mods))
        glfw.set_mouse_button_callback(window, lambda _, *event: self.on_button(*event))
        glfw.set_cursor_pos_callback(window, lambda _, x, y: self.on_pointer(x, y))
        glfw.set_scroll_callback(window, lambda _, x, y: self.view.controls.dolly(-_WHEEL_STEP * y))

    def _resize(self, width: int, height: int) -> None:
        if width and height:
            self.view.resize(*self._box()[2:])
            self._is_dirty = True

    def _box(self) -> tuple[int, int, int, int]:
        """Return where the picture lies, in pixels: beyond the edges of its views a model has learned nothing."""
        width, height = (max(1, side) for side in self.glfw.get_framebuffer_size(self.window))
        aspect = self.scene.aspect
        wide, tall = min(width, round(height * aspect)), min(height, round(width / aspect))
        return (width - wide) // 2, (height - tall) // 2, max(1, wide), max(1, tall)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """Turn a point of the window into fractions of the picture, from its upper left."""
        window = self.glfw.get_window_size(self.window)
        pixels = self.glfw.get_framebuffer_size(self.window)
        left, low, width, height = self._box()
        top = pixels[1] - low - height
        u = (x * pixels[0] / max(1, window[0]) - left) / width
        v = (y * pixels[1] / max(1, window[1]) - top) / height
        return u, v

    def _list(self) -> list[tuple[str, ...]]:
        view = self.view
        rows: list[tuple[str, ...]] = []
        for index, slot in enumerate(view.scene.slots):
            state = "hidden" if index in view.edits.hidden else "background" if slot.is_background else ""
            mark = ">" if index == view.highlight else " "
            rows.append((f"{mark} {index + 1}", f"slot {slot.number}", f"{slot.share:.0%}", state))
        return [*rows, ("H: help",)]

    def _free_name(self, stem: str, suffix: str) -> Path:
        number = 0
        while (path := self.output / f"{stem}-{number:03d}{suffix}").exists():
            number += 1
        return path


_KEY_NAMES = {"SHIFT": "LEFT_SHIFT", "ALT": "LEFT_ALT"}
