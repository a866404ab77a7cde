"""The known region: which places photos support, from which directions, and where a visitor starts and stays.

An optional file ``sm_XXX/known_grid`` (cells of contracted space, [x, y, z, 4] on viewer axes) says it cell by cell:
the mean direction r of the photos' rays as bytes of (r + 1) / 2, and how well it is supported, 255 for fully. Rays of a
cone of half-angle a have |r| = (1 + cos a) / 2, so r also tells how far a view may turn from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene.fields import Fields

__all__ = [
    "MODES",
    "RGB",
    "Region",
    "RegionStart",
    "choose_start",
    "contract",
    "parse_region",
    "region_to_json",
    "support",
    "uncontract",
]

RGB = tuple[float, float, float]
MODES = ("orbit", "walk", "fly")
_COLOURS = ("colour", "above", "below")
_MARGIN, _RAMP = 1.7, 5.0
"""As ``kKnownMargin`` and ``kKnownRamp`` of ``cuda/include/smerf/march.h``."""


@dataclass(frozen=True)
class RegionStart:
    """A first view for canvases of about one shape.

    ``aspect`` is width over height, ``world_from_cam`` 3x4 (training axes, OpenGL), ``fov_degrees`` vertical, ``known``
    the fraction of its pixels that photos support.
    """

    aspect: float
    world_from_cam: np.ndarray
    fov_degrees: float
    known: float


@dataclass(frozen=True)
class Region:
    """What the manifest says of the known region.

    ``cells`` is the edge of ``known_grid``, ``colours`` are the RGB in [0, 1] that unknown places fade into ahead,
    straight up and straight down (between them by u (2 - u), u being the direction's upward part), ``mode`` how a
    visitor of such a capture moves at first, ``eye`` the height of the photos' cameras above the floor in training
    units (``None`` where no floor was found), ``reach`` how far around the photos' cameras a visitor may stand even
    where no photo looks.
    """

    cells: int
    colours: tuple[RGB, RGB, RGB]
    mode: str = "orbit"
    eye: float | None = None
    reach: float = 0.0
    starts: tuple[RegionStart, ...] = ()


def contract(points: np.ndarray) -> np.ndarray:
    """Map points (N, 3) into [-2, 2]^3 (MERF, arXiv 2302.12249, section 4.3), float64."""
    points = np.asarray(points, np.float64)
    size = np.abs(points)
    largest = np.maximum(size.max(-1, keepdims=True), 1.0)
    shrunk = points / largest
    is_largest = np.arange(3) == size.argmax(-1)[:, None]
    return np.where(is_largest & (largest > 1.0), shrunk * (2.0 - 1.0 / largest), shrunk)


def uncontract(points: np.ndarray) -> np.ndarray:
    """Invert ``contract`` for points (N, 3) in (-2, 2)^3."""
    size = np.abs(points)
    largest = size.max(-1, keepdims=True)
    stretch = 1.0 / np.maximum(2.0 - largest, 1e-6)
    is_largest = np.arange(3) == size.argmax(-1)[:, None]
    outside = np.where(is_largest, np.sign(points) * stretch, points * stretch)
    return np.asarray(np.where(largest > 1.0, outside, points))


def support(known: np.ndarray, points: np.ndarray, view: np.ndarray) -> np.ndarray:
    """Return how well photos support what is seen at points, in [0, 1].

    Args:
        known: The grid (N, N, N, 4) uint8.
        points: Contracted, viewer axes (P, 3).
        view: Unit directions from the eye, viewer axes (P, 3) or (3,).
    """
    cells = known.shape[0]
    where = np.clip((np.asarray(points, np.float64) + 2.0) * (0.25 * cells) - 0.5, 0.0, cells - 1.0)
    low = np.minimum(where.astype(np.int64), cells - 2)
    upper = where - low
    mean = np.zeros((len(where), 4))
    for corner in np.ndindex(2, 2, 2):
        weight = np.where(corner, upper, 1.0 - upper).prod(-1)
        x, y, z = (low + corner).T
        mean += weight[:, None] * known[x, y, z]
    mean /= 255.0
    toward = 2.0 * mean[:, :3] - 1.0
    spread = np.linalg.norm(toward, axis=-1)
    facing = (toward * view).sum(-1) + spread * (_MARGIN - 2.0 * spread)
    return np.asarray(mean[:, 3] * np.clip(facing * _RAMP + 1.0, 0.0, 1.0))


def choose_start(region: Region, aspect: float) -> tuple[np.ndarray, float] | None:
    """Return the first view for a canvas of this shape: pose 3x4 and vertical field of view in degrees.

    It shows nothing that the stored view of the nearest shape does not.
    """
    if not region.starts:
        return None
    start = min(region.starts, key=lambda each: abs(math.log(each.aspect / aspect)))
    half = math.tan(math.radians(0.5 * start.fov_degrees)) * min(1.0, start.aspect / aspect)
    return start.world_from_cam, 2.0 * math.degrees(math.atan(half))


def region_to_json(region: Region) -> dict[str, Any]:
    """Return the manifest's entry."""
    return {
        "cells": region.cells,
        **{name: [float(c) for c in colour] for name, colour in zip(_COLOURS, region.colours, strict=True)},
        "mode": region.mode,
        "eye": region.eye,
        "reach": region.reach,
        "starts": [
            {
                "aspect": float(start.aspect),
                "world_from_cam": np.asarray(start.world_from_cam, np.float64).tolist(),
                "fov_degrees": float(start.fov_degrees),
                "known": float(start.known),
            }
            for start in region.starts
        ],
    }


def parse_region(entry: Fields, starts: list[Fields]) -> Region:
    """Turn the manifest's entry and those of its ``starts`` into a Region; InvalidDataError if malformed."""
    cells, mode = entry.number("cells"), entry.text("mode", "orbit")
    if cells != int(cells) or not 2 <= cells <= 256:
        raise InvalidDataError(f"{entry.where}: 'cells' must be a whole number from 2 to 256, got {cells:g}")
    if mode not in MODES:
        raise InvalidDataError(f"{entry.where}: 'mode' must be one of {', '.join(MODES)}, got {mode!r}")
    eye = None if entry.value.get("eye") is None else entry.number("eye")
    if eye is not None and eye <= 0.0:
        raise InvalidDataError(f"{entry.where}: 'eye' must be positive, got {eye:g}")
    found = [entry.array(name if name in entry.value else "colour", (3,)).tolist() for name in _COLOURS]
    ahead, above, below = ((red, green, blue) for red, green, blue in found)
    reach = entry.number("reach", 0.0)
    views = tuple(_parse_start(start) for start in starts)
    return Region(int(cells), (ahead, above, below), mode, eye, reach, views)


def _parse_start(entry: Fields) -> RegionStart:
    aspect, fov = entry.number("aspect"), entry.number("fov_degrees")
    if aspect <= 0.0 or not 0.0 < fov < 180.0:
        raise InvalidDataError(
            f"{entry.where}: expected a positive 'aspect' and 'fov_degrees' between 0 and 180"
        )
    return RegionStart(aspect, entry.array("world_from_cam", (3, 4)), fov, entry.number("known", 0.0))
