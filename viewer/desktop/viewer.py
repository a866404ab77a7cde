"""The loop of the desktop viewer without its window: which camera, which submodel, preview or full detail.

While the camera moves, whole frames are drawn at a resolution that keeps ``PREVIEW_MS``; when it rests, full
detail comes in bands so that the window stays responsive, and the picture changes once all are there.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smerf.capture.types import Camera
from smerf.errors import InvalidDataError, SmerfError
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedScene

from .camera import common_target, look_at
from .context import gl
from .controls import Controls
from .path import CameraPath, View
from .renderer import Renderer, Target, pinhole
from .stream import Streamer
from .submodel import Submodel

__all__ = ["DEFAULT_FOV", "Statistics", "Viewer", "start_view"]

DEFAULT_FOV = 40.0
REST_SECONDS = 0.15
PREVIEW_MS = 28.0
BAND_MS = 40.0
_MIN_PREVIEW_PIXELS = 4000


def start_view(scene: BakedScene, fov: float | None = None) -> View:
    """Return where the scene opens: its start camera, else the centre of its first submodel."""
    start = scene.manifest.start
    if start is not None:
        return View(np.asarray(start.world_from_cam, np.float64), fov or start.fov_degrees)
    centre = scene.params.submodel_centre(0)
    return View(look_at(centre, centre + VIEWER_FROM_TRAINING @ [0.0, 0.0, 1.0]), fov or DEFAULT_FOV)


@dataclass(frozen=True)
class Statistics:
    """What the statistics panel shows; sizes in pixels."""

    frame_ms: float
    frames_per_second: int
    rendered: tuple[int, int]
    window: tuple[int, int]
    submodel: int | None
    submodels: int
    resident: int
    texture_bytes: int
    ceiling_bytes: int
    is_loading: bool

    def rows(self) -> list[tuple[str, str]]:
        """Return the panel's rows."""
        megabytes = f"{self.texture_bytes / 1e6:.0f} of {self.ceiling_bytes / 1e6:.0f} MB"
        return [
            ("Frame time", f"{self.frame_ms:.1f} ms"),
            ("Frames per second", str(self.frames_per_second)),
            ("Rendered size", "{} x {}".format(*self.rendered)),
            ("Window", "{} x {}".format(*self.window)),
            ("Submodel", "none" if self.submodel is None else f"{self.submodel + 1} of {self.submodels}"),
            ("In memory", f"{self.resident}{', loading' if self.is_loading else ''}"),
            ("Textures", megabytes),
        ]


