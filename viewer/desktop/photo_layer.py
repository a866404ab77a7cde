"""The photo over the image of its camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from .overlay import Photo

__all__ = ["PhotoLayer", "Photos"]

Photos = Mapping[str, Callable[[int], np.ndarray]]
"""Of each photo's name a function from the longest edge in pixels to the photo (H, W, 3), uint8."""

_EDGE = 1024


class PhotoLayer:
    """Photos that are looked for when the first is wanted. Needs a current context.

    Args:
        find: Returns the scene's photos; empty if they are not at hand.
    """

    def __init__(self, find: Callable[[], Photos]) -> None:
        self.is_wanted = False
        self._find = find
        self._photos: Photos | None = None
        self._photo: tuple[str, Photo] | None = None

    def toggle(self) -> bool:
        """Show or hide photos; say whether there are any."""
        if self._photos is None:
            self._photos = self._find()
        self.is_wanted = not self.is_wanted and bool(self._photos)
        return bool(self._photos)

    def draw(self, name: str, box: tuple[float, float, float, float], size: tuple[int, int]) -> None:
        """Draw the photo ``name`` to ``box`` (left, top, width, height in pixels) of a framebuffer of this size.

        Raises:
            InvalidDataError: If its file is damaged; photos are then hidden.
        """
        read = (self._photos or {}).get(name)
        if read is None:
            return
        if self._photo is None or self._photo[0] != name:
            self.free()
            # Hidden unless it can be read.
            self.is_wanted = False
            self._photo = name, Photo(read(_EDGE))
            self.is_wanted = True
        self._photo[1].draw(size, box)

    def free(self) -> None:
        """Free the texture."""
        if self._photo is not None:
            self._photo[1].free()
            self._photo = None
