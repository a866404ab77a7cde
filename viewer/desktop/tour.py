"""The camera path of a window: recorded keyframes, and the place along the path while it plays."""

from __future__ import annotations

from dataclasses import replace

from .path import CameraPath, View

__all__ = ["Tour"]


class Tour:
    """A camera path that is recorded or read from a file, and played."""

    def __init__(self) -> None:
        self.path: CameraPath | None = None
        self.keyframes: list[View] = []
        self.is_playing = self.is_cycle = False
        self._time = 0.0

    def add(self, view: View) -> int:
        """Record a keyframe; return how many there are."""
        self.keyframes.append(view)
        self._remake()
        return len(self.keyframes)

    def remove(self) -> int:
        """Forget the keyframe that was recorded last; return how many are left."""
        if self.keyframes:
            self.keyframes.pop()
            self._remake()
        return len(self.keyframes)

    def take(self, path: CameraPath) -> None:
        """Take a path from a file; its keyframes can be added to."""
        self.pause()
        self.path, self.keyframes, self._time = path, list(path.keyframes), 0.0
        self.is_cycle = path.is_cycle

    def play(self) -> bool:
        """Start or pause the path; say whether there is one."""
        if self.path is None:
            return False
        if not self.is_playing and self._is_over:
            self._time = 0.0
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
            self._remake()

    def advance(self, dt: float) -> View | None:
        """Go on by ``dt`` seconds; return the view there, ``None`` unless the path plays. Stops at its end."""
        if not self.is_playing or self.path is None:
            return None
        self._time += dt
        view = self.path.at(self._time)
        if self._is_over:
            self.pause()
        return view

    @property
    def _is_over(self) -> bool:
        return self.path is not None and not self.path.is_cycle and self._time >= self.path.seconds

    def _remake(self) -> None:
        self.pause()
        self._time = 0.0
        keys = self.keyframes
        self.path = CameraPath.through(keys, is_cycle=self.is_cycle) if len(keys) > 1 else None
