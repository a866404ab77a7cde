"""What ``smerf find`` is asked, and how it is answered: by geometry where that is possible, else by a user's CLIP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smerf.errors import UsageError
from smerf.pipeline.sight import Sight
from smerf.vision.find import Match, photos_showing, region_voxels, sphere

__all__ = ["Answer", "find"]

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_POINT = re.compile(rf"\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{2}}\s*")
_REGION = re.compile(rf"(.+?):({_NUMBER}(?:\s*,\s*{_NUMBER}){{3}})\s*")
_RADIUS = 2.0
"""Of a point, in voxels."""
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".heic", ".tif", ".tiff")


@dataclass(frozen=True)
class Answer:
    """Photos, best first, and in words how they were found."""

    matches: list[Match]
    how: str


def find(
    sight: Sight, query: str, *, clip: Path | None = None, top: int | None = 5, quiet: bool = False
) -> Answer:
    """Find the photos that show something.

    Args:
        sight: The photos with their depth.
        query: ``x,y,z`` in the capture's own coordinates; ``PHOTO:left,top,right,bottom`` in pixels of the photo; the
            name of a labelled thing; with ``clip`` any words, or the path of an image.
        clip: Folder of a CLIP model in the public layout.
        top: How many photos to return; all that show it if None.
        quiet: Show no progress.

    Raises:
        UsageError: If it is none of these.
    """
    if _POINT.fullmatch(query):
        return _by_point(sight, [float(part) for part in query.split(",")], top)
    region = _REGION.fullmatch(query)
    if region and not Path(query).exists():
        return _by_region(sight, region[1], [float(part) for part in region[2].split(",")], top)
    raise UsageError(f"{query!r}: is no point x,y,z, no region PHOTO:left,top,right,bottom")


def _by_point(sight: Sight, values: list[float], top: int | None) -> Answer:
    place = sight.capture.training_from_source
    point = place.scale * place.rotation @ np.array(values) + place.translation
    radius = _RADIUS * sight.grid.size
    matches = photos_showing(sight.photos, sphere(sight.grid, point, radius), top)
    return Answer(matches, f"by depth, within {radius / place.scale:.3g} units of the point")


def _by_region(sight: Sight, name: str, edges: list[float], top: int | None) -> Answer:
    photo = sight.photo(name)
    lens = next(frame for frame in sight.capture.frames if frame.name == photo.name).camera.intrinsics
    left, upper, right, lower = edges
    if not (0 <= left < right <= lens.width and 0 <= upper < lower <= lens.height):
        raise UsageError(
            f"{name}: a region must lie within its {lens.width}x{lens.height} pixels, got {edges}"
        )
    box = (left / lens.width, upper / lens.height, right / lens.width, lower / lens.height)
    wanted = region_voxels(sight.grid, photo, box)
    if not len(wanted):
        raise UsageError(f"{name}: the region shows nothing at a known depth; give a larger one")
    return Answer(
        photos_showing(sight.photos, wanted, top), f"by depth, from {len(wanted)} voxels of {photo.name}"
    )
