"""The loop of the desktop viewer without its window: which camera, which submodel, preview or full detail."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene import Camera
from smerf.scene.region import choose_start
from smerf.scene.supersample import pixel_angle, rays_in_window
from smerf.scene.types import VIEWER_FROM_TRAINING, BakedScene
from smerf.scene.walk import Place, standing_places

from .base_view import BAND_MS, PREVIEW_MS, BaseView, Drawable
from .camera import common_target, look_at
from .context import gl
from .controls import Controls
from .frozen import Frozen
from .objects import ObjectList
from .path import View
from .renderer import Renderer, Target, pinhole
from .stream import Streamer
from .submodel import Submodel
from .tour import Tour
from .visitor import Visitor

__all__ = ["DEFAULT_FOV", "Statistics", "Viewer", "start_view"]

DEFAULT_FOV = 40.0
_MIN_PREVIEW_PIXELS = 4000
_MIN_BAND_ROWS = 4


def start_view(scene: BakedScene, fov: float | None = None, aspect: float = 1.5) -> View:
    """Return where the scene opens: what photos cover, else its start camera, else its first submodel's centre."""
    region = scene.manifest.region
    covered = choose_start(region, aspect) if region is not None else None
    if covered is not None:
        return View(np.asarray(covered[0], np.float64), fov or covered[1])
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


