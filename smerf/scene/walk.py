"""Walking through a baked scene: gravity, eye height, steps, and walls that one slides along.

``viewer/web/walk.js`` does the same in the page; ``tests/viewer/walk_vectors.json`` holds both to one another. All
positions are in training axes (z up) and float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from smerf.scene.manifest import Manifest
from smerf.scene.types import BakedScene, SceneParams

__all__ = ["Body", "Place", "Walker", "standing_places"]

_EYE_METRES = 1.6
"""What an eye height of photos stands for where the scene's unit is not known."""
_GRAVITY = 9.81
_KNOWN = 0.3
"""Support below which nobody has looked at a place."""
_AROUND = tuple((math.cos(i * math.pi / 4), math.sin(i * math.pi / 4)) for i in range(8))
_TOUCH = 1e-6
"""Of a cell: what is so close to its border lies on it."""
_DROP = 4.0
"""Eye heights below the feet that a floor is looked for."""
_SEARCH = 24
"""Rings of cells in which a free place is looked for."""


@dataclass(frozen=True)
class Body:
    """Who walks, in training units: height of the eyes, half width, highest step, and what is above the eyes."""

    eye: float
    radius: float
    step: float
    head: float

    @classmethod
    def of_eye(cls, eye: float) -> Body:
        """Return a person whose eyes are ``eye`` above the floor."""
        return cls(eye, 0.12 * eye, 0.25 * eye, 0.06 * eye)

    @property
    def metre(self) -> float:
        """Training units of a metre, judged by the height of the eyes."""
        return self.eye / _EYE_METRES


