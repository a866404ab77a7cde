"""Photos as people have them: found, read, rotated upright, ordered, and grouped by camera.

Pixels are rotated once, here, and written without tags. What the tags said stays in ``Photo``.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from smerf.capture.pixels import RAW_SUFFIXES, is_panorama, open_image, read_header, read_pixels
from smerf.capture.readers.image_files import IMAGE_SUFFIXES, may_be_photo
from smerf.errors import InvalidDataError, UsageError

__all__ = [
    "VIDEO_SUFFIXES",
    "Photo",
    "camera_groups",
    "find_inputs",
    "holds_photos",
    "import_photo",
    "input_digest",
    "measure",
    "read_tags",
    "sort_photos",
]

VIDEO_SUFFIXES = (
    ".mp4",
    ".mov",
    ".m4v",
    ".mkv",
    ".avi",
    ".webm",
    ".mts",
    ".m2ts",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".3gp",
)
_PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".mpo")
_log = logging.getLogger("smerf")
_FULL_FRAME_DIAGONAL = 43.27  # millimetres
_THUMBNAIL = 16
_QUALITY = 95


@dataclass(frozen=True)
class Photo:
    """One image of the capture. ``name`` is its file in ``images/``, ``number`` its place in its input, ``time`` the
    number of its source frame (photos: the place).

    ``focal`` is in pixels of the written image, ``exposure`` shutter seconds x ISO / 1000, ``gps`` latitude, longitude
    (degrees) and altitude (metres); ``brightness`` the mean of the linear grey values. ``dropped`` says why it is not
    used.
    """

    name: str
    source: str
    sequence: int
    number: int
    time: int
    size: tuple[int, int]
    brightness: float
    camera: str = ""
    focal: float | None = None
    exposure: float | None = None
    gps: tuple[float, float, float] | None = None
    is_video: bool = False
    dropped: str = ""


@dataclass(frozen=True)
class Tags:
    """What EXIF says of a photo; see ``Photo``. ``focal_35`` is the focal length in 35 mm terms."""

    taken: str = ""
    camera: str = ""
    focal_35: float | None = None
    exposure: float | None = None
    gps: tuple[float, float, float] | None = None


def find_inputs(paths: Sequence[Path]) -> list[list[Path]]:
    """Return one list of files an input: the photos below a folder, or one video.

    A folder that holds videos and no photos gives one list a video. Masks, depth, thumbnails and reduced copies
    (``images_2``) are no photos.

    Raises:
        UsageError: If there is nothing at a path, or nothing that is a photo or a video.
    """
    inputs: list[list[Path]] = []
    if not paths:
        raise UsageError("there is nothing to prepare; give a folder of photos or a video")
    for given in paths:
        path = given.resolve()
        if not path.exists():
            raise UsageError(f"{given}: does not exist; give a folder of photos or a video")
        if path.is_file():
            inputs.append([_require_known(path)])
            continue
        photos, videos, raw = (_files(path, kind) for kind in (_PHOTO_SUFFIXES, VIDEO_SUFFIXES, RAW_SUFFIXES))
        if raw and not photos:
            _require_known(raw[0])
        if not photos and not videos:
            raise UsageError(f"{path}: holds no photos and no video; give a folder of photos or a video")
        if photos:
            _say_what_is_left(path, photos, videos, raw)
        inputs += [photos] if photos else [[video] for video in videos]
    return inputs


def _files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in suffixes
        and not file.name.startswith(".")
        and may_be_photo(file.relative_to(folder))
        and file.is_file()
    )


def _say_what_is_left(
    folder: Path, photos: Sequence[Path], videos: Sequence[Path], raw: Sequence[Path]
) -> None:
    """Warn of videos and raw photos that are no companions of photos (live photos, raw with JPEG)."""
    known = {photo.with_suffix("") for photo in photos}
    for files, what in ((videos, "videos"), (raw, "raw photos")):
        alone = [file for file in files if file.with_suffix("") not in known]
        if alone:
            _log.warning("%s: %d %s beside the photos are not used (the first: %s); give them too, or apart",
                         folder, len(alone), what, alone[0].name)  # fmt: skip


def holds_photos(path: Path) -> bool:
    """Return whether a path is a photo or a video, or a folder that holds some."""
    suffixes = (*_PHOTO_SUFFIXES, *VIDEO_SUFFIXES, *RAW_SUFFIXES)
    files = path.rglob("*") if path.is_dir() else [path]
    return any(file.suffix.lower() in suffixes and not file.name.startswith(".") for file in files)


def _require_known(path: Path) -> Path:
    suffix = path.suffix.lower()
    if suffix in RAW_SUFFIXES:
        raise UsageError(f"{path}: raw photos are not read; export them as JPEG, all with the same settings")
    if suffix not in (*_PHOTO_SUFFIXES, *VIDEO_SUFFIXES):
        raise UsageError(f"{path}: is neither a photo nor a video; give a folder of photos or a video")
    return path


def read_tags(image: Image.Image) -> Tags:
    """Read the tags of an opened photo; damaged tags count as absent."""
    try:
        exif = image.getexif()
        details = dict(exif.get_ifd(ExifTags.IFD.Exif))
        place = dict(exif.get_ifd(ExifTags.IFD.GPSInfo))
    except Exception:  # damaged tags are common and never a reason to refuse a photo
        return Tags()
    base = ExifTags.Base
    taken = _text(details.get(base.DateTimeOriginal))
    if taken:
        taken += "." + _text(details.get(base.SubsecTimeOriginal)).ljust(3, "0")
    focal_35 = _number(details.get(base.FocalLengthIn35mmFilm))
    iso = details.get(base.ISOSpeedRatings)
    shutter, iso = _number(details.get(base.ExposureTime)), _number(iso[0] if isinstance(iso, tuple) else iso)
    parts = [exif.get(base.Make), exif.get(base.Model), details.get(base.LensModel), focal_35]
    return Tags(
        taken=taken,
        camera=" ".join(_text(part) for part in parts if part is not None),
        focal_35=focal_35,
        exposure=shutter * iso / 1000 if shutter and iso else None,
        gps=_read_gps(place),
    )


def _read_gps(place: dict[int, Any]) -> tuple[float, float, float] | None:
    try:
        angles = []
        for key, letter, negative in ((2, 1, "S"), (4, 3, "W")):
            degrees, minutes, seconds = (float(part) for part in place[key])
            sign = -1 if str(place.get(letter, "")).upper().startswith(negative) else 1
            angles.append(sign * (degrees + minutes / 60 + seconds / 3600))
        altitude = float(place.get(6, 0.0)) * (-1 if place.get(5) in (1, b"\x01") else 1)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    values = (angles[0], angles[1], altitude)
    return values if all(map(math.isfinite, values)) else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _text(value: Any) -> str:
    text = (
        value.decode("ascii", "ignore")
        if isinstance(value, bytes)
        else str(value if value is not None else "")
    )
    return text.strip("\x00 ")


def sort_photos(files: Sequence[Path]) -> list[Path]:
    """Sort photos by the time they were taken where all say it, else by name with numbers as numbers.

    Raises:
        InvalidDataError: If a file is damaged.
        MissingPartError: If one is HEIC and nothing that reads it is installed.
    """
    taken = {}
    for file in files:
        with open_image(file) as image:
            taken[file] = read_tags(image).taken
    if all(taken.values()):
        return sorted(files, key=lambda file: (taken[file], _natural(file)))
    return sorted(files, key=_natural)


def _natural(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.as_posix())
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in parts]


def import_photo(
    file: Path, folder: Path, name: str, max_side: int, sequence: int, number: int
) -> tuple[Photo, np.ndarray]:
    """Write one photo upright, without tags and at most ``max_side`` long; return it with a thumbnail (16, 16).

    Raises:
        InvalidDataError: If the file is damaged, or a 360-degree photo.
    """
    header = read_header(file)
    with open_image(file) as stored:
        tags = read_tags(stored)
        if is_panorama(stored):
            raise InvalidDataError(f"{file}: 360-degree photos are not supported yet; export flat views")
    # A JPEG of a hundred megapixels is reduced while it is decoded.
    pixels = read_pixels(file, header.orientation, at_least=(2 * max_side, 2 * max_side))
    image = _over_white(Image.fromarray(pixels))
    factor = min(1.0, max_side / max(image.size))
    if factor < 1:
        size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    image.save(folder / name, quality=_QUALITY, subsampling=0)
    thumbnail, brightness = measure(image)
    focal = tags.focal_35 and tags.focal_35 / _FULL_FRAME_DIAGONAL * math.hypot(*image.size)
    photo = Photo(
        name, str(file), sequence, number, number, image.size, brightness,
        camera=tags.camera, focal=focal, exposure=tags.exposure, gps=tags.gps,
    )  # fmt: skip
    return photo, thumbnail


def _over_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def measure(image: Image.Image) -> tuple[np.ndarray, float]:
    """Return a grey thumbnail (16, 16), 0 to 255, and the mean linear brightness, 0 to 1."""
    grey = image.convert("L").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    thumbnail = np.asarray(grey, np.float64)
    return thumbnail, float(np.mean((thumbnail / 255) ** 2.2))


def camera_groups(photos: Sequence[Photo], camera: str) -> list[dict[str, Any]]:
    """Group photos that share intrinsics, in capture order: ``names``, ``size`` and ``focal`` (pixels or None).

    Raises:
        UsageError: If one camera is asked for and the sizes differ.
    """
    groups: dict[Any, list[Photo]] = {}
    for photo in photos:
        tagged = (photo.sequence if photo.is_video else -1, photo.camera, photo.size)
        key = {"auto": tagged, "one": photo.size, "each": photo.name}[camera]
        groups.setdefault(key, []).append(photo)
    if camera == "one" and len(groups) > 1:
        sizes = ", ".join(f"{width}x{height}" for width, height in groups)
        raise UsageError(f"--camera one: the photos have several sizes ({sizes}); leave it at auto")
    return [
        {"names": [photo.name for photo in group], "size": group[0].size, "focal": group[0].focal}
        for group in groups.values()
    ]


def input_digest(inputs: Sequence[Sequence[Path]]) -> str:
    """Return a SHA-256 over the files of all inputs: names, sizes and times."""
    digest = hashlib.sha256()
    for files in inputs:
        for file in files:
            state = file.stat()
            digest.update(os.fsencode(file.resolve()) + f" {state.st_size} {state.st_mtime_ns}\n".encode())
        digest.update(b"\n")
    return digest.hexdigest()
