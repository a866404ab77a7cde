"""The loop of the desktop viewer for a scene of slots, without its window: camera, edits, preview or full detail."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import SmerfError
from smerf.scene.slots import SlotScene

from .context import gl
from .controls import Controls
from .slots import Canvas, SlotEdits, SlotPainter

__all__ = ["SlotView", "moved_on_ground"]

REST_SECONDS = 0.15
PREVIEW_MS, BAND_MS, PATIENCE_MS = 28.0, 40.0, 200.0
# Models of this kind learn from small images: more pixels at rest show nothing new.
MOST_PIXELS = 512 * 512
_MIN_PREVIEW_PIXELS = 900
_FARTHEST_DRAG = 20.0


def moved_on_ground(
    origin: np.ndarray, before: np.ndarray, after: np.ndarray, height: float = 0.0
) -> np.ndarray:
    """Return the shift (3,) on the plane z = ``height`` between the points where two rays (3,) meet it.

    Zero if a ray does not go down to the plane within 20 units.
    """
    points = []
    for ray in (before, after):
        reach = (height - origin[2]) / ray[2] if abs(ray[2]) > 1e-6 else -1.0
        if not 0.0 < reach < _FARTHEST_DRAG:
            return np.zeros(3)
        points.append(origin + reach * ray)
    return (points[1] - points[0]) * (1.0, 1.0, 0.0)


class SlotView:
    """Draws a scene of slots and takes edits. Needs a current context.

    Args:
        scene: The scene.
        size: The picture's size in pixels.
        fov: Vertical field of view in degrees; that of the input views by default.
    """

    def __init__(self, scene: SlotScene, size: tuple[int, int], fov: float | None = None) -> None:
        self.scene, self.size = scene, size
        self.painter = SlotPainter(scene)
        self.fov = scene.fov if fov is None else fov
        self.controls = Controls(fov=lambda: self.fov)
        self.edits = SlotEdits.of(scene)
        self.operations: list[dict[str, Any]] = []
        self.highlight: int | None = None
        self.are_masks_shown = False
        self.shown: Canvas | None = None
        self.frame_ms = 0.0
        self._canvases: dict[str, Canvas] = {}
        self._version, self._finished, self._previewed = 0, -1, -1
        self._band = (-1, 0, 0.0)
        self._last_move, self._last_tick = -math.inf, -math.inf
        self._pixel_ms = PREVIEW_MS / 2000.0
        self.reset()

    def reset(self) -> None:
        """Go back to the first input view."""
        self.controls.set_pose(self.scene.pose, np.zeros(3))
        self._changed()

    def show(self, pose: np.ndarray, fov: float) -> None:
        """Jump to an OpenGL camera-to-world pose (3, 4) with a vertical field of view in degrees."""
        self.fov = fov
        self.controls.set_pose(pose, np.zeros(3))
        self._changed()

    def toggle(self, index: int) -> bool:
        """Hide or show a slot; say whether that was possible: one must stay."""
        if not 0 <= index < len(self.scene.slots):
            return False
        hidden = self.edits.hidden
        if index not in hidden and len(hidden) == len(self.scene.slots) - 1:
            return False
        hidden.symmetric_difference_update({index})
        self._changed()
        return True

    def move(self, index: int, shift: np.ndarray) -> None:
        """Move a slot by a shift (3,) in world units."""
        motion = np.eye(4)
        motion[:3, 3] = shift
        self.edits.motions[index] = motion @ self.edits.motions[index]
        number, translate = self.scene.slots[index].number, [float(x) for x in shift]
        last = self.operations[-1] if self.operations else {}
        if last.get("slot") == number:
            # The steps of one drag are one operation.
            last["translate"] = [a + b for a, b in zip(last["translate"], translate)]
        else:
            self.operations.append({"op": "move", "slot": number, "translate": translate})
        self._changed(True)

    def undo(self) -> None:
        """Take all edits of this view back."""
        self.edits, self.operations = SlotEdits.of(self.scene), []
        self._changed()

    def save_operations(self, path: Path) -> None:
        """Write the edits as a script for ``smerf objects edit --script``."""
        removed = [{"op": "remove", "slot": self.scene.slots[k].number} for k in sorted(self.edits.hidden)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.operations + removed, indent=1) + "\n", encoding="utf-8")

    def ray(self, u: float, v: float) -> np.ndarray:
        """Return the viewing direction (3,) through a point of the picture (fractions from the upper left)."""
        tangent = math.tan(math.radians(0.5 * self.fov))
        pose = self.controls.pose
        x, y = (2.0 * u - 1.0) * tangent * self.size[0] / self.size[1], (1.0 - 2.0 * v) * tangent
        ray = pose[:, 0] * x + pose[:, 1] * y - pose[:, 2]
        return ray / np.linalg.norm(ray)

    def owner_at(self, u: float, v: float) -> int | None:
        """Return the index of the slot that is seen at a point of the picture, ``None`` before the first frame."""
        return None if self.shown is None else self.shown.owner_at(u, v)

    @property
    def is_finished(self) -> bool:
        """Whether the full-detail picture is there."""
        return self._finished == self._version

    @property
    def needs_ticks(self) -> bool:
        """Whether something is going on."""
        return not self.is_finished or self.controls.is_moving or bool(self.controls.keys)

    def resize(self, width: int, height: int) -> None:
        """Change the picture's size."""
        if (width, height) != self.size:
            self.size = width, height
            self._changed()

    def tick(self, now: float) -> bool:
        """Go on at the time ``now`` (seconds); say whether the picture changed."""
        dt = min(0.25, max(0.001, now - self._last_tick)) if now - self._last_tick < 0.5 else 1.0 / 60.0
        self._last_tick = now
        if self.controls.update(dt):
            self._changed(True, now)
        if now - self._last_move < REST_SECONDS or self._needs_preview:
            if self._previewed == self._version:
                return False
            self._draw_preview()
            return True
        return False if self.is_finished else self._draw_band()

    @property
    def _needs_preview(self) -> bool:
        """Whether full detail would keep someone waiting who has hidden an object or just arrived."""
        pixels = min(MOST_PIXELS, self.size[0] * self.size[1])
        is_shown = self._version in (self._previewed, self._finished)
        return not is_shown and self._pixel_ms * pixels > PATIENCE_MS

    def finish(self, timeout: float = 600.0) -> None:
        """Draw until the full-detail picture is there."""
        end = time.monotonic() + timeout
        self._last_move = -math.inf
        while not self.is_finished:
            self.tick(time.monotonic())
            if time.monotonic() > end:
                raise SmerfError(f"the picture was not finished within {timeout:.0f} s")

    def present(self, box: tuple[int, int, int, int], frame: int = 0) -> None:
        """Put the picture into ``box`` (left, low, width, height) of a framebuffer."""
        if self.shown is not None:
            self.painter.present(self.shown, box, 0.8 if self.are_masks_shown else 0.0, self.highlight, frame)

    def image(self) -> np.ndarray:
        """Return the colours of the picture, uint8 (h, w, 3)."""
        assert self.shown is not None
        return self.shown.read()[..., :3]

    def close(self) -> None:
        """Free everything in the context."""
        self.painter.free()
        for canvas in self._canvases.values():
            canvas.free()
        self._canvases = {}

    def _changed(self, is_moving: bool = False, now: float | None = None) -> None:
        self._version += 1
        self._last_move = (time.monotonic() if now is None else now) if is_moving else -math.inf

    def _canvas(self, role: str, pixels: float) -> Canvas:
        shrink = min(1.0, math.sqrt(pixels / (self.size[0] * self.size[1])))
        size = (max(1, round(self.size[0] * shrink)), max(1, round(self.size[1] * shrink)))
        old = self._canvases.get(role)
        if old is not None:
            if (old.width, old.height) == size:
                return old
            if self.shown is old:
                self.shown = None
            old.free()
        self._canvases[role] = Canvas.create(*size)
        return self._canvases[role]

    def _draw_preview(self) -> None:
        most = min(MOST_PIXELS, self.size[0] * self.size[1])
        pixels = min(most, max(_MIN_PREVIEW_PIXELS, PREVIEW_MS / self._pixel_ms))
        # Coarse steps of size keep the image from being made anew at every frame.
        step = math.ceil(16 * math.sqrt(pixels / most)) / 16
        canvas = self._canvas("preview", most * step * step)
        self.frame_ms = self._timed_draw(canvas, 0, canvas.height)
        self.shown, self._previewed = canvas, self._version

    def _draw_band(self) -> bool:
        canvas = self._canvas("full", MOST_PIXELS)
        version, low, spent = self._band
        if version != self._version:
            low, spent = 0, 0.0
        rows = max(2, int(BAND_MS / self._pixel_ms / canvas.width) // 2 * 2)
        high = min(canvas.height, low + rows)
        spent += self._timed_draw(canvas, low, high)
        self._band = (self._version, high, spent)
        if high < canvas.height:
            return False
        self._band = (-1, 0, 0.0)
        self._finished, self.shown, self.frame_ms = self._version, canvas, spent
        return True

    def _timed_draw(self, canvas: Canvas, low: int, high: int) -> float:
        since = time.perf_counter()
        self.painter.draw(canvas, self.controls.pose, self.fov, self.edits, low, high)
        gl().glFinish()
        ms = 1e3 * (time.perf_counter() - since)
        self._pixel_ms += (ms / (canvas.width * (high - low)) - self._pixel_ms) * 0.4
        return ms