class Viewer:
    """Draws a scene to ``picture`` and moves its camera. Needs a current context.

    Args:
        scene: What to show.
        size: The picture's size in pixels.
        ceiling_bytes: Texture memory for submodels.
        mode: ``orbit`` or ``fly``.
        fov: Vertical field of view in degrees; the scene's own by default.
    """

    def __init__(
        self,
        scene: BakedScene,
        size: tuple[int, int],
        ceiling_bytes: int,
        mode: str = "orbit",
        fov: float | None = None,
    ) -> None:
        self.scene = scene
        self.size = size
        self.renderer = Renderer(scene)
        self.streamer = Streamer(scene, ceiling_bytes)
        self.controls = Controls(self._depth_at, lambda: self.fov, self.pause, mode=mode)
        self.fov = DEFAULT_FOV
        self.path: CameraPath | None = None
        self.keyframes: list[View] = []
        self.is_playing = self.is_cycle = False
        self.has_picture = False
        self._given_fov = fov
        self._training_view = -1
        self._photo_pose = np.zeros((3, 4))
        self._path_time = 0.0
        self._picture = _Picture(*size)
        self._shown: Target | None = None
        self._drawn: Submodel | None = None
        self._version, self._finished, self._previewed = 0, -1, -1
        self._band: tuple[int, int, float] = (-1, 0, 0.0)  # version, next row, milliseconds so far
        self._last_move, self._last_tick, self._was_idle = -math.inf, 0.0, True
        self._pixel_ms = PREVIEW_MS / 60000.0
        self._frame_ms = 0.0
        self._frame_times: deque[float] = deque(maxlen=1000)
        self.reset()

    # The camera

    @property
    def view(self) -> View:
        """Where the camera is."""
        return View(self.controls.pose, self.fov)

    @property
    def camera(self) -> Camera:
        """The camera that is drawn, at the picture's size."""
        return pinhole(self.controls.pose, *self.size, self.fov)

    def reset(self) -> None:
        """Go to where the scene opens."""
        self.show(start_view(self.scene, self._given_fov))

    def show(self, view: View, is_moving: bool = False) -> None:
        """Jump to a view; ``is_moving`` says that more will follow at once."""
        if not is_moving:
            self.pause()
        self.fov = view.fov
        self.controls.set_pose(view.pose)
        self._changed(is_moving)

    def frame_scene(self) -> None:
        """Step back until all that the photos look at is in the picture."""
        cameras = self.scene.manifest.cameras
        found = (
            common_target(np.array([entry.camera.world_from_cam for entry in cameras])) if cameras else None
        )
        point, distance = found or (np.zeros(3), 2.5)
        pose = self.controls.pose
        pose[:, 3] = point + distance * pose[:, 2]
        self.show(View(pose, self.fov))
        self.controls.set_pose(pose, point)

    def show_training_view(self, step: int) -> str | None:
        """Jump to the next (1) or previous (-1) photo's camera; return its name, ``None`` if there are none."""
        cameras = self.scene.manifest.cameras
        if not cameras:
            return None
        first = 0 if step > 0 else len(cameras) - 1
        self._training_view = (
            first if self._training_view < 0 else (self._training_view + step) % len(cameras)
        )
        entry = cameras[self._training_view]
        lens = entry.camera.intrinsics
        # The tighter side decides, so that all of the photo is in the picture.
        focal = min(self.size[0] / lens.width * lens.fx, self.size[1] / lens.height * lens.fy)
        fov = math.degrees(2.0 * math.atan(self.size[1] / (2.0 * focal)))
        pose = np.asarray(entry.camera.world_from_cam, np.float64)
        self.show(View(pose, fov))
        self._photo_pose = pose
        return entry.name

    @property
    def photo(self) -> tuple[str, tuple[float, float, float, float]] | None:
        """Name of the photo whose camera is drawn, and the box that the photo covers: left, top, width, height in
        pixels of the picture. ``None`` where the camera is no photo's.
        """
        if self._training_view < 0 or not np.array_equal(self.controls.pose, self._photo_pose):
            return None
        entry = self.scene.manifest.cameras[self._training_view]
        lens = entry.camera.intrinsics
        focal = self.size[1] / (2.0 * math.tan(math.radians(0.5 * self.fov)))
        x, y = focal / lens.fx, focal / lens.fy
        left, top = self.size[0] / 2 - lens.cx * x, self.size[1] / 2 - lens.cy * y
        return entry.name, (left, top, lens.width * x, lens.height * y)

    def widen(self, factor: float) -> None:
        """Change the field of view by a factor of its tangent."""
        half = math.tan(math.radians(0.5 * self.fov)) * factor
        self.fov = min(150.0, max(5.0, math.degrees(2.0 * math.atan(half))))
        self._changed(True)

    def ray(self, u: float, v: float) -> np.ndarray:
        """Return the viewing direction (3,) through a point of the picture (fractions from the upper left)."""
        lens = self.camera.intrinsics
        x = (u * self.size[0] - lens.cx) / lens.fx
        y = -(v * self.size[1] - lens.cy) / lens.fy
        pose = self.controls.pose
        ray = pose[:, 0] * x + pose[:, 1] * y - pose[:, 2]
        return ray / np.linalg.norm(ray)

    # The path

    def add_keyframe(self) -> int:
        """Record the view of the moment; return how many there are."""
        self.keyframes.append(self.view)
        self._remake_path()
        return len(self.keyframes)

    def remove_keyframe(self) -> int:
        """Forget the keyframe that was recorded last; return how many are left."""
        if self.keyframes:
            self.keyframes.pop()
            self._remake_path()
        return len(self.keyframes)

    def set_path(self, path: CameraPath) -> None:
        """Take a path from a file; its keyframes can be added to."""
        self.pause()
        self.path, self.keyframes, self._path_time = path, list(path.keyframes), 0.0
        self.is_cycle = path.is_cycle

    def play(self) -> bool:
        """Start or pause the path; say whether there is one."""
        if self.path is None:
            return False
        if not self.is_playing and not self.path.is_cycle and self._path_time >= self.path.seconds:
            self._path_time = 0.0
        self.is_playing = not self.is_playing
        return True

    def pause(self) -> None:
        """Stop the path."""
        self.is_playing = False

    def set_cycle(self, is_cycle: bool) -> None:
        """Close the path to a loop, or open it."""
        self.is_cycle = is_cycle
        if self.path is not None and not self.keyframes:
            self.path = replace(self.path, is_cycle=is_cycle)
        else:
            self._remake_path()

    def _remake_path(self) -> None:
        self.pause()
        self._path_time = 0.0
        keys = self.keyframes
        self.path = CameraPath.through(keys, is_cycle=self.is_cycle) if len(keys) > 1 else None

    # Frames

    @property
    def is_finished(self) -> bool:
        """Whether the full-detail picture of the current camera is there, drawn with the submodel it asks for."""
        return self._finished == self._version and self.streamer.is_wanted_shown

    @property
    def needs_ticks(self) -> bool:
        """Whether something is going on: motion, an unfinished picture, a submodel under way."""
        is_drawing = self._drawn is not None and self._finished != self._version
        is_moving = self.controls.is_moving or bool(self.controls.keys)
        return is_drawing or is_moving or self.is_playing or self.streamer.is_loading

    def resize(self, width: int, height: int) -> None:
        """Change the picture's size; the old picture is shown, stretched, until the new one is there."""
        if (width, height) == self.size or min(width, height) < 1:
            return
        self.size = width, height
        self._picture.resize(width, height)
        self._changed(True)

    def tick(self, now: float) -> bool:
        """Go on at the time ``now`` (seconds); say whether the picture changed."""
        # A pause of the loop is not a step of the motion.
        dt = 1.0 / 60.0 if self._was_idle else min(0.25, max(0.001, now - self._last_tick))
        self._was_idle, self._last_tick = True, now
        if self.controls.update(dt):
            self._changed(True, now)
        if self.is_playing and self.path is not None:
            self._path_time += dt
            self.show(self.path.at(self._path_time), is_moving=True)
            self._last_move = now
            if not self.path.is_cycle and self._path_time >= self.path.seconds:
                self.pause()
        self.streamer.poll()
        submodel = self.streamer.submodel_for(self.controls.pose[:, 3])
        if submodel is None:
            return False
        if submodel is not self._drawn:
            self._drawn = submodel
            self._version += 1
        if now - self._last_move < REST_SECONDS or not self.has_picture:
            self._was_idle = False
            if self._previewed == self._version:
                return False
            self._draw_preview(submodel)
            return True
        if self._finished == self._version:
            return False
        return self._draw_band(submodel)

    def finish(self, timeout: float = 600.0) -> None:
        """Tick until the picture is finished. Raises InvalidDataError if the submodel cannot be loaded."""
        end = time.monotonic() + timeout
        self._last_move = -math.inf
        while not self.is_finished:
            self.tick(time.monotonic())
            if self.streamer.error:
                raise InvalidDataError(self.streamer.error)
            if time.monotonic() > end:
                raise SmerfError(f"the picture was not finished within {timeout:.0f} s")
            if self._drawn is None or self.streamer.is_loading:
                time.sleep(0.001)

    def present(self, width: int, height: int) -> None:
        """Copy the picture to the window's framebuffer."""
        self._picture.copy_to(0, width, height)

    def image(self) -> np.ndarray:
        """Return the picture, uint8 (H, W, 3)."""
        return self._picture.read()

    def statistics(self) -> Statistics:
        """Return the numbers of the moment."""
        now = time.perf_counter()
        return Statistics(
            frame_ms=self._frame_ms,
            frames_per_second=sum(now - moment < 1.0 for moment in self._frame_times),
            rendered=(self._shown.width, self._shown.height) if self._shown else (0, 0),
            window=self.size,
            submodel=self._drawn.k if self._drawn else None,
            submodels=len(self.scene.params.params_to_sm),
            resident=len(self.streamer.resident),
            texture_bytes=self.streamer.nbytes,
            ceiling_bytes=self.streamer.ceiling_bytes,
            is_loading=self.streamer.is_loading,
        )

    def save_picture(self, path: Path) -> None:
        """Write the picture as a PNG."""
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.image()).save(path)

    def close(self) -> None:
        """Free everything in the context and end the thread."""
        self.streamer.close()
        self.renderer.free()
        self._picture.free()

    def _changed(self, is_moving: bool, now: float | None = None) -> None:
        self._version += 1
        if is_moving:
            self._last_move = time.monotonic() if now is None else now
        elif now is None:
            self._last_move = -math.inf

    def _depth_at(self, u: float, v: float) -> float | None:
        return self.renderer.depth_at(self._shown, u, v) if self._shown is not None else None

    def _draw_preview(self, submodel: Submodel) -> None:
        width, height = self.size
        wanted = PREVIEW_MS / self._pixel_ms if self.has_picture else _MIN_PREVIEW_PIXELS
        pixels = min(width * height, max(_MIN_PREVIEW_PIXELS, wanted))
        # Coarse steps of size keep the targets from being made anew at every frame.
        step = min(12, math.ceil(12 * math.sqrt(pixels / (width * height))))
        target = self.renderer.target("preview", math.ceil(width * step / 12), math.ceil(height * step / 12))
        ms = self._timed_draw(target, submodel, 0, target.height)
        self._previewed = self._version
        self._take(target, ms)

    def _draw_band(self, submodel: Submodel) -> bool:
        target = self.renderer.target("full", *self.size)
        version, low, spent = self._band
        if version != self._version:
            low, spent = 0, 0.0
        pixels = BAND_MS / self._pixel_ms
        high = min(target.height, low + max(4, int(pixels / target.width)))
        spent += self._timed_draw(target, submodel, low, high)
        self._band = (self._version, high, spent)
        if high < target.height:
            return False
        self._band = (-1, 0, 0.0)
        self._finished = self._version
        self._take(target, spent)
        return True

    def _timed_draw(self, target: Target, submodel: Submodel, low: int, high: int) -> float:
        if not self.has_picture:
            # Drivers compile at the first use, which says nothing about the frames to come.
            self.renderer.draw(target, submodel, self.camera, 0, 1)
            gl().glFinish()
        since = time.perf_counter()
        self.renderer.draw(target, submodel, self.camera, low, high)
        gl().glFinish()
        ms = 1e3 * (time.perf_counter() - since)
        self._pixel_ms += (ms / (target.width * (high - low)) - self._pixel_ms) * 0.4
        return ms

    def _take(self, target: Target, ms: float) -> None:
        self._picture.take(target)
        self._shown, self._frame_ms, self.has_picture = target, ms, True
        self._frame_times.append(time.perf_counter())


