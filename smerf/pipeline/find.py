"""What ``smerf find`` is asked, and how it is answered: by geometry where that is possible, else by a user's CLIP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smerf.capture.pixels import read_pixels
from smerf.errors import UsageError
from smerf.pipeline.sight import Sight, photo_vectors
from smerf.vision.find import Match, photos_showing, region_voxels, sphere
from smerf.vision.label_files import read_labels
from smerf.vision.words import match_word

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
    by_likeness: bool = False
    """Whether the matches' shares are cosines."""


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
    path = Path(query)
    if path.suffix.lower() in _IMAGES and path.is_file():
        if clip is None:
            raise UsageError(
                f"{query}: photos like an image are found by a model: --clip FOLDER. Without one, ask for a part "
                "of one of the run's own photos: PHOTO:left,top,right,bottom"
            )
        return _by_clip(sight, path, clip, top, quiet)
    return _by_word(sight, query, clip, top, quiet)


def _by_word(sight: Sight, word: str, clip: Path | None, top: int | None, quiet: bool) -> Answer:
    """Answer from the labels if they know the word, else by CLIP."""
    folder = None if sight.folder is None else sight.folder / "labels"
    known: list[str] = []
    if folder is not None and (folder / "labels.json").is_file():
        labels = read_labels(folder)
        known = [str(each["word"]) for each in labels.objects]
        same, _ = match_word(word, known)
        if same:
            numbers = [int(each["id"]) for each in labels.objects if each["word"] in same]
            matches = photos_showing(sight.photos, labels.voxels(numbers), top)
            return Answer(matches, f"by labels and depth, {len(numbers)} labelled as {', '.join(same)}")
    if clip is not None:
        return _by_clip(sight, word, clip, top, quiet)
    nearest = match_word(word, known)[1]
    there = f"nothing is labelled so; there are {', '.join(nearest)}" if nearest else "nothing is labelled"
    raise UsageError(
        f"{word!r}: is no point x,y,z, no region PHOTO:left,top,right,bottom, and {there}. smerf label names things, "
        "and --clip FOLDER finds any words"
    )


def _by_clip(sight: Sight, query: str | Path, clip: Path, top: int | None, quiet: bool) -> Answer:
    from smerf.vision.looking import ClipEyes, squares

    eyes = ClipEyes(clip)
    vectors = photo_vectors(sight, eyes, clip, quiet)
    if isinstance(query, Path):
        wanted = eyes.photo(read_pixels(query)).mean(0)
        wanted = wanted / wanted.norm()
    else:
        wanted = eyes.words(query)
    scores = [each.float() @ wanted for each in vectors]
    order = sorted(range(len(scores)), key=lambda index: -float(scores[index].max()))[:top]
    matches = []
    for index in order:
        frame = sight.capture.frames[index]
        lens = frame.camera.intrinsics
        y, x, side = squares(lens.height, lens.width)[int(scores[index].argmax())]
        box = (x / lens.width, y / lens.height, (x + side) / lens.width, (y + side) / lens.height)
        centre = (0.5 * (box[0] + box[2]), 0.5 * (box[1] + box[3]))
        matches.append(Match(frame.name, float(scores[index].max()), centre, box))
    return Answer(
        matches, f"by {clip.name}: cosines, which say what is more alike and not what is there", True
    )


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
