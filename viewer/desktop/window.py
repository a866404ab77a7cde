"""The window of the desktop viewer for a baked scene."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from smerf.errors import SmerfError
from smerf.scene import load_scene
from smerf.scene.types import BakedScene

from .base_window import BaseWindow, PanelRows
from .camera import view_text
from .objects import ObjectList
from .path import read_path, write_path
from .photo_layer import PhotoLayer, Photos
from .viewer import Viewer

__all__ = ["HELP", "Window", "open_scene"]

HELP = (
    ("Moving around",),
    ("", "Orbit", "Fly"),
    ("Drag", "orbit the target", "look around"),
    ("Right drag, Shift drag", "pan", "pan"),
    ("Wheel", "zoom", "forward, back"),
    ("Double click", "new target", "fly half-way there"),
    ("W A S D", "move the target", "walk"),
    ("Q E", "down, up", "down, up"),
    ("Arrow keys", "turn", "walk"),
    ("Z X", "roll", "roll"),
    ("Shift, Alt", "faster, slower", "faster, slower"),
    ("Gamepad sticks", "move, turn", "move, look"),
    ("Gamepad buttons", "A B up and down", "shoulders roll, triggers slow and fast"),
    ("",),
    ("1  2  3", "orbit, fly, walk (double click: go there)"),
    ("T", "leave what was photographed, or stay there"),
    ("R  F  L", "reset view, frame the scene, level the horizon"),
    ("[  ]  G", "previous, next photo, photo on or off"),
    ("-  =", "zoom lens"),
    ("K  Backspace", "add a keyframe, take the last one back"),
    ("Space  J", "play or pause the camera path, join its ends"),
    ("Ctrl+S", "save the camera path"),
    ("P  C", "save the image, copy this view"),
    ("O", "list of objects: click selects, H hides, I isolates, U shows all"),
    ("I  H  Tab  F11", "statistics, this help, no panels, full screen"),
    ("",),
    ("Drop a scene's folder or a camera path (.json) on the window to open it.",),
)
_DOUBLE_CLICK_SECONDS, _DOUBLE_CLICK_PIXELS = 0.3, 15.0
_CLICK_PIXELS = 4.0
_STATISTICS_SECONDS = 0.25
_ERROR_SECONDS = 8.0
_NO_PATH = "No camera path yet: K adds a keyframe, two make a path"


def open_scene(path: Path) -> BakedScene:
    """Open the scene at ``path``: a run, a baked scene, or one submodel's folder."""
    baked = path / "baked"
    return load_scene(baked if baked.is_dir() else path)


