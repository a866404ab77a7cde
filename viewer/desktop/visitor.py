"""Holds the camera softly where photos support what it sees, and lets visitors walk: ``viewer/web/visitor.js``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from smerf.scene.region import contract, support
from smerf.scene.types import VIEWER_FROM_TRAINING
from smerf.scene.walk import Body, Place, Walker

__all__ = ["Visitor", "look"]

_ENOUGH = 0.85
_RETURN_SECONDS = 0.15
_RAYS = (-0.9, -0.45, 0.0, 0.45, 0.9)
_REACH, _FAR = 8.0, 1e4
_METRES_PER_SECOND = 1.4
_NEAREST, _BEFORE = 0.1, 0.6
_DEFAULT_EYE = 0.3
_STUCK_SECONDS = 0.4

Basis = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Right, up and forward of a camera."""


def look(
    place: Place, origin: np.ndarray, basis: Basis, tangents: tuple[float, float]
) -> tuple[float, float] | None:
    """Return the share of a view that photos support, in [0, 1], and the depth of the nearest thing.

    ``None`` where nothing says so. ``tangents`` are half the view's width and height at distance one.
    """
    if place.known is None:
        return None
    right, up, forward = basis
    rays = np.array([forward + right * x * tangents[0] + up * y * tangents[1] for x in _RAYS for y in _RAYS])
    lengths = np.linalg.norm(rays, axis=-1, keepdims=True)
    rays /= lengths
    distances = _distances(place.grain)
    points = origin + rays[:, None] * distances[:, None]
    where = contract((points.reshape(-1, 3) - place.centre) @ VIEWER_FROM_TRAINING.T * place.scale)
    cells = 2 * len(place.occupancy)
    x, y, z = np.clip(((where + 2.0) * 0.25 * cells).astype(np.int64), 0, cells - 1).T
    bits = place.occupancy[x >> 1, y >> 1, z >> 1] >> (4 * (x & 1) + 2 * (y & 1) + (z & 1))
    solid = (bits & 1).astype(bool).reshape(len(rays), -1)
    solid[:, -1] = True
    first = solid.argmax(1)
    ends = where.reshape(len(rays), -1, 3)[np.arange(len(rays)), first]
    # What no photo looked into may hold anything.
    between = (np.arange(len(distances)) < first[:, None]) & (distances > place.reach)
    is_clear = (place.sees(where).reshape(between.shape) | ~between).all(1)
    nearest = float((distances[first] / lengths[:, 0]).min())
    eye = [float(c) for c in origin]
    # Nobody looks about inside of things.
    if place.is_solid(*eye) or not place.is_known(*eye):
        return 0.0, nearest
    return float((is_clear * support(place.known, ends, rays @ VIEWER_FROM_TRAINING.T)).mean()), nearest


def _distances(grain: float) -> np.ndarray:
    """Return where a ray is looked at: every half cell nearby, ever more rarely farther away, and at the end of all."""
    steps = [grain]
    while steps[-1] < _REACH:
        steps.append(steps[-1] + max(0.5 * grain, 0.01 * steps[-1]))
    return np.array([*steps[:-1], _FAR])


class Visitor:
    """What a scene allows a visitor.

    Args:
        eye: Height of the eyes in training units, ``None`` for a guess.
        tangents: Half the view's width and height at distance one, of the moment.
    """

    def __init__(self, eye: float | None, tangents: Callable[[], tuple[float, float]]) -> None:
        self.eye, self.tangents = eye or _DEFAULT_EYE, tangents
        self.place: Place | None = None
        self.is_free = False
        self.is_held = False
        """Whether the camera was brought back since this was last set to false."""
        self.nearest = math.inf
        """Depth of the nearest thing, as far as it was looked for."""
        self.walker: Walker | None = None
        self._errand: np.ndarray | None = None
        self._idle = 0.0

    def pull(self, origin: np.ndarray, basis: Basis, dt: float) -> float:
        """Return how far to go back to the last good view after ``dt`` seconds at this one; 0 for a good one."""
        seen = None if self.place is None else look(self.place, origin, basis, self.tangents())
        self.nearest = math.inf if seen is None else seen[1]
        if self.is_free or seen is None or seen[0] >= _ENOUGH:
            return 0.0
        return 1.0 - math.exp(-dt / _RETURN_SECONDS)

    def near_plane(self, near: float) -> float:
        """Return the near plane, closer than the scene's own where that would cut open what is before the eyes."""
        return min(near, max(_NEAREST * near, _BEFORE * self.nearest))

    def begin(self, position: np.ndarray) -> None:
        """Begin to walk with the eyes at ``position``, if the place is known."""
        self._errand = None
        self.walker = None if self.place is None else Walker(self.place, Body.of_eye(self.eye), position)

    def end(self) -> None:
        """Stop walking."""
        self.walker = self._errand = None
        self.nearest = math.inf

    @property
    def speed(self) -> float:
        """Training units a second."""
        return _METRES_PER_SECOND * Body.of_eye(self.eye).metre

    @property
    def is_busy(self) -> bool:
        """Whether the visitor moves without being asked to."""
        return self._errand is not None or (self.walker is not None and self.walker.fall > 0.0)

    def go_to(self, point: np.ndarray) -> None:
        """Go towards a point."""
        self._errand, self._idle = np.asarray(point, np.float64), 0.0

    def walk(self, step: np.ndarray, dt: float) -> np.ndarray:
        """Walk by a horizontal step, or on towards where the visitor was sent; return where the eyes are then."""
        assert self.walker is not None
        walker, before = self.walker, self.walker.position
        # Another submodel: the same visitor.
        walker.place = self.place or walker.place
        if step.any():
            self._errand = None
        wanted = step if self._errand is None else self._errand_step(dt)
        walker.move(float(wanted[0]), float(wanted[1]), dt)
        if self._errand is not None:
            went = float(np.hypot(*(walker.position - before)[:2]))
            self._idle = self._idle + dt if went < 0.2 * float(np.hypot(*wanted[:2])) else 0.0
            if self._idle > _STUCK_SECONDS:
                self._errand = None
        return walker.position

    def _errand_step(self, dt: float) -> np.ndarray:
        assert self.walker is not None and self._errand is not None
        way = (self._errand - self.walker.position) * [1.0, 1.0, 0.0]
        distance = float(np.linalg.norm(way))
        if distance < 2.0 * self.walker.body.radius:
            self._errand = None
            return np.zeros(3)
        return way * (min(distance, 2.0 * self.speed * dt) / distance)
