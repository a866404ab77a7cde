"""Which way is up in a file that does not say so: from the ground that things stand on, or the shape of a room.

The direction that most files of a format have is kept unless the content speaks clearly against it. Letters: M flat
splats, A axes, B bins along an axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["AS_USUAL", "Upright", "find_up"]

AS_USUAL = "as most files have it"

_FACING = np.cos(np.radians(20.0))
_BINS, _SLAB = 40, 2
_OUTER = 0.01
_END = 0.35
"""Part of the extent at either end of an axis in which a ground, a floor or a ceiling may lie."""
_WALL, _GROUND, _ONE_SIDED = 0.03, 0.08, 2.5
"""Least part of all flat area of a side of a room, and of a ground; how much larger that is than what is opposite."""
_ABOVE = 0.15
"""Part of all that has to stand on a ground, and be twice what hangs below it."""
_MUCH, _EDGE = 0.35, 1.2
"""So much of all may also stand at the ground's edges, which is where things spread so many times as wide as it."""
_CLEAR, _CLEAR_ROOM = 0.15, 0.6
"""Another ground, or another axis of a room, is taken where the usual one has less than so much of its evidence."""
_CLUTTER = 0.02
"""How far from the middle, in heights of a room, the mean of what is in it must lie to tell floor from ceiling."""


@dataclass(frozen=True)
class Upright:
    """A direction (3,) that is taken for up, and why."""

    direction: np.ndarray
    why: str


@dataclass(frozen=True)
class _Axis:
    """What lies along axis ``number``: area of the flat parts that face along it near its low and its high end, where
    these peaks are, all area by height (B,), which bin each part is in (M,), and the extent.
    """

    number: int
    low: float
    high: float
    low_bin: int
    high_bin: int
    area: np.ndarray
    bins: np.ndarray
    extent: float

    @property
    def strength(self) -> float:
        return self.low + self.high

    def beyond(self, is_high: bool) -> tuple[float, float]:
        """Return the area inwards and outwards of the peak at one end, without the peak itself."""
        middle = self.high_bin if is_high else self.low_bin
        below, above = self.area[: max(0, middle - _SLAB)].sum(), self.area[middle + _SLAB + 1 :].sum()
        return (float(below), float(above)) if is_high else (float(above), float(below))

    @property
    def lean(self) -> float:
        """Return where what lies between both peaks is on the mean: -0.5 at the low one, 0.5 at the high one."""
        first, last = self.low_bin + _SLAB + 1, self.high_bin - _SLAB
        inside = self.area[first:last]
        if last - first < 2 or inside.sum() <= 0.0:
            return 0.0
        return float(np.average(np.arange(len(inside)) / (len(inside) - 1), weights=inside) - 0.5)


def find_up(points: np.ndarray, normals: np.ndarray, areas: np.ndarray, usual: np.ndarray) -> Upright:
    """Return which way is up.

    Args:
        points: Middles of flat opaque parts (M, 3).
        normals: Unit normals of theirs (M, 3), of either side.
        areas: Their areas (M,).
        usual: The direction (3,), along an axis, that files of the kind have.
    """
    axes = [_along(points, normals, areas, number) for number in range(3)]
    own = int(np.argmax(np.abs(usual)))
    grounds = [end for number in range(3) for end in _grounds(axes[number], points, areas)]
    if grounds:
        _, up = max(grounds, key=lambda end: end[0] * (1.0 if np.allclose(end[1], usual) else _CLEAR))
        return Upright(up, "the ground below the rest")
    if sum(min(axis.low, axis.high) > _WALL for axis in axes) >= 2:
        return _of_room(axes, own, usual)
    return Upright(usual, AS_USUAL)


def _along(points: np.ndarray, normals: np.ndarray, areas: np.ndarray, number: int) -> _Axis:
    """Return what lies along axis ``number``."""
    height = points[:, number].astype(np.float64)
    order = np.argsort(height)
    total = np.cumsum(areas[order], dtype=np.float64)
    low, high = (height[order[np.searchsorted(total, part * total[-1])]] for part in (_OUTER, 1.0 - _OUTER))
    extent = max(float(high - low), 1e-12)
    bins = np.clip(((height - low) / extent * _BINS).astype(np.int64), 0, _BINS - 1)
    area = np.bincount(bins, areas, _BINS) / total[-1]
    faces = np.abs(normals[:, number]) > _FACING
    flat = np.bincount(bins[faces], areas[faces], _BINS) / total[-1]
    slab = np.convolve(flat, np.ones(2 * _SLAB + 1), "same")
    end = int(_END * _BINS)
    first, last = int(np.argmax(slab[:end])), _BINS - end + int(np.argmax(slab[-end:]))
    return _Axis(number, float(slab[first]), float(slab[last]), first, last, area, bins, extent)


def _of_room(axes: list[_Axis], own: int, usual: np.ndarray) -> Upright:
    """Rooms are lower than wide, and more stands on floors than hangs from ceilings."""
    widths = [np.prod([a.extent for a in axes]) ** (1.0 / 3.0) / axis.extent for axis in axes]
    evidence = [axis.strength * np.sqrt(width) for axis, width in zip(axes, widths)]
    best = int(np.argmax(evidence))
    if evidence[own] > _CLEAR_ROOM * evidence[best]:
        best = own
    lean = axes[best].lean
    if abs(lean) > _CLUTTER:
        return Upright(_unit(best, lean < 0.0), "floor and ceiling, and what stands on the floor")
    if best == own:
        return Upright(usual, AS_USUAL)
    return Upright(_unit(best, True), "floor and ceiling; which is which is a guess")


def _grounds(axis: _Axis, points: np.ndarray, areas: np.ndarray) -> Iterator[tuple[float, np.ndarray]]:
    """Yield the ends of an axis that a ground may be at, a large flat part on which the rest stands: its part of the
    area, and which way is up from it.
    """
    for is_high, share in ((False, axis.low), (True, axis.high)):
        inwards, outwards = axis.beyond(is_high)
        stands = inwards > _ABOVE and inwards > 2.0 * outwards
        # What faces along an axis at both of its ends, such as walls, tells nothing.
        if not stands or share < _GROUND or share < _ONE_SIDED * (axis.low + axis.high - share):
            continue
        if inwards > _MUCH or _is_within(axis, is_high, points, areas):
            yield share, _unit(axis.number, not is_high)


def _is_within(axis: _Axis, is_high: bool, points: np.ndarray, areas: np.ndarray) -> bool:
    """Return whether what stands on the ground is not only at its edges, as a table's legs are below its top."""
    peak = axis.high_bin if is_high else axis.low_bin
    ground = np.abs(axis.bins - peak) <= _SLAB
    above = axis.bins < peak - _SLAB if is_high else axis.bins > peak + _SLAB
    sides = [k for k in range(3) if k != axis.number]

    def spread(chosen: np.ndarray) -> np.ndarray:
        place, weight = points[chosen][:, sides].astype(np.float64), areas[chosen]
        return np.sqrt(np.average((place - np.average(place, 0, weight)) ** 2, 0, weight))

    return bool((spread(above) < _EDGE * spread(ground)).any())


def _unit(number: int, is_positive: bool) -> np.ndarray:
    return (1.0 if is_positive else -1.0) * np.eye(3)[number]
