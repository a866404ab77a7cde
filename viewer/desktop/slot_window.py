"""The window of the desktop viewer for a scene of slots."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from smerf.scene.slots import SlotScene

from .base_window import BaseWindow, PanelRows
from .context import gl
from .slot_view import SlotView, moved_on_ground

__all__ = ["HELP", "SlotWindow"]

HELP = (
    ("Objects",),
    ("1 to 9", "hide or show the slot of this number"),
    ("Ctrl+drag", "move the object under the pointer on the ground"),
    ("Click", "highlight the slot under the pointer, or none"),
    ("M", "masks"),
    ("U", "take all edits back"),
    ("Ctrl+S", "save the edits for smerf objects edit --script"),
    ("",),
    ("Drag, right drag, wheel", "orbit, pan, zoom"),
    ("W A S D, Q E, arrow keys", "move, down and up, turn"),
    ("R  P", "reset view, save the image"),
    ("H", "hide the highlighted slot; without one, this help"),
)
_CLICK_PIXELS = 4.0
_MARGIN = (0.09, 0.09, 0.1, 1.0)


class SlotWindow(BaseWindow):
    """A window that shows a scene of slots.

    Args:
        scene: The scene.
        title: Its name, for the title bar.
        size: Window size in screen units.
        fov: Vertical field of view in degrees; that of the input views by default.
        output: Folder for images and edits.

    Raises:
        MissingPartError: If no window can be opened here.
    """

    viewer: SlotView

    def __init__(
        self,
        scene: SlotScene,
        title: str = "slots",
        size: tuple[int, int] = (960, 800),
        fov: float | None = None,
        output: Path = Path("."),
    ) -> None:
        super().__init__(title, size, output, ("list", "notice", "help"))
        self._pressed_at = (0.0, 0.0)
        self._dragged: int | None = None
        self.scene = scene
        self._set_up(SlotView(scene, self._box()[2:], fov))

    # The screen

    def _draw_image(self, size: tuple[int, int]) -> None:
        GL = gl()
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, 0)
        GL.glViewport(0, 0, *size)
        GL.glClearColor(*_MARGIN)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT)
        self.viewer.present(self._box())

    def _shown_panels(self) -> Iterator[PanelRows]:
        if self.is_help_shown:
            yield "help", HELP, (0.5, 0.5)
        else:
            yield "list", self._list(), (0.0, 0.0)

    def _box(self) -> tuple[int, int, int, int]:
        """Return where the image lies, in pixels: beyond the edges of its views a model has learned nothing."""
        width, height = self.framebuffer_size
        aspect = self.scene.aspect
        wide, tall = min(width, round(height * aspect)), min(height, round(width / aspect))
        return (width - wide) // 2, (height - tall) // 2, max(1, wide), max(1, tall)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """Turn a point of the window into fractions of the image, from its upper left."""
        window = self.glfw.get_window_size(self.window)
        pixels = self.framebuffer_size
        left, low, width, height = self._box()
        top = pixels[1] - low - height
        u = (x * pixels[0] / max(1, window[0]) - left) / width
        v = (y * pixels[1] / max(1, window[1]) - top) / height
        return u, v

    def _list(self) -> list[tuple[str, ...]]:
        view = self.viewer
        rows: list[tuple[str, ...]] = []
        for index, slot in enumerate(view.scene.slots):
            state = "hidden" if index in view.edits.hidden else "background" if slot.is_background else ""
            mark = ">" if index == view.highlight else " "
            rows.append((f"{mark} slot {slot.number}", f"{slot.share:.0%}", state))
        return [*rows, ("H: help",)]

    # Events

    def _bind_keys(self, has_control: bool) -> dict[int, Callable[[], object]]:
        glfw = self.glfw
        if has_control:
            return {**super()._bind_keys(True), glfw.KEY_S: self._save_edits}
        digits = {glfw.KEY_0 + number: lambda number=number: self._toggle(number) for number in range(1, 10)}
        return digits | {
            glfw.KEY_M: self._toggle_masks,
            glfw.KEY_U: self.viewer.undo,
            glfw.KEY_R: self.viewer.reset,
            glfw.KEY_P: self.save_image,
            glfw.KEY_H: self._hide_or_help,
            glfw.KEY_SLASH: self._toggle_help,
            glfw.KEY_ESCAPE: self._escape,
        }

    def _toggle(self, number: int) -> None:
        found = [index for index, slot in enumerate(self.scene.slots) if slot.number == number]
        if found and not self.viewer.toggle(found[0]):
            self.tell("One slot must stay visible")

    def _hide_or_help(self) -> None:
        highlight = self.viewer.highlight
        if highlight is None:
            self._toggle_help()
        else:
            self._toggle(self.scene.slots[highlight].number)

    def _toggle_masks(self) -> None:
        self.viewer.are_masks_shown = not self.viewer.are_masks_shown

    def _save_edits(self) -> None:
        path = self._free_name("edits", ".json")
        self._guarded(lambda: self.viewer.save_operations(path), f"Saved {path}")

    def _escape(self) -> None:
        self.is_help_shown, self.viewer.highlight = False, None

    def _resize(self, width: int, height: int) -> None:
        if width and height:
            self.viewer.resize(*self._box()[2:])
            self._is_dirty = True

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
            owner = self.viewer.owner_at(*self._place(*self._pointer))
            if owner is not None and self.viewer.scene.slots[owner].is_background:
                self.tell("That is the background; drag an object")
            else:
                self._dragged = owner

    def _drag(self, before: tuple[float, float], after: tuple[float, float]) -> None:
        if self._dragged is None:
            super()._drag(before, after)
            return
        rays = (self.viewer.ray(*self._place(*point)) for point in (before, after))
        shift = moved_on_ground(self.viewer.controls.pose[:, 3], *rays)
        if np.any(shift):
            self.viewer.move(self._dragged, shift)

    def _click(self) -> None:
        moved = np.hypot(self._pointer[0] - self._pressed_at[0], self._pointer[1] - self._pressed_at[1])
        if self._button == self.glfw.MOUSE_BUTTON_LEFT and self._dragged is None and moved < _CLICK_PIXELS:
            owner = self.viewer.owner_at(*self._place(*self._pointer))
            self.viewer.highlight = None if owner == self.viewer.highlight else owner
            self._is_dirty = True