class Place:
    """What is solid around a submodel, and what is known.

    Args:
        params: The scene's parameters.
        k: The submodel.
        occupancy: Eight cells a byte (N, N, N), as ``BakedSubmodel.occupancy[8]``.
        known: ``known_grid``, or ``None`` if all is known.
        stands: Places of the photos' cameras (P, 3), around which one may stand too.
        reach: How far around them.
    """

    def __init__(
        self,
        params: SceneParams,
        k: int,
        occupancy: np.ndarray,
        known: np.ndarray | None = None,
        stands: np.ndarray | None = None,
        reach: float = 0.0,
    ) -> None:
        self.centre = tuple(float(c) for c in params.submodel_centre(k))
        self.scale = params.submodel_scale
        self.occupancy, self.known = occupancy, known
        self.stands, self.reach = np.zeros((0, 3)) if stands is None else stands, reach
        self._edge = len(occupancy)
        self._bytes = np.ascontiguousarray(occupancy).reshape(-1).data
        self.grain = 2.0 / len(occupancy) / self.scale
        """Edge of a cell near the centre, training units."""

    @classmethod
    def of(cls, scene: BakedScene, k: int) -> Place:
        """Return the place that a scene's submodel describes."""
        submodel = scene.submodel(k)
        solid = submodel.solid if submodel.solid is not None else submodel.occupancy[8]
        return cls(scene.params, k, solid, submodel.known, *standing_places(scene.manifest))

    def contracted(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        """Return a point in contracted space, viewer axes."""
        local = (x - self.centre[0], y - self.centre[1], z - self.centre[2])
        v = (-local[0] * self.scale, local[2] * self.scale, local[1] * self.scale)
        size = [abs(c) for c in v]
        largest = max(size)
        if largest <= 1.0:
            return v
        axis = size.index(largest)
        a, b, c = (
            (v[i] / largest) * (2.0 - 1.0 / largest) if i == axis else v[i] / largest for i in range(3)
        )
        return a, b, c

    def is_solid(self, x: float, y: float, z: float) -> bool:
        """Return whether the cell at a point holds something."""
        # The walker's innermost question: plain numbers, and no call within the cube that is not contracted.
        a = (self.centre[0] - x) * self.scale
        b, c = (z - self.centre[2]) * self.scale, (y - self.centre[1]) * self.scale
        if not (-1.0 <= a <= 1.0 and -1.0 <= b <= 1.0 and -1.0 <= c <= 1.0):
            a, b, c = self.contracted(x, y, z)
        n, per_unit = self._edge, 0.5 * self._edge
        last = 2 * n - 1
        i, j, k = int((a + 2.0) * per_unit), int((b + 2.0) * per_unit), int((c + 2.0) * per_unit)
        i, j, k = min(last, i), min(last, j), min(last, k)
        byte = self._bytes[((i >> 1) * n + (j >> 1)) * n + (k >> 1)]
        return bool(byte >> (4 * (i & 1) + 2 * (j & 1) + (k & 1)) & 1)

    def is_known(self, x: float, y: float, z: float) -> bool:
        """Return whether photos look into the cell at a point, or were taken near it."""
        if self.known is None:
            return True
        cells = len(self.known)
        i, j, k = (
            min(cells - 1, max(0, math.floor((c + 2.0) * 0.25 * cells))) for c in self.contracted(x, y, z)
        )
        if int(self.known[i, j, k, 3]) >= 255.0 * _KNOWN:
            return True
        if not len(self.stands):
            return False
        nearest = float(np.square(self.stands - (x, y, z)).sum(-1).min())
        return nearest <= self.reach * self.reach

    def sees(self, where: np.ndarray) -> np.ndarray:
        """Return whether photos look into the cells at contracted points (P, 3), bool (P,)."""
        if self.known is None:
            return np.ones(len(where), bool)
        cells = len(self.known)
        i, j, k = np.clip(np.floor((where + 2.0) * 0.25 * cells).astype(np.int64), 0, cells - 1).T
        return np.asarray(self.known[i, j, k, 3] >= 255.0 * _KNOWN)

    def cast(self, origin: np.ndarray, direction: np.ndarray, reach: float) -> float | None:
        """Return the distance at which a ray (unit direction) meets something, within ``reach``."""
        steps = math.ceil(reach / (0.5 * self.grain))
        for i in range(1, steps + 1):
            t = i * 0.5 * self.grain
            if self.is_solid(*(float(c) for c in origin + t * direction)):
                return t
        return None


def standing_places(manifest: Manifest) -> tuple[np.ndarray, float]:
    """Return the places of the training photos' cameras (P, 3), and how far around them one may stand."""
    cameras = [entry.camera for entry in manifest.cameras if entry.split == "train"]
    places = np.array([camera.world_from_cam[:, 3] for camera in cameras], np.float64).reshape(-1, 3)
    return places, 0.0 if manifest.region is None else manifest.region.reach


class Walker:
    """Someone in a place. ``position`` (3,) is that of the eyes."""

    def __init__(self, place: Place, body: Body, position: np.ndarray) -> None:
        self.place, self.body = place, body
        self.x, self.y = float(position[0]), float(position[1])
        self.feet = float(position[2]) - body.eye
        self.fall = 0.0

    @property
    def position(self) -> np.ndarray:
        """Where the eyes are."""
        return np.array([self.x, self.y, self.feet + self.body.eye])

    def spawn(self) -> bool:
        """Go to the nearest place with a floor and room to stand; say whether there is one."""
        grain = self.place.grain
        for ring in range(_SEARCH):
            for dx, dy in _ring(ring):
                x, y = self.x + dx * grain, self.y + dy * grain
                floor = self._floor(x, y, self.feet)
                if floor is not None and self._is_free(x, y, floor):
                    self.x, self.y, self.feet, self.fall = x, y, floor, 0.0
                    return True
        return False

    def move(self, dx: float, dy: float, dt: float) -> None:
        """Walk by (dx, dy) as far as there is room, sliding along what is in the way; then fall for ``dt`` seconds."""
        if (dx or dy) and not self._is_free(self.x, self.y, self.feet):
            self.spawn()
        count = math.ceil(math.hypot(dx, dy) / (0.5 * self.place.grain))
        for _ in range(count):
            if not self._advance(dx / count, dy / count):
                break
        self._settle(dt)

    def _advance(self, dx: float, dy: float) -> bool:
        for sx, sy in ((dx, dy), (dx, 0.0), (0.0, dy)):
            if not (sx or sy):
                continue
            x, y = self.x + sx, self.y + sy
            floor = self._floor(x, y, self.feet)
            feet = self.feet if floor is None else max(self.feet, floor)
            if self._is_free(x, y, feet):
                self.x, self.y, self.feet = x, y, feet
                return True
        return False

    def _settle(self, dt: float) -> None:
        floor = self._floor(self.x, self.y, self.feet)
        # Where no floor was photographed, one goes on at the same height.
        if floor is None or self.feet <= floor:
            self.feet = self.feet if floor is None else floor
            self.fall = 0.0
            return
        self.fall += _GRAVITY * self.body.metre * dt
        self.feet = max(floor, self.feet - self.fall * dt)

    def _floor(self, x: float, y: float, feet: float) -> float | None:
        """Return the height of the highest floor that one can stand on: at most a step up, some way down."""
        place, grain = self.place, self.place.grain
        base = place.centre[2]
        high = math.floor((feet + self.body.step - base) / grain + _TOUCH) - 1
        low = math.floor((feet - _DROP * self.body.eye - base) / grain)
        for j in range(high, low - 1, -1):
            if place.is_solid(x, y, base + (j + 0.5) * grain):
                return base + (j + 1) * grain
        return None

    def _is_free(self, x: float, y: float, feet: float) -> bool:
        """Return whether a body has room: above what it can step on, up to its head, all around."""
        place, body = self.place, self.body
        if not place.is_known(x, y, feet + body.eye):
            return False
        low, high = feet + body.step, feet + body.eye + body.head
        count = max(1, math.ceil((high - low) / place.grain))
        for i in range(count + 1):
            z = low + (high - low) * (i / count)
            if place.is_solid(x, y, z):
                return False
            if any(place.is_solid(x + body.radius * c, y + body.radius * s, z) for c, s in _AROUND):
                return False
        return True


def _ring(ring: int) -> list[tuple[int, int]]:
    """Return the offsets of a square ring, row by row."""
    span = range(-ring, ring + 1)
    return [(dx, dy) for dx in span for dy in span if max(abs(dx), abs(dy)) == ring]
