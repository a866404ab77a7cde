"""From photos and videos to the image files of a capture, each with what is known of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smerf.capture.pixels import read_header, read_used, rotate
from smerf.capture.readers.image_files import image_folder, mask_folder, match_masks
from smerf.engine.files import read_json, write_json
from smerf.engine.replace import replace_folder
from smerf.errors import InvalidDataError
from smerf.prepare.config import PrepareConfig
from smerf.prepare.features import Workshop, renumber
from smerf.prepare.frames import choose_frames, sharpness
from smerf.prepare.intake import VIDEO_SUFFIXES, Photo, import_photo, measure, sort_photos
from smerf.prepare.video import Video, extract_frames, probe, read_grey

__all__ = ["Gathered", "add_frames", "find_masks", "gather", "masks_beside"]

_SAME = 2.0
"""Thumbnails that differ by less than this (mean grey level of 255) show the same photo twice."""
_QUALITY = 95
_ADDED = 2
_SLACK_PIXELS = 1.5
_MAX_STEM = 60  # characters: at most 240 bytes, which leaves room for what is added


class Gathered:
    """The photos, and what was decided about each input (``notes``, JSON values)."""

    def __init__(self, photos: list[Photo], notes: list[dict[str, Any]]) -> None:
        self.photos = photos
        self.notes = notes


def gather(shop: Workshop, inputs: Sequence[Sequence[Path]], key: str) -> Gathered:
    """Write the images of all inputs to ``shop.images``, unless that was done under the same key.

    Raises:
        InvalidDataError: If a file is damaged.
    """
    record = shop.folder / "photos.json"
    if record.is_file() and shop.images.is_dir():
        stored = read_json(record)
        if stored.get("key") == key:
            return Gathered([_photo(entry) for entry in stored["photos"]], stored["notes"])
    photos: list[Photo] = []
    notes: list[dict[str, Any]] = []
    with replace_folder(shop.images) as folder:
        for sequence, files in enumerate(inputs):
            prefix = "" if len(inputs) == 1 else f"{sequence + 1}_"
            if files[0].suffix.lower() in VIDEO_SUFFIXES:
                found, note = _from_video(shop, files[0], folder, sequence, prefix)
            else:
                found, note = _from_photos(shop, files, folder, sequence, prefix)
            photos += found
            notes.append(note)
    write_json(record, {"key": key, "photos": [asdict(photo) for photo in photos], "notes": notes})
    return Gathered(photos, notes)


def _photo(entry: dict[str, Any]) -> Photo:
    gps = entry["gps"]
    return Photo(**{**entry, "size": tuple(entry["size"]), "gps": None if gps is None else tuple(gps)})


def _from_photos(
    shop: Workshop, files: Sequence[Path], folder: Path, sequence: int, prefix: str
) -> tuple[list[Photo], dict[str, Any]]:
    ordered = sort_photos(files)
    photos: list[Photo] = []
    used: set[str] = set()
    last = None
    with shop.progress("photos", "photos", len(ordered)) as progress:
        for number, file in enumerate(ordered):
            name = _free_name(prefix + _plain(file.stem), used)
            photo, thumbnail = import_photo(file, folder, name, shop.config.max_side, sequence, number)
            if last is not None and np.abs(thumbnail - last).mean() < _SAME:
                photo = replace(photo, dropped="duplicate")
            else:
                last = thumbnail
            photos.append(photo)
            progress.update(number + 1)
    kept = renumber([replace(photo, time=photo.number) for photo in photos if not photo.dropped])
    kept = [replace(photo, time=photo.number) for photo in kept]
    dropped = [photo for photo in photos if photo.dropped]
    note = {"kind": "photos", "count": len(files), "duplicates": len(dropped)}
    return [*kept, *dropped], note


def _plain(stem: str) -> str:
    """Return a name that COLMAP's lists of names and every file system take: no blanks, signs or raw bytes, short."""
    return re.sub(r"[^\w.()+-]+", "_", stem).strip(".")[:_MAX_STEM] or "photo"


def _free_name(stem: str, used: set[str]) -> str:
    name, number = f"{stem}.jpg", 2
    while name.lower() in used:
        name, number = f"{stem}_{number}.jpg", number + 1
    used.add(name.lower())
    return name


def _from_video(
    shop: Workshop, file: Path, folder: Path, sequence: int, prefix: str
) -> tuple[list[Photo], dict[str, Any]]:
    video = probe(file)
    count = max(1, int(video.seconds * video.rate / video.stride)) if video.seconds else None
    with shop.progress("read video", "frames", count) as progress:
        grey = read_grey(video, progress.update, shop.folder)
    with shop.progress("choose frames", "frames", len(grey)) as progress:
        kept, spacing, relative = _choose(shop.config, video, grey, progress)
    (shop.folder / "grey.raw").unlink(missing_ok=True)
    numbers = [index * video.stride for index in kept]
    photos = _write_frames(shop, video, numbers, folder, sequence, prefix)
    note = {
        "kind": "video",
        "size": [video.width, video.height],
        "rate": video.rate,
        "seconds": video.seconds,
        "tone_mapped": video.hdr,
        "candidates": len(grey),
        "spacing": spacing,
        "kept": len(photos),
        "relative_sharpness": [round(float(relative[index]), 3) for index in kept],
    }
    return photos, note


