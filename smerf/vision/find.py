"""Which photos show a place: every photo's pixels are lifted by exact depth and looked up in a set of voxels.

No network is involved, and nothing is compared but geometry: a thing behind a wall is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from smerf.capture.types import Camera
from smerf.vision.lift import VoxelGrid, VoxelSet, lift

__all__ = ["DepthPhoto", "Match", "photos_showing", "region_voxels", "sphere"]

_NEAR_MEDIAN = 0.15
"""Pixels of a region farther from its median depth than this share of it belong to what is behind or before."""


@dataclass(frozen=True)
class DepthPhoto:
    """A photo with depth: ``camera`` is of the depth's size, ``read`` returns (H, W) float32, 0 unknown."""

    name: str
    camera: Camera
    read: Callable[[], np.ndarray]

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what ``lift`` returns."""
        return lift(self.camera, self.read())


@dataclass(frozen=True)
class Match:
    """A photo that shows what was asked for.

    ``share`` of its pixels show it; ``centre`` and ``box`` (left, top, right, bottom) are in [0, 1] of the photo's
    width and height.
    """

    photo: str
    share: float
    centre: tuple[float, float]
    box: tuple[float, float, float, float]

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {"photo": self.photo, "share": self.share, "centre": list(self.centre), "box": list(self.box)}


def sphere(grid: VoxelGrid, centre: np.ndarray, radius: float) -> VoxelSet:
    """Return the voxels whose centres lie within a radius of a point (3,), and the point's own."""
    reach = int(np.ceil(radius / grid.size))
    steps = np.arange(-reach, reach + 1)
    around = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    own = grid.keys(centre[None])
    keys = own + around.astype(np.int32)
    inside = np.linalg.norm(grid.centres(keys) - centre, axis=-1) <= radius
    return VoxelSet(grid, np.concatenate([own, keys[inside]]))


def region_voxels(grid: VoxelGrid, photo: DepthPhoto, box: tuple[float, float, float, float]) -> VoxelSet:
    """Return the voxels that a photo shows within a box (left, top, right, bottom), in [0, 1] of its sides.

    Of what lies at several depths, what is near the median of them.
    """
    depth = photo.read()
    height, width = depth.shape
    left, right = (round(edge * width) for edge in (box[0], box[2]))
    top, bottom = (round(edge * height) for edge in (box[1], box[3]))
    inside = (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))
    part = np.zeros_like(depth)
    part[inside] = depth[inside]
    if (part > 0).any():
        middle = float(np.median(part[part > 0]))
        part[np.abs(part - middle) > _NEAR_MEDIAN * middle] = 0.0
    return VoxelSet(grid, grid.keys(lift(photo.camera, part)[0]))


def photos_showing(photos: Iterable[DepthPhoto], wanted: VoxelSet, top: int | None = 5) -> list[Match]:
    """Rank photos by how many of their pixels show a set of voxels, then by how near to the photo's centre.

    Args:
        photos: Read one after the other, so that thousands need no more memory than one.
        wanted: What to look for.
        top: How many to return; all that show anything if None.
    """
    found = [match for photo in photos if (match := _match(photo, wanted)) is not None]
    found.sort(key=lambda match: (-match.share, _off_centre(match.centre), match.photo))
    return found[:top]


def _match(photo: DepthPhoto, wanted: VoxelSet) -> Match | None:
    points, place = photo.points()
    seen = place[wanted.holds(points)]
    if not len(seen):
        return None
    lens = photo.camera.intrinsics
    sides = np.array([lens.height, lens.width])
    y, x = (seen + 0.5).mean(0) / sides
    (top, left), (bottom, right) = seen.min(0) / sides, (seen.max(0) + 1) / sides
    share = len(seen) / float(sides.prod())
    return Match(
        photo.name, share, (float(x), float(y)), (float(left), float(top), float(right), float(bottom))
    )


def _off_centre(centre: Sequence[float]) -> float:
    return (centre[0] - 0.5) ** 2 + (centre[1] - 0.5) ** 2