class _Picture:
    """The finished pixels at the window's size, apart from the targets that the next frame is drawn to."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.texture, self.frame = self._make(width, height)

    def _make(self, width: int, height: int) -> tuple[int, int]:
        GL = gl()
        texture, frame = int(GL.glGenTextures(1)), int(GL.glGenFramebuffers(1))
        GL.glBindTexture(GL.GL_TEXTURE_2D, texture)
        GL.glTexImage2D(
            GL.GL_TEXTURE_2D, 0, GL.GL_RGBA8, width, height, 0, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, None
        )
        GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MAX_LEVEL, 0)
        GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, frame)
        GL.glFramebufferTexture2D(GL.GL_FRAMEBUFFER, GL.GL_COLOR_ATTACHMENT0, GL.GL_TEXTURE_2D, texture, 0)
        GL.glClearColor(0.0, 0.0, 0.0, 1.0)
        GL.glClear(GL.GL_COLOR_BUFFER_BIT)
        return texture, frame

    def resize(self, width: int, height: int) -> None:
        old = self.width, self.height, self.texture, self.frame
        self.texture, self.frame = self._make(width, height)
        self.width, self.height = width, height
        _copy(old[3], old[0], old[1], self.frame, width, height)
        gl().glDeleteTextures([old[2]])
        gl().glDeleteFramebuffers(1, [old[3]])

    def take(self, target: Target) -> None:
        _copy(target.pixel_frame, target.width, target.height, self.frame, self.width, self.height)

    def copy_to(self, frame: int, width: int, height: int) -> None:
        _copy(self.frame, self.width, self.height, frame, width, height)

    def read(self) -> np.ndarray:
        GL = gl()
        out = np.empty((self.height, self.width, 4), np.uint8)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self.frame)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        GL.glReadPixels(0, 0, self.width, self.height, GL.GL_RGBA, GL.GL_UNSIGNED_BYTE, out)
        return np.ascontiguousarray(out[::-1, :, :3])

    def free(self) -> None:
        gl().glDeleteTextures([self.texture])
        gl().glDeleteFramebuffers(1, [self.frame])


def _copy(source: int, width: int, height: int, target: int, to_width: int, to_height: int) -> None:
    GL = gl()
    GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, source)
    GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, target)
    smooth = GL.GL_NEAREST if (width, height) == (to_width, to_height) else GL.GL_LINEAR
    GL.glBlitFramebuffer(0, 0, width, height, 0, 0, to_width, to_height, GL.GL_COLOR_BUFFER_BIT, smooth)
    GL.glBindFramebuffer(GL.GL_FRAMEBUFFER, target)