class Window(BaseWindow):
    """A window that shows one scene at a time.

    Args:
        scene: The scene to begin with.
        title: Name of the scene, for the title bar.
        size: Window size in screen units.
        ceiling_bytes: Texture memory for submodels.
        mode: ``orbit``, ``walk`` or ``fly``; as the capture suggests by default.
        fov: Vertical field of view in degrees; the scene's own by default.
        output: Folder for images and paths.
        photos: Returns the scene's photos by name; called when a photo is first wanted.

    Raises:
        MissingPartError: If no window can be opened here.
    """

    viewer: Viewer

    def __init__(
        self,
        scene: BakedScene,
        title: str = "smerf",
        size: tuple[int, int] = (1280, 800),
        ceiling_bytes: int = 2 << 30,
        mode: str | None = None,
        fov: float | None = None,
        output: Path = Path("."),
        photos: Callable[[], Photos] = dict,
    ) -> None:
        super().__init__(title, size, output, ("notice", "statistics", "help", "objects"))
        self.are_statistics_shown = False
        self._photos = PhotoLayer(photos)
        self._last_click = (-math.inf, 0.0, 0.0)
        self._pressed_at = (0.0, 0.0)
        self._windowed: tuple[int, int, int, int] | None = None
        self._statistics: tuple[float, list[tuple[str, str]]] = (-math.inf, [])
        self._ceiling_bytes, self._fov = ceiling_bytes, fov
        self._set_up(self._view_of(scene, mode))

    def _view_of(self, scene: BakedScene, mode: str | None) -> Viewer:
        return Viewer(scene, self.framebuffer_size, self._ceiling_bytes, mode=mode, fov=self._fov)

    def step(self, now: float) -> None:
        """Do what is due at ``now``: move, render, and show what changed."""
        self._read_gamepad()
        if self.are_statistics_shown and now - self._statistics[0] >= _STATISTICS_SECONDS:
            rows = self.viewer.statistics().rows()
            self._is_dirty |= rows != self._statistics[1]
            self._statistics = (now, rows)
        super().step(now)
        if self.viewer.streamer.is_loading:
            time.sleep(0.002)

    def open(self, path: Path) -> None:
        """Show another scene, or play a camera path if ``path`` is a JSON file."""
        if path.suffix.lower() == ".json":
            self._guarded(lambda: self.viewer.tour.take(read_path(path)), f"{path.name}: Space plays it")
            return
        try:
            viewer = self._view_of(open_scene(path), self.viewer.controls.mode)
        except (SmerfError, OSError) as error:
            self.tell(str(error), _ERROR_SECONDS)
            return
        self.viewer.close()
        self.viewer = viewer
        # The photos were those of the first scene.
        self._photos.free()
        self._photos = PhotoLayer(dict)
        self.glfw.set_window_title(self.window, f"{path.resolve().name} - smerf")
        self._is_dirty = True

    # The screen

    def _draw_image(self, size: tuple[int, int]) -> None:
        self.viewer.present(*size)
        visitor = self.viewer.visitor
        if visitor.is_held:
            visitor.is_held = False
            self.tell("Nothing was photographed there; T lets the camera go")
        place = self.viewer.photo if self._photos.is_wanted else None
        if place is not None:
            try:
                self._photos.draw(*place, size)
            except SmerfError as error:
                self.tell(str(error), _ERROR_SECONDS)

    def _shown_panels(self) -> Iterator[PanelRows]:
        if self.is_help_shown:
            yield "help", HELP, (0.5, 0.5)
            return
        if self.are_statistics_shown:
            yield "statistics", self._statistics[1] or [("",)], (0.0, 0.0)
        if self.viewer.objects.is_open:
            yield "objects", self.viewer.objects.rows(), (1.0, 0.0)

    def _message(self) -> str | None:
        if self.viewer.streamer.error:
            return self.viewer.streamer.error
        return super()._message() or (None if self.viewer.has_image else "Loading ...")

    def _free(self) -> None:
        super()._free()
        self._photos.free()

    def _idle_seconds(self) -> float:
        return 0.02 if self._has_gamepad() else super()._idle_seconds()

    # Events

    def _listen(self) -> None:
        super()._listen()
        self.glfw.set_drop_callback(self.window, lambda _, paths: self.open(Path(paths[0])))

    def _resize(self, width: int, height: int) -> None:
        if width and height:
            self.viewer.resize(width, height)
            self.draw()

    def on_button(self, button: int, action: int, mods: int) -> None:
        """A mouse button went down or up."""
        glfw = self.glfw
        if action == glfw.RELEASE:
            if button == self._button:
                self._select()
                self._button = None
            return
        self._button, self._pointer = button, glfw.get_cursor_pos(self.window)
        self._pressed_at = self._pointer
        if button != glfw.MOUSE_BUTTON_LEFT or self.viewer.objects.is_open:
            return
        now, (x, y) = time.monotonic(), self._pointer
        before, old_x, old_y = self._last_click
        is_near = math.hypot(x - old_x, y - old_y) < _DOUBLE_CLICK_PIXELS
        if now - before < _DOUBLE_CLICK_SECONDS and is_near:
            u, v = self._place(x, y)
            self.viewer.controls.focus(u, v, self.viewer.ray(u, v))
            now = -math.inf
        self._last_click = (now, x, y)

    def _place(self, x: float, y: float) -> tuple[float, float]:
        """Turn a point of the window into fractions of the image, from its upper left."""
        width, height = self.glfw.get_window_size(self.window)
        return x / max(1, width), y / max(1, height)

    def _select(self) -> None:
        """A click, which is no drag, selects what is under it while the list of objects is open."""
        objects = self.viewer.objects
        is_click = math.dist(self._pointer, self._pressed_at) < _CLICK_PIXELS
        if not objects.is_open or not is_click or self._button != self.glfw.MOUSE_BUTTON_LEFT:
            return
        found = self.viewer.object_at(*self._place(*self._pointer))
        objects.select(found if found and found != objects.selected else None)
        self.tell(objects.names.get(found, "") if found else "There is no object at this point")

    def _bind_keys(self, has_control: bool) -> dict[int, Callable[[], object]]:
        glfw = self.glfw
        if has_control:
            return {**super()._bind_keys(True), glfw.KEY_S: self._save_path}
        return {
            glfw.KEY_1: lambda: self._set_mode("orbit"),
            glfw.KEY_2: lambda: self._set_mode("fly"),
            glfw.KEY_3: lambda: self._set_mode("walk"),
            glfw.KEY_T: lambda: self._toggle_stay(),
            glfw.KEY_R: lambda: self.viewer.reset(),
            glfw.KEY_F: lambda: self.viewer.frame_scene(),
            glfw.KEY_G: self._toggle_photo,
            glfw.KEY_J: self._toggle_cycle,
            glfw.KEY_O: self._toggle_objects,
            glfw.KEY_U: lambda: self.viewer.objects.show_all(),
            glfw.KEY_PAGE_UP: lambda: self._step_objects(-1),
            glfw.KEY_PAGE_DOWN: lambda: self._step_objects(1),
            glfw.KEY_TAB: self._hide_panels,
            glfw.KEY_L: lambda: self.viewer.controls.level(),
            glfw.KEY_LEFT_BRACKET: lambda: self._show_photo(-1),
            glfw.KEY_RIGHT_BRACKET: lambda: self._show_photo(1),
            glfw.KEY_MINUS: lambda: self.viewer.widen(1.1),
            glfw.KEY_EQUAL: lambda: self.viewer.widen(1.0 / 1.1),
            glfw.KEY_K: lambda: self.tell(f"Keyframe {self.viewer.tour.add(self.viewer.view)}"),
            glfw.KEY_BACKSPACE: lambda: self.tell(f"{self.viewer.tour.remove()} keyframes left"),
            glfw.KEY_SPACE: self._play,
            glfw.KEY_P: self.save_image,
            glfw.KEY_C: self._copy_view,
            glfw.KEY_I: lambda: self._with_selected(ObjectList.isolate) or self._toggle_statistics(),
            glfw.KEY_H: lambda: self._with_selected(ObjectList.hide) or self._toggle_help(),
            glfw.KEY_SLASH: self._toggle_help,
            glfw.KEY_F11: self.toggle_full_screen,
            glfw.KEY_ESCAPE: self._escape,
        }

    def _toggle_statistics(self) -> None:
        self.are_statistics_shown = not self.are_statistics_shown
        self._statistics = (-math.inf, self._statistics[1])

    def _toggle_stay(self) -> None:
        visitor = self.viewer.visitor
        visitor.is_free = not visitor.is_free
        self.tell(
            "The camera may leave what was photographed" if visitor.is_free else "Staying where photos are"
        )

    def _toggle_objects(self) -> None:
        if not self.viewer.objects.toggle():
            self.tell("This scene names no objects")

    def _step_objects(self, by: int) -> None:
        if self.viewer.objects.is_open:
            self.viewer.objects.step(by)

    def _with_selected(self, act: Callable[[ObjectList], None]) -> bool:
        """Do something with the selected object; say whether there is one."""
        objects = self.viewer.objects
        if not objects.is_open or objects.selected is None:
            return False
        act(objects)
        return True

    def _set_mode(self, mode: str) -> None:
        self.viewer.controls.set_mode(mode)
        self.tell(mode.capitalize())

    def _show_photo(self, step: int) -> None:
        self.tell(self.viewer.show_training_view(step) or "This scene names no photos")

    def _toggle_photo(self) -> None:
        if not self._photos.toggle():
            self.tell("The photos are not at hand: open the run, with its capture in place")
        elif self._photos.is_wanted and self.viewer.photo is None:
            self._show_photo(1)

    def _toggle_cycle(self) -> None:
        tour = self.viewer.tour
        tour.set_cycle(not tour.is_cycle)
        self.tell("The path loops" if tour.is_cycle else "The path ends at its last keyframe")

    def _hide_panels(self) -> None:
        self.is_help_shown = self.are_statistics_shown = self.viewer.objects.is_open = False
        self._notice = None

    def _play(self) -> None:
        if not self.viewer.tour.play():
            self.tell(_NO_PATH)

    def _copy_view(self) -> None:
        view = self.viewer.view
        text = view_text(view.pose, self.viewer.controls.distance, view.fov)
        self.glfw.set_clipboard_string(self.window, text + self.viewer.objects.words())
        self.tell("Copied; put it behind the address of the page to see this view there")

    def _save_path(self) -> None:
        path = self.viewer.tour.path
        if path is None:
            self.tell(_NO_PATH)
            return
        name = self._free_name("path", ".json")
        self._guarded(lambda: write_path(name, path, *self.framebuffer_size), f"Saved {name}")

    def _escape(self) -> None:
        if self.is_help_shown:
            self.is_help_shown = False
        elif self.viewer.objects.selected is not None:
            self.viewer.objects.select(None)
        elif self.viewer.objects.is_open:
            self.viewer.objects.toggle()
        elif self._windowed is not None:
            self.toggle_full_screen()

    def toggle_full_screen(self) -> None:
        """Fill the monitor, or go back to the window of before."""
        glfw = self.glfw
        if self._windowed is not None:
            glfw.set_window_monitor(self.window, None, *self._windowed, glfw.DONT_CARE)
            self._windowed = None
            return
        monitor = glfw.get_primary_monitor()
        if not monitor:
            self.tell("There is no monitor to fill")
            return
        self._windowed = (*glfw.get_window_pos(self.window), *glfw.get_window_size(self.window))
        mode = glfw.get_video_mode(monitor)
        glfw.set_window_monitor(self.window, monitor, 0, 0, *mode.size, mode.refresh_rate)

    def _has_gamepad(self) -> bool:
        return bool(self.glfw.joystick_is_gamepad(self.glfw.JOYSTICK_1))

    def _read_gamepad(self) -> None:
        if not self._has_gamepad():
            return
        state = self.glfw.get_gamepad_state(self.glfw.JOYSTICK_1)
        if state is not None:
            self.viewer.controls.gamepad(
                list(state.axes), [bool(button) for button in state.buttons], 1.0 / 60.0
            )
