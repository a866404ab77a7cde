"""Features and matches of a set of photos, in a COLMAP database that grows and resumes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from smerf.engine.folder import stage_key
from smerf.engine.progress import Progress
from smerf.prepare.colmap import Pair, call, count_rows, read_descriptors
from smerf.prepare.config import PrepareConfig
from smerf.prepare.intake import Photo, camera_groups
from smerf.prepare.pairs import LARGEST, choose_pairs

__all__ = [
    "Level",
    "Workshop",
    "choose_level",
    "match_photos",
    "renumber",
    "reset_if_changed",
    "sequences_of",
    "weak_joints",
]

_SMALL_PIXELS = 350_000
_FEW_PHOTOS = 40
_MIN_JOINT = 100
_NEIGHBOURS = 3
_MIN_FRAME_GAP = 3


@dataclass(frozen=True)
class Level:
    """How finely to look: features a photo, whether to double its size first (octave -1), partners a photo."""

    features: int
    first_octave: int
    partners: int = 8

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"octave{self.first_octave}-{self.features}-{self.partners}"

    def deeper(self) -> Level:
        """Return the level to try where this one is not enough."""
        return Level(4096, -1, 15)


@dataclass(frozen=True)
class Workshop:
    """Where the work is done and how: ``images`` holds the photos, ``folder`` the databases and models.

    ``progress`` makes the progress of a step from its name, unit and total.
    """

    folder: Path
    images: Path
    config: PrepareConfig
    masks: Path | None
    progress: Callable[[str, str, float | None], Progress]

    @property
    def log(self) -> Path:
        """What COLMAP prints."""
        return self.images.parent / "prepare" / "colmap.log"


def choose_level(photos: Sequence[Photo]) -> Level:
    """Choose the first level by the number of photos and their pixels."""
    pixels = np.median([photo.size[0] * photo.size[1] for photo in photos])
    return Level(4096 if len(photos) <= _FEW_PHOTOS else 2048, -1 if pixels < _SMALL_PIXELS else 0)


def match_photos(shop: Workshop, photos: Sequence[Photo], level: Level, extra: Sequence[str] = ()) -> Path:
    """Extract and match what the level's database lacks; return its path.

    ``extra`` are photos that came later: they are matched to their neighbours only.
    """
    folder = shop.folder / level.name
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "database.db"
    _extract(shop, photos, level, database)
    file = folder / ("pairs-extra.txt" if extra else "pairs.txt")
    if not file.is_file():
        pairs = _extra_pairs(photos, extra) if extra else _choose(shop, photos, level, database)
        part = file.with_suffix(".part")
        part.write_text("".join(f"{a} {b}\n" for a, b in pairs), encoding="utf-8")
        part.replace(file)
    _match(shop, database, file)
    return database


def sequences_of(photos: Sequence[Photo]) -> list[list[str]]:
    """Return the photos' names in capture order, one list an input."""
    ordered: dict[int, list[Photo]] = {}
    for photo in photos:
        ordered.setdefault(photo.sequence, []).append(photo)
    return [
        [photo.name for photo in sorted(group, key=lambda photo: photo.number)] for group in ordered.values()
    ]


def weak_joints(photos: Sequence[Photo], pairs: Sequence[Pair]) -> list[tuple[Photo, Photo]]:
    """Return neighbouring frames of a video that share fewer than 100 verified matches."""
    inliers = {frozenset((pair.first, pair.second)): pair.inliers for pair in pairs}
    frames = sorted((photo for photo in photos if photo.is_video), key=lambda p: (p.sequence, p.number))
    return [
        (one, two)
        for one, two in pairwise(frames)
        if one.sequence == two.sequence
        and two.time - one.time >= _MIN_FRAME_GAP
        and inliers.get(frozenset((one.name, two.name)), 0) < _MIN_JOINT
    ]


def renumber(photos: Sequence[Photo]) -> list[Photo]:
    """Return photos sorted by input and time, with their places in the input counted again."""
    ordered = sorted(photos, key=lambda photo: (photo.sequence, photo.time))
    counts: dict[int, int] = {}
    result = []
    for photo in ordered:
        number = counts.get(photo.sequence, 0)
        counts[photo.sequence] = number + 1
        result.append(replace(photo, number=number))
    return result


def reset_if_changed(folder: Path, key: dict[str, object]) -> None:
    """Empty a folder of work that belongs to other input."""
    mark, digest = folder / "key", stage_key(key, "")
    if folder.is_dir() and not (mark.is_file() and mark.read_text() == digest):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(digest)


def _extract(shop: Workshop, photos: Sequence[Photo], level: Level, database: Path) -> None:
    if count_rows(database, "keypoints") >= len(photos):
        return
    arguments = {
        "database": str(database),
        "images": str(shop.images),
        "groups": camera_groups(photos, shop.config.camera),
        "max_side": shop.config.max_side,
        "features": level.features,
        "first_octave": level.first_octave,
        "masks": None if shop.masks is None else str(shop.masks),
        "threads": shop.config.threads or -1,
    }
    with shop.progress("features", "photos", len(photos)) as progress:
        call(
            "extract", arguments, shop.log, shop.config.threads,
            lambda: progress.update(count_rows(database, "keypoints")),
        )  # fmt: skip


def _choose(shop: Workshop, photos: Sequence[Photo], level: Level, database: Path) -> list[tuple[str, str]]:
    with shop.progress("pairs", "photos", len(photos)) as progress:
        return choose_pairs(
            sequences_of(photos),
            read_descriptors(database, LARGEST),
            is_video=any(photo.is_video for photo in photos),
            use_order=shop.config.order != "none",
            partners=level.partners,
            progress=progress.update,
        )


def _extra_pairs(photos: Sequence[Photo], extra: Sequence[str]) -> list[tuple[str, str]]:
    added = set(extra)
    return [
        (names[index], names[index + step])
        for names in sequences_of(photos)
        for step in range(1, _NEIGHBOURS + 1)
        for index in range(len(names) - step)
        if names[index] in added or names[index + step] in added
    ]


def _match(shop: Workshop, database: Path, file: Path) -> None:
    done_mark = file.with_suffix(".done")
    if done_mark.is_file():
        return
    before = count_rows(database, "two_view_geometries")
    total = before + len(file.read_text(encoding="utf-8").splitlines())
    arguments = {
        "database": str(database),
        "pairs": str(file),
        "threads": shop.config.threads or -1,
        "seed": shop.config.seed,
    }
    if total > before:
        with shop.progress("matches", "pairs", total) as progress:
            call(
                "match", arguments, shop.log, shop.config.threads,
                lambda: progress.update(count_rows(database, "two_view_geometries")),
            )  # fmt: skip
    done_mark.touch()
