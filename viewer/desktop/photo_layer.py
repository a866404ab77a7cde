"""The photo over the image of its camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from smerf.capture.types import Capture, Frame
from smerf.export.photos import small_photo

from .overlay import Photo

__all__ = ["PhotoLayer"]

_EDGE = 1024


class PhotoLayer:
    """Photos of a capture that is asked for when the first is wanted. Needs a current context.

    Args:
        capture: Returns the capture with the scene's photos, or ``None``.
    """

    def __init__(self, capture: Callable[[], Capture | None]) -> None:
        self.is_wanted = False
        self._capture = capture
        self._frames: dict[str, Frame] | None = None
        self._photo: tuple[str, Photo] | None = None

    def toggle(self) -> bool:
        """Show or hide photos; say whether there are any."""
        if self._frames is None:
            capture = self._capture()
            self._frames = {frame.name: frame for frame in capture.frames} if capture else {}
        self.is_wanted = not self.is_wanted and bool(self._frames)
        return bool(self._frames)

    def draw(self, name: str, box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
        """Draw the photo ``name`` to ``box`` (left, top, width, height in pixels) of a framebuffer of this size.

        Raises:
            InvalidDataError: If its file is damaged; photos are then hidden.
        """
        frame = (self._frames or {}).get(name)
        if frame is None:
            return
        if self._photo is None or self._photo[0] != name:
            self.free()
            # Hidden unless it can be read.
            self.is_wanted = False
            self._photo = name, Photo(np.asarray(small_photo(frame, _EDGE)))
            self.is_wanted = True
        self._photo[1].draw(size, box)

    def free(self) -> None:
        """Free the texture."""
        if self._photo is not None:
            self._photo[1].free()
            self._photo = None
