"""The window of the desktop viewer: events in, picture and panels out. GLFW names keys and buttons."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Capture, Frame
from smerf.errors import SmerfError
from smerf.export.photos import small_photo
from smerf.scene import load_scene
from smerf.scene.types import BakedScene

from .camera import view_text
from .context import create_window
from .controls import HELD_KEYS
from .overlay import Panel, Photo
from .path import read_path, write_path
from .viewer import Viewer

__all__ = ["HELP", "Window", "open_scene"]

HELP = (
    ("Moving around",),
    ("", "Orbit", "Fly"),
    ("Drag", "turn around the target", "look around"),
    ("Right drag, Shift drag", "shift sideways", "shift sideways"),
    ("Wheel", "nearer, farther", "forward, back"),
    ("Double click", "new target", "fly half-way there"),
    ("W A S D", "move the target", "walk"),
    ("Q E", "down, up", "down, up"),
    ("Arrow keys", "turn", "walk"),
    ("Z X", "roll", "roll"),
    ("Shift, Alt", "faster, slower", "faster, slower"),
    ("Gamepad sticks", "move, turn", "move, look"),
    ("Gamepad buttons", "A B up and down", "shoulders roll, triggers slow and fast"),
    ("",),
    ("1  2", "orbit, fly"),
    ("R  F  L", "start, frame the scene, level the horizon"),
    ("[  ]  G", "previous, next photo, photo on or off"),
    ("-  =", "wider, narrower view"),
    ("K  Backspace", "add a keyframe, take the last one back"),
    ("Space  O", "play or pause the camera path, loop it"),
    ("Ctrl+S", "save the camera path"),
    ("P  C", "save the picture, copy this view"),
    ("I  H  Tab  F11", "statistics, this help, no panels, full screen"),
    ("",),
    ("Drop a scene's folder or a camera path (.json) on the window to open it.",),
)
_DOUBLE_CLICK_SECONDS, _DOUBLE_CLICK_PIXELS = 0.3, 15.0
_WHEEL_STEP = 0.15
_NOTICE_SECONDS = 2.5
_TEXT_SIZE = 15
_STATISTICS_SECONDS = 0.25
_PHOTO_EDGE = 1024


def open_scene(path: Path) -> BakedScene:
    """Open the scene at ``path``: a run, a baked scene, or one submodel's folder."""
    baked = path / "baked"
    return load_scene(baked if baked.is_dir() else path)