class Viewer(BaseView):
    """Renders a scene and moves its camera. Needs a current context.

    Args:
        scene: What to show.
        size: The image's size in pixels.
        ceiling_bytes: Texture memory for submodels.
        mode: ``orbit``, ``walk`` or ``fly``; as the capture suggests by default.
        fov: Vertical field of view in degrees; the scene's own by default.
    """

    def __init__(
        self,
        scene: BakedScene,
        size: tuple[int, int],
        ceiling_bytes: int,
        mode: str | None = None,
        fov: float | None = None,
    ) -> None:
        super().__init__(size, DEFAULT_FOV, PREVIEW_MS / 60000.0)
        self.scene = scene
        self.renderer = Renderer(scene)
        self.streamer = Streamer(scene, ceiling_bytes)
        self.tour = Tour()
        self.objects = ObjectList(scene.manifest.objects, self._set_objects)
        region = scene.manifest.region
        self.visitor = Visitor(region.eye if region is not None else None, self._tangents)
        mode = mode or (region.mode if region is not None else "orbit")
        self.controls = Controls(
            self._depth_at, lambda: self.fov, self.tour.pause, mode=mode, visitor=self.visitor
        )
        self.has_image = False
        self._given_fov = fov
        self._training_view = -1
        self._photo_pose = np.zeros((3, 4))
        self._frozen = Frozen(*size)
        self._shown: Target | None = None
        self._drawn: Submodel | None = None
        self._frame_times: deque[float] = deque(maxlen=1000)
        self.reset()

    # The camera

    @property
    def view(self) -> View:
        """Where the camera is."""
        return View(self.controls.pose, self.fov)

    @property
    def camera(self) -> Camera:
        """The camera that is drawn, at the image's size."""
        return pinhole(self.controls.pose, *self.size, self.fov)

    def reset(self) -> None:
        """Go to where the scene opens."""
        self.show(start_view(self.scene, self._given_fov, self.size[0] / self.size[1]))

    def show(self, view: View, is_moving: bool = False) -> None:
        """Jump to a view; ``is_moving`` says that more will follow at once."""
        if not is_moving:
            self.tour.pause()
        self.fov = view.fov
        self.controls.set_pose(view.pose)
        self._changed(is_moving)

    def frame_scene(self) -> None:
        """Step back until all that the photos look at is in the image."""
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
        # The tighter side decides, so that all of the photo is in the image.
        focal = min(self.size[0] / lens.width * lens.fx, self.size[1] / lens.height * lens.fy)
        fov = math.degrees(2.0 * math.atan(self.size[1] / (2.0 * focal)))
        pose = np.asarray(entry.camera.world_from_cam, np.float64)
        self.show(View(pose, fov))
        self._photo_pose = pose
        return entry.name

    @property
    def photo(self) -> tuple[str, tuple[float, float, float, float]] | None:
        """Name of the photo whose camera is drawn, and the box that the photo covers: left, top, width, height in
        pixels of the image. ``None`` where the camera is no photo's.
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

    # Frames

    @property
    def is_finished(self) -> bool:
        """Whether the full-detail image of the current camera is there, drawn with the submodel it asks for."""
        return self._finished == self._version and self.streamer.is_wanted_shown

    @property
    def needs_ticks(self) -> bool:
        """Whether something is going on: motion, an unfinished image, a submodel under way."""
        is_drawing = self._drawn is not None and self._finished != self._version
        return super().needs_ticks or is_drawing or self.tour.is_playing or self.streamer.is_loading

    def resize(self, width: int, height: int) -> None:
        """Change the image's size; the old image is shown, stretched, until the new one is there."""
        if (width, height) == self.size or min(width, height) < 1:
            return
        self.size = width, height
        self._frozen.resize(width, height)
        self._changed(True)

    def tick(self, now: float) -> bool:
        """Go on at the time ``now`` (seconds); say whether the image changed."""
        view = self.tour.advance(self._move(now))
        if view is not None:
            self.show(view, is_moving=True)
            self._last_move = now
        self.streamer.poll()
        submodel = self.streamer.submodel_for(self.controls.pose[:, 3])
        if submodel is None:
            return False
        if submodel is not self._drawn:
            self._drawn = submodel
            self._version += 1
            self._enter(submodel)
        if not self._is_at_rest(now) or not self.has_image:
            self._was_idle = False
            if self._previewed == self._version:
                return False
            target = self._preview_target()
            self._draw_preview(target)
            self._take(target)
            return True
        if self._finished == self._version:
            return False
        rays = self._rays
        target = self.renderer.target("full", rays * self.size[0], rays * self.size[1])
        is_done = self._draw_band(target, max(_MIN_BAND_ROWS, int(BAND_MS / self._pixel_ms / target.width)))
        if is_done:
            self._take(target)
        return is_done

    def present(self, width: int, height: int) -> None:
        """Copy the image to the window's framebuffer."""
        self._frozen.copy_to(0, width, height)

    def image(self) -> np.ndarray:
        """Return the image, uint8 (H, W, 3)."""
        return self._frozen.read()

    def statistics(self) -> Statistics:
        """Return the numbers of the moment."""
        now = time.perf_counter()
        return Statistics(
            frame_ms=self.frame_ms,
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

    def close(self) -> None:
        """Free everything in the context and end the thread."""
        self.streamer.close()
        self.renderer.free()
        self._frozen.free()

    @property
    def _rays(self) -> int:
        """Rays along an edge of a pixel of the finished image."""
        return rays_in_window(
            pixel_angle(self.camera.intrinsics), self.scene.manifest.pixel_angle, *self.size
        )

    def _tangents(self) -> tuple[float, float]:
        tangent = math.tan(math.radians(0.5 * self.fov))
        return tangent * self.size[0] / self.size[1], tangent

    def _enter(self, submodel: Submodel) -> None:
        """Tell the controls what is solid and known around the camera."""
        if submodel.solid is not None:
            stands = standing_places(self.scene.manifest)
            place = Place(self.scene.params, submodel.k, submodel.solid, submodel.known, *stands)
            self.visitor.place = place

    def object_at(self, u: float, v: float) -> int:
        """Return the object seen at a point of the image (fractions from the upper left), 0 for none."""
        if self._drawn is None:
            return 0
        return self.renderer.object_at(self._drawn, self.camera, self.size, u, v)

    def _set_objects(self, hidden: np.ndarray, lit: np.ndarray) -> None:
        self.renderer.set_objects(hidden, lit)
        self._changed()

    def _depth_at(self, u: float, v: float) -> float | None:
        return self.renderer.depth_at(self._shown, u, v) if self._shown is not None else None

    def _wait(self) -> None:
        if self.streamer.error:
            raise InvalidDataError(self.streamer.error)
        if self._drawn is None or self.streamer.is_loading:
            time.sleep(0.001)

    def _preview_target(self) -> Target:
        width, height = self.size
        wanted = PREVIEW_MS / self._pixel_ms if self.has_image else _MIN_PREVIEW_PIXELS
        pixels = min(width * height, max(_MIN_PREVIEW_PIXELS, wanted))
        # Coarse steps of size keep the targets from being created again at every frame.
        step = min(12, math.ceil(12 * math.sqrt(pixels / (width * height))))
        return self.renderer.target("preview", math.ceil(width * step / 12), math.ceil(height * step / 12))

    def _draw_rows(self, target: Drawable, low: int, high: int) -> None:
        assert isinstance(target, Target) and self._drawn is not None
        near = self.visitor.near_plane(self.renderer.near)
        self.renderer.draw(target, self._drawn, self.camera, low, high, near)

    def _timed_draw(self, target: Drawable, low: int, high: int) -> float:
        if not self.has_image:
            # Drivers compile at the first use, which says nothing about the frames to come.
            self._draw_rows(target, 0, 1)
            gl().glFinish()
        return super()._timed_draw(target, low, high)

    def _take(self, target: Target) -> None:
        self._frozen.take(target)
        self._shown, self.has_image = target, True
        self._frame_times.append(time.perf_counter())