def _choose(
    config: PrepareConfig, video: Video, grey: np.ndarray, progress: Any
) -> tuple[list[int], float, np.ndarray]:
    from smerf.prepare.frames import relative_sharpness

    rate = video.rate / video.stride
    values = np.array([sharpness(frame) for frame in grey])
    kept, spacing = choose_frames(grey, values, rate, config.spacing, config.frames, progress.update)
    return kept, spacing, relative_sharpness(values, rate)


def _write_frames(
    shop: Workshop, video: Video, numbers: Sequence[int], folder: Path, sequence: int, prefix: str
) -> list[Photo]:
    photos: list[Photo] = []
    with shop.progress("write frames", "frames", len(numbers)) as progress:
        for number, image in extract_frames(video, numbers, shop.config.max_side, progress.update):
            name = f"{prefix}frame_{number:06d}.jpg"
            image.save(folder / name, quality=_QUALITY, subsampling=0)
            photos.append(_frame(name, video, sequence, len(photos), number, image))
    return photos


def _frame(name: str, video: Video, sequence: int, number: int, time: int, image: Image.Image) -> Photo:
    return Photo(
        name, str(video.path), sequence, number, time, image.size, measure(image)[1], is_video=True
    )  # fmt: skip


def add_frames(shop: Workshop, photos: list[Photo], joints: list[tuple[Photo, Photo]]) -> list[Photo]:
    """Write two more frames between the two of each weak joint; return all photos, places counted again."""
    wanted: dict[tuple[int, str], set[int]] = {}
    known = {(photo.sequence, photo.time) for photo in photos}
    for one, two in joints:
        gap = two.time - one.time
        times = {one.time + round(gap * part / (_ADDED + 1)) for part in range(1, _ADDED + 1)}
        wanted.setdefault((one.sequence, one.source), set()).update(
            time for time in times if (one.sequence, time) not in known
        )
    added: list[Photo] = []
    for (sequence, source), numbers in wanted.items():
        prefix = next(photo.name for photo in photos if photo.sequence == sequence).split("frame_")[0]
        added += _write_frames(shop, probe(Path(source)), sorted(numbers), shop.images, sequence, prefix)
    return renumber([*photos, *added])


def masks_beside(paths: Sequence[Path]) -> Path | None:
    """Return the folder of masks in the first given folder of photos, or beside one that is called ``images``."""
    for path in paths:
        if path.is_dir():
            own = mask_folder(path)
            return own or (mask_folder(path.resolve().parent) if image_folder(path.resolve().name) else None)
    return None


def find_masks(folder: Path, photos: Sequence[Photo], output: Path) -> int:
    """Write the masks of photos as ``STEM.png`` in ``output`` and return how many there are.

    A mask is found by the photo's own path, name or stem, and by the name of its image. Masks of stored pixels are
    rotated as their photos were, masks of upright ones are not; all are reduced as their photos were.

    Raises:
        InvalidDataError: If no photo has a mask in the folder, or one is damaged or of another shape.
    """
    sources = [Path(photo.name if photo.is_video else photo.source) for photo in photos]
    root = Path(os.path.commonpath([source.parent for source in sources])) if photos else folder
    names = [source.relative_to(root).as_posix() for source in sources]
    masks = match_masks(folder, names, sources)
    if not any(masks):  # made for the images that were written
        written = [photo.name for photo in photos]
        masks = match_masks(folder, written, [Path(name) for name in written])
    with replace_folder(output) as new:
        for photo, mask in zip(photos, masks):
            if mask is not None:
                used = _upright_mask(mask, photo)
                grey = Image.fromarray(np.where(used, 255, 0).astype(np.uint8))
                grey = grey.resize(photo.size, Image.Resampling.BOX)
                # A reduced pixel counts only if everything that it covers does.
                grey.point(lambda value: 255 if value == 255 else 0).save(
                    new / f"{Path(photo.name).stem}.png"
                )
    found = len(masks) - masks.count(None)
    if not found:
        raise InvalidDataError(
            f"{folder}: holds no mask of any photo; name them like the photos (NAME.png), or move the folder away"
        )
    return found


def _upright_mask(mask: Path, photo: Photo) -> np.ndarray:
    """Return where a photo is used, bool (H, W), upright."""
    used = read_used(mask)
    if _has_shape(used, photo.size):
        return used
    if not photo.is_video:
        turned = rotate(used, read_header(Path(photo.source)).orientation)
        if _has_shape(turned, photo.size):
            return turned
    raise InvalidDataError(
        f"{mask}: is {used.shape[1]}x{used.shape[0]}, another shape than its photo's {photo.size[0]}x{photo.size[1]}; "
        "make it the size of the photo"
    )


def _has_shape(used: np.ndarray, size: tuple[int, int]) -> bool:
    """Tell whether a mask has the aspect of a size, within what rounding a smaller one to pixels changes."""
    height, width = used.shape
    slack = _SLACK_PIXELS * (1 / min(width, height) + 1 / min(size))
    return bool(abs(width / height * size[1] / size[0] - 1) < slack)
