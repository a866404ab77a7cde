"""The loop of the desktop viewer for a scene of slots, without its window: camera, edits, preview or full detail."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from smerf.scene.slots import SlotScene

from .base_view import BAND_MS, PREVIEW_MS, BaseView, Drawable
from .controls import Controls
from .slots import Canvas, SlotEdits, SlotPainter

__all__ = ["SlotView", "moved_on_ground"]

PATIENCE_MS = 200.0
# Models of this kind learn from small images: more pixels at rest add no detail.
MAX_PIXELS = 512 * 512
_MIN_PREVIEW_PIXELS = 900
_MAX_DRAG = 20.0


def moved_on_ground(
    origin: np.ndarray, before: np.ndarray, after: np.ndarray, height: float = 0.0
) -> np.ndarray:
    """Return the shift (3,) on the plane z = ``height`` between the points where two rays (3,) meet it.

    Zero if a ray does not go down to the plane within 20 units.
    """
    points = []
    for ray in (before, after):
        reach = (height - origin[2]) / ray[2] if abs(ray[2]) > 1e-6 else -1.0
        if not 0.0 < reach < _MAX_DRAG:
            return np.zeros(3)
        points.append(origin + reach * ray)
    return (points[1] - points[0]) * (1.0, 1.0, 0.0)


class SlotView(BaseView):
    """Renders a scene of slots and takes edits. Needs a current context.

    Args:
        scene: The scene.
        size: The image's size in pixels.
        fov: Vertical field of view in degrees; that of the input views by default.
    """

    def __init__(self, scene: SlotScene, size: tuple[int, int], fov: float | None = None) -> None:
        super().__init__(size, scene.fov if fov is None else fov, PREVIEW_MS / 2000.0)
        self.scene = scene
        self.painter = SlotPainter(scene)
        self.controls = Controls(fov=lambda: self.fov)
        self.edits = SlotEdits.of(scene)
        self.operations: list[dict[str, Any]] = []
        self.highlight: int | None = None
        self.are_masks_shown = False
        self.shown: Canvas | None = None
        self._canvases: dict[str, Canvas] = {}
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

    def owner_at(self, u: float, v: float) -> int | None:
        """Return the index of the slot that is seen at a point of the image, ``None`` before the first frame."""
        return None if self.shown is None else self.shown.owner_at(u, v)

    @property
    def needs_ticks(self) -> bool:
        """Whether something is going on."""
        return super().needs_ticks or not self.is_finished

    def resize(self, width: int, height: int) -> None:
        """Change the image's size."""
        if (width, height) != self.size:
            self.size = width, height
            self._changed()

    def tick(self, now: float) -> bool:
        """Go on at the time ``now`` (seconds); say whether the image changed."""
        self._move(now)
        if not self._is_at_rest(now) or self._needs_preview:
            self._was_idle = False
            if self._previewed == self._version:
                return False
            canvas = self._preview_canvas()
            self._draw_preview(canvas)
            self.shown = canvas
            return True
        if self.is_finished:
            return False
        canvas = self._canvas("full", MAX_PIXELS)
        # Rows count pairs: the shader renders blocks of 2 x 2 pixels.
        is_done = self._draw_band(canvas, max(2, int(BAND_MS / self._pixel_ms / canvas.width) // 2 * 2))
        if is_done:
            self.shown = canvas
        return is_done

    @property
    def _needs_preview(self) -> bool:
        """Whether full detail would keep someone waiting who has hidden an object or just arrived."""
        pixels = min(MAX_PIXELS, self.size[0] * self.size[1])
        is_shown = self._version in (self._previewed, self._finished)
        return not is_shown and self._pixel_ms * pixels > PATIENCE_MS

    def present(self, box: tuple[int, int, int, int], frame: int = 0) -> None:
        """Put the image into ``box`` (left, low, width, height) of a framebuffer."""
        if self.shown is not None:
            self.painter.present(self.shown, box, 0.8 if self.are_masks_shown else 0.0, self.highlight, frame)

    def image(self) -> np.ndarray:
        """Return the colours of the image, uint8 (h, w, 3)."""
        assert self.shown is not None
        return self.shown.read()[..., :3]

    def close(self) -> None:
        """Free everything in the context."""
        self.painter.free()
        for canvas in self._canvases.values():
            canvas.free()
        self._canvases = {}

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

    def _preview_canvas(self) -> Canvas:
        available = min(MAX_PIXELS, self.size[0] * self.size[1])
        pixels = min(available, max(_MIN_PREVIEW_PIXELS, PREVIEW_MS / self._pixel_ms))
        # Coarse steps of size keep the image from being created again at every frame.
        step = math.ceil(16 * math.sqrt(pixels / available)) / 16
        return self._canvas("preview", available * step * step)

    def _draw_rows(self, target: Drawable, low: int, high: int) -> None:
        assert isinstance(target, Canvas)
        self.painter.draw(target, self.controls.pose, self.fov, self.edits, low, high)