class Window:
    """A window that shows one scene at a time.

    Args:
        scene: The scene to begin with.
        title: Name of the scene, for the title bar.
        size: Window size in screen units.
        ceiling_bytes: Texture memory for submodels.
        mode: ``orbit`` or ``fly``.
        fov: Vertical field of view in degrees; the scene's own by default.
        output: Folder for pictures and paths.
        photos: Returns the capture with the scene's photos, or ``None``; asked when a photo is first wanted.

    Raises:
        MissingPartError: If no window can be opened here.
    """

    def __init__(
        self,
        scene: BakedScene,
        title: str = "smerf",
        size: tuple[int, int] = (1280, 800),
        ceiling_bytes: int = 2 << 30,
        mode: str = "orbit",
        fov: float | None = None,
        output: Path = Path("."),
        photos: Callable[[], Capture | None] = lambda: None,
    ) -> None:
        import glfw

        self.window = create_window(*size, f"{title} - smerf")
        self.glfw = glfw
        self.output = output
        self._ask_for_photos = photos
        self._frames: dict[str, Frame] | None = None
        self._is_photo_wanted = False
        self._photo: tuple[str, Photo] | None = None
        self.is_help_shown = self.are_statistics_shown = False
        self._settings: dict[str, Any] = {"ceiling_bytes": ceiling_bytes, "fov": fov}
        self._pointer: tuple[float, float] | None = None
        self._button: int | None = None
        self._last_click = (-math.inf, 0.0, 0.0)
        self._notice: tuple[str, float] | None = None
        self._windowed: tuple[int, int, int, int] | None = None
        self._statistics: tuple[float, list[tuple[str, str]]] = (-math.inf, [])
        self._wants_picture: Path | None = None
        self._last_gamepad = 0.0
        self._is_dirty = True
        self._panels = {name: Panel() for name in ("notice", "statistics", "help")}
        glfw.swap_interval(1)
        self.viewer = Viewer(scene, self.framebuffer_size, mode=mode, **self._settings)
        self._actions, self._held = self._bind_keys(), _held_keys(glfw)
        self._listen()

    @property
    def framebuffer_size(self) -> tuple[int, int]:
        """Size in pixels, which on dense screens is more than the window's size in screen units."""
        width, height = self.glfw.get_framebuffer_size(self.window)
        return max(1, width), max(1, height)

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Show the window until it is closed, or ``until`` says so."""
        glfw = self.glfw
        while not glfw.window_should_close(self.window) and not until():
            if self.viewer.needs_ticks:
                glfw.poll_events()
            else:
                glfw.wait_events_timeout(0.02 if self._has_gamepad() else self._idle_seconds())
            self.step(time.monotonic())

    def step(self, now: float) -> None:
        """Do what is due at ``now``: move, draw, and show what changed."""
        self._read_gamepad(now)
        has_changed = self.viewer.tick(now)
        if self._wants_picture is not None and self.viewer.is_finished:
            path, self._wants_picture = self._wants_picture, None
            self._guarded(lambda: self.viewer.save_picture(path), f"Saved {path}")
        if self._notice and now >= self._notice[1]:
            self._notice = None
            self._is_dirty = True
        if self.are_statistics_shown and now - self._statistics[0] >= _STATISTICS_SECONDS:
            rows = self.viewer.statistics().rows()
            self._is_dirty |= rows != self._statistics[1]
            self._statistics = (now, rows)
        if has_changed or self._is_dirty:
            self.draw()
        elif self.viewer.streamer.is_loading:
            time.sleep(0.002)

    def draw(self) -> None:
        """Put the picture and the panels on the screen."""
        size = self.framebuffer_size
        self.viewer.present(*size)
        self._draw_photo(size)
        text = round(_TEXT_SIZE * max(1.0, self.glfw.get_window_content_scale(self.window)[0]))
        if self.are_statistics_shown and not self.is_help_shown:
            self._panels["statistics"].draw(self._statistics[1] or [("",)], text, size, (0.0, 0.0))
        if self.is_help_shown:
            self._panels["help"].draw(HELP, text, size, (0.5, 0.5))
        message = self._message()
        if message:
            self._panels["notice"].draw([(message,)], text, size, (0.5, 1.0))
        self._is_dirty = False
        self.glfw.swap_buffers(self.window)

    def open(self, path: Path) -> None:
        """Show another scene, or play a camera path if ``path`` is a JSON file."""
        if path.suffix.lower() == ".json":
            self._guarded(lambda: self.viewer.set_path(read_path(path)), f"{path.name}: Space plays it")
            return
        try:
            scene = open_scene(path)
            mode = self.viewer.controls.mode
            viewer = Viewer(scene, self.framebuffer_size, mode=mode, **self._settings)
        except (SmerfError, OSError) as error:
            self.tell(str(error), 8.0)
            return
        self.viewer.close()
        self.viewer = viewer
        # The photos were those of the first scene.
        self._ask_for_photos, self._frames, self._is_photo_wanted = (lambda: None), None, False
        self.glfw.set_window_title(self.window, f"{path.resolve().name} - smerf")
        self._is_dirty = True

    def tell(self, text: str, seconds: float = _NOTICE_SECONDS) -> None:
        """Show a sentence for a while."""
        self._notice = (text, time.monotonic() + seconds)
        self._is_dirty = True

    def save_picture(self, path: Path | None = None) -> None:
        """Write the full-detail picture of this view as soon as it is there."""
        self._wants_picture = path or _free_name(self.output, "view", ".png")
        self._is_dirty = True

    def close(self) -> None:
        """Free everything and close the window; may be called twice."""
        if self.window is None:
            return
        # Another window may have been current since.
        self.glfw.make_context_current(self.window)
        self.viewer.close()
        for panel in self._panels.values():
            panel.free()
        if self._photo is not None:
            self._photo[1].free()
        self.glfw.destroy_window(self.window)
        self.window = None

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

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
        glfw.set_drop_callback(window, lambda _, paths: self.open(Path(paths[0])))

    def _resize(self, width: int, height: int) -> None:
        if width and height:
            self.viewer.resize(width, height)
            self.draw()

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
        glfw = self.glfw
        if action == glfw.RELEASE:
            if button == self._button:
                self._button = None
            return
        self._button, self._pointer = button, glfw.get_cursor_pos(self.window)
        if button != glfw.MOUSE_BUTTON_LEFT:
            return
        now, (x, y) = time.monotonic(), self._pointer
        before, old_x, old_y = self._last_click
        is_near = math.hypot(x - old_x, y - old_y) < _DOUBLE_CLICK_PIXELS
        if now - before < _DOUBLE_CLICK_SECONDS and is_near:
            width, height = glfw.get_window_size(self.window)
            u, v = x / max(1, width), y / max(1, height)
            self.viewer.controls.focus(u, v, self.viewer.ray(u, v))
            now = -math.inf
        self._last_click = (now, x, y)

    def on_pointer(self, x: float, y: float) -> None:
        """The pointer moved, in screen units."""
        if self._button is None or self._pointer is None:
            return
        dx, dy = x - self._pointer[0], y - self._pointer[1]
        self._pointer = (x, y)
        controls = self.viewer.controls
        if self._button != self.glfw.MOUSE_BUTTON_LEFT or "SHIFT" in controls.keys:
            controls.pan(dx, dy, self.glfw.get_window_size(self.window)[1])
        else:
            controls.rotate(dx, dy)

    def _bind_keys(self) -> dict[tuple[int, bool], Callable[[], None]]:
        glfw = self.glfw
        plain = {
            glfw.KEY_1: lambda: self._set_mode("orbit"),
            glfw.KEY_2: lambda: self._set_mode("fly"),
            glfw.KEY_R: lambda: self.viewer.reset(),
            glfw.KEY_F: lambda: self.viewer.frame_scene(),
            glfw.KEY_G: self._toggle_photo,
            glfw.KEY_O: self._toggle_cycle,
            glfw.KEY_TAB: self._hide_panels,
            glfw.KEY_L: lambda: self.viewer.controls.level(),
            glfw.KEY_LEFT_BRACKET: lambda: self._show_photo(-1),
            glfw.KEY_RIGHT_BRACKET: lambda: self._show_photo(1),
            glfw.KEY_MINUS: lambda: self.viewer.widen(1.1),
            glfw.KEY_EQUAL: lambda: self.viewer.widen(1.0 / 1.1),
            glfw.KEY_K: lambda: self.tell(f"Keyframe {self.viewer.add_keyframe()}"),
            glfw.KEY_BACKSPACE: lambda: self.tell(f"{self.viewer.remove_keyframe()} keyframes left"),
            glfw.KEY_SPACE: self._play,
            glfw.KEY_P: self.save_picture,
            glfw.KEY_C: self._copy_view,
            glfw.KEY_I: lambda: self._toggle("are_statistics_shown"),
            glfw.KEY_H: lambda: self._toggle("is_help_shown"),
            glfw.KEY_SLASH: lambda: self._toggle("is_help_shown"),
            glfw.KEY_F11: self.toggle_full_screen,
            glfw.KEY_ESCAPE: self._escape,
        }
        control = {
            glfw.KEY_S: self._save_path,
            glfw.KEY_Q: lambda: glfw.set_window_should_close(self.window, True),
            glfw.KEY_W: lambda: glfw.set_window_should_close(self.window, True),
        }
        return {
            (key, held): act
            for held, table in ((False, plain), (True, control))
            for key, act in table.items()
        }

    def _toggle(self, name: str) -> None:
        setattr(self, name, not getattr(self, name))
        self._statistics = (-math.inf, self._statistics[1])

    def _set_mode(self, mode: str) -> None:
        self.viewer.controls.set_mode(mode)
        self.tell(mode.capitalize())

    def _show_photo(self, step: int) -> None:
        self.tell(self.viewer.show_training_view(step) or "This scene names no photos")

    def _toggle_photo(self) -> None:
        self._is_photo_wanted = not self._is_photo_wanted
        if self._is_photo_wanted:
            if self._frames is None:
                capture = self._ask_for_photos()
                self._frames = {frame.name: frame for frame in capture.frames} if capture else {}
            if not self._frames:
                self._is_photo_wanted = False
                self.tell("The photos are not at hand: open the run, with its capture in place")
            elif self.viewer.photo is None:
                self._show_photo(1)

    def _draw_photo(self, size: tuple[int, int]) -> None:
        """Lay the photo over the picture of its camera."""
        place = self.viewer.photo if self._is_photo_wanted else None
        frame = (self._frames or {}).get(place[0]) if place else None
        if place is None or frame is None:
            return
        if self._photo is None or self._photo[0] != frame.name:
            if self._photo is not None:
                self._photo[1].free()
                self._photo = None
            try:
                pixels = np.asarray(small_photo(frame, _PHOTO_EDGE))
            except SmerfError as error:
                self._is_photo_wanted = False
                self.tell(str(error), 8.0)
                return
            self._photo = frame.name, Photo(pixels)
        self._photo[1].draw(size, place[1])

    def _toggle_cycle(self) -> None:
        self.viewer.set_cycle(not self.viewer.is_cycle)
        self.tell("The path loops" if self.viewer.is_cycle else "The path ends at its last keyframe")

    def _hide_panels(self) -> None:
        self.is_help_shown = self.are_statistics_shown = False
        self._notice = None

    def _play(self) -> None:
        if not self.viewer.play():
            self.tell("No camera path yet: K adds a keyframe, two make a path")

    def _copy_view(self) -> None:
        view = self.viewer.view
        self.glfw.set_clipboard_string(
            self.window, view_text(view.pose, self.viewer.controls.distance, view.fov)
        )
        self.tell("Copied; put it behind the address of the page to see this view there")

    def _save_path(self) -> None:
        path = self.viewer.path
        if path is None:
            self.tell("No camera path yet: K adds a keyframe, two make a path")
            return
        name = _free_name(self.output, "path", ".json")
        self._guarded(lambda: write_path(name, path, *self.framebuffer_size), f"Saved {name}")

    def _escape(self) -> None:
        if self.is_help_shown:
            self.is_help_shown = False
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

    def _read_gamepad(self, now: float) -> None:
        if not self._has_gamepad():
            return
        state = self.glfw.get_gamepad_state(self.glfw.JOYSTICK_1)
        if state is not None:
            self.viewer.controls.gamepad(
                list(state.axes), [bool(button) for button in state.buttons], 1.0 / 60.0
            )

    def _idle_seconds(self) -> float:
        return min(0.25, max(0.01, self._notice[1] - time.monotonic())) if self._notice else 0.25

    def _message(self) -> str | None:
        if self.viewer.streamer.error:
            return self.viewer.streamer.error
        if self._notice:
            return self._notice[0]
        if not self.viewer.has_picture:
            return "Loading ..."
        return None

    def _guarded(self, act: Callable[[], None], done: str) -> None:
        try:
            act()
        except (SmerfError, OSError) as error:
            self.tell(str(error), 8.0)
        else:
            self.tell(done)


def _held_keys(glfw: Any) -> dict[int, str]:
    """Return GLFW's numbers of the keys that act while they are held."""
    modifiers = ("SHIFT", "ALT")
    names = {getattr(glfw, f"KEY_{name}"): name for name in HELD_KEYS.difference(modifiers)}
    sides = ((side, name) for side in ("LEFT", "RIGHT") for name in modifiers)
    return names | {getattr(glfw, f"KEY_{side}_{name}"): name for side, name in sides}


def _free_name(folder: Path, stem: str, suffix: str) -> Path:
    """Return the first ``stem_001`` that does not exist yet."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while (path := folder / f"{stem}_{number:03d}{suffix}").exists():
        number += 1
    return path
