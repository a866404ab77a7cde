"""What the loops of both desktop viewers share: the motion of the camera, and a preview or bands of full detail."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Protocol

import numpy as np

from smerf.errors import SmerfError

from .context import gl
from .controls import Controls

__all__ = ["BAND_MS", "PREVIEW_MS", "BaseView", "Drawable"]

REST_SECONDS = 0.15
PREVIEW_MS, BAND_MS = 28.0, 40.0
_SMOOTHING = 0.4


class Drawable(Protocol):
    """An off-screen image of some size in pixels."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...


class BaseView:
    """A camera that moves and an image that follows it. Needs a current context.

    While the camera moves, whole frames are rendered at a resolution that keeps ``PREVIEW_MS``; when it rests, full
    detail comes in bands so that the window stays responsive, and the image changes once all are there.

    Args:
        size: The image's size in pixels.
        fov: Vertical field of view in degrees.
        pixel_ms: First guess of the milliseconds that a pixel takes.
    """

    controls: Controls

    def __init__(self, size: tuple[int, int], fov: float, pixel_ms: float) -> None:
        self.size, self.fov = size, fov
        self.frame_ms = 0.0
        self._version, self._finished, self._previewed = 0, -1, -1
        self._band: tuple[int, int, float] = (-1, 0, 0.0)  # version, next row, milliseconds so far
        self._last_move, self._last_tick, self._was_idle = -math.inf, 0.0, True
        self._pixel_ms = pixel_ms

    @property
    def is_finished(self) -> bool:
        """Whether the full-detail image of the current camera is there."""
        return self._finished == self._version

    @property
    def needs_ticks(self) -> bool:
        """Whether the camera moves by itself or by held keys."""
        return self.controls.is_moving or bool(self.controls.keys)

    def ray(self, u: float, v: float) -> np.ndarray:
        """Return the viewing direction (3,) through a point of the image (fractions from the upper left)."""
        tangent = math.tan(math.radians(0.5 * self.fov))
        pose = self.controls.pose
        x, y = (2.0 * u - 1.0) * tangent * self.size[0] / self.size[1], (1.0 - 2.0 * v) * tangent
        ray = pose[:, 0] * x + pose[:, 1] * y - pose[:, 2]
        return ray / np.linalg.norm(ray)

    def tick(self, now: float) -> bool:
        """Go on at the time ``now`` (seconds); say whether the image changed."""
        raise NotImplementedError

    def finish(self, timeout: float = 600.0) -> None:
        """Render until the full-detail image is there.

        Raises:
            InvalidDataError: If a submodel cannot be loaded.
            SmerfError: After ``timeout`` seconds.
        """
        end = time.monotonic() + timeout
        self._last_move = -math.inf
        while not self.is_finished:
            self.tick(time.monotonic())
            self._wait()
            if time.monotonic() > end:
                raise SmerfError(f"the image was not finished within {timeout:.0f} s")

    def image(self) -> np.ndarray:
        """Return the image, uint8 (H, W, 3)."""
        raise NotImplementedError

    def close(self) -> None:
        """Free everything in the context."""
        raise NotImplementedError

    def save_image(self, path: Path) -> None:
        """Write the image as a PNG."""
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.image()).save(path)

    def _wait(self) -> None:
        """Wait for what the next tick needs, such as a submodel that is being loaded."""

    def _draw_rows(self, target: Drawable, low: int, high: int) -> None:
        """Render rows [low, high) of the target."""
        raise NotImplementedError

    def _move(self, now: float) -> float:
        """Advance the camera to ``now``; return the seconds since the last tick."""
        # A pause of the loop is not a step of the motion.
        dt = 1.0 / 60.0 if self._was_idle else min(0.25, max(0.001, now - self._last_tick))
        self._was_idle, self._last_tick = True, now
        if self.controls.update(dt):
            self._changed(True, now)
        return dt

    def _is_at_rest(self, now: float) -> bool:
        return now - self._last_move >= REST_SECONDS

    def _changed(self, is_moving: bool = False, now: float | None = None) -> None:
        self._version += 1
        self._last_move = (time.monotonic() if now is None else now) if is_moving else -math.inf

    def _draw_preview(self, target: Drawable) -> None:
        self.frame_ms = self._timed_draw(target, 0, target.height)
        self._previewed = self._version

    def _draw_band(self, target: Drawable, rows: int) -> bool:
        """Render the next rows of full detail; say whether all are there."""
        version, low, spent = self._band
        if version != self._version:
            low, spent = 0, 0.0
        high = min(target.height, low + rows)
        spent += self._timed_draw(target, low, high)
        self._band = (self._version, high, spent)
        if high < target.height:
            return False
        self._band = (-1, 0, 0.0)
        self._finished, self.frame_ms = self._version, spent
        return True

    def _timed_draw(self, target: Drawable, low: int, high: int) -> float:
        since = time.perf_counter()
        self._draw_rows(target, low, high)
        gl().glFinish()
        ms = 1e3 * (time.perf_counter() - since)
        self._pixel_ms += (ms / (target.width * (high - low)) - self._pixel_ms) * _SMOOTHING
        return ms
