"""Which file serves each frame at the wanted size, and the intrinsics at that size.

A capture may carry reduced copies of its photos in ``images_2``, ``images_4`` ... beside ``images``. What a
folder is worth is found from real file sizes, not from its name: folders of old data sets differ from their
name's factor by a fraction of a pixel, and some files state the size of a reduced folder. K is scaled by the
real ratio.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from smerf.capture.pixels import Header, read_header
from smerf.capture.readers.image_files import image_folder, list_images
from smerf.capture.readers.source import Source, SourceFrame
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError, UsageError

__all__ = ["Photo", "choose_photos", "scale_intrinsics"]

_LOG = logging.getLogger("smerf")


@dataclass(frozen=True)
class Photo:
    """The file that serves a frame, the intrinsics at the final size, and how reading rotates and reduces the file.

    ``is_rotated`` says whether the stated size is that of the upright photo (true) or of the stored one (false), and is
    ``None`` where the size does not tell.
    """

    path: Path
    intrinsics: Intrinsics
    downscale: int
    exposure: float | None
    header: Header
    is_rotated: bool | None

    @property
    def orientation(self) -> int:
        """Return the EXIF value by which the file is rotated."""
        return self.header.orientation if self.is_rotated else 1


def choose_photos(
    source: Source, *, max_side: int | None = None, downscale: int | None = None
) -> dict[str, Photo]:
    """Choose the file and intrinsics of every frame whose photo exists, by frame name.

    Args:
        source: The capture as stated.
        max_side: Longest side wanted, in pixels; the smallest whole factor that reaches it is used.
        downscale: The whole factor itself; not together with ``max_side``.

    Raises:
        InvalidDataError: If a photo is damaged or has another size than its camera.
        UsageError: If both or senseless values are given.
    """
    if max_side is not None and downscale is not None:
        raise UsageError("give either max_side or downscale, not both")
    for name, value in (("max_side", max_side), ("downscale", downscale)):
        if value is not None and (value != int(value) or value < 1):
            raise UsageError(f"{name}: expected a whole number of at least 1, got {value}")
    folders: dict[Path, list[SourceFrame]] = {}
    for frame in source.frames:
        folders.setdefault(_folder(frame.image_path, source.root), []).append(frame)
    stated = [max(frame.intrinsics.width, frame.intrinsics.height) for frame in source.frames]
    factor = downscale or 1
    if max_side is not None:
        factor = max(stated) // (max_side + 1) + 1  # the smallest factor with side // factor <= max_side
    wanted = None if max_side is None and downscale is None else factor
    photos: dict[str, Photo] = {}
    for folder, frames in folders.items():
        photos |= _serve(folder, frames, wanted, max_side, source.stated_in)
    return _settle_orientation(photos, source)


def _settle_orientation(photos: dict[str, Photo], source: Source) -> dict[str, Photo]:
    """Rotate photos whose size does not tell as the others of the capture; say so where no photo tells."""
    known = {photo.is_rotated for photo in photos.values()}
    open_ones = [
        name for name, photo in photos.items() if photo.is_rotated is None and photo.header.orientation > 1
    ]
    if not open_ones or known == {None, False}:
        return photos
    has_own_shape = all(photos[name].header.upright == photos[name].header.size for name in open_ones)
    if known == {None, True} and has_own_shape:
        return photos | {name: replace(photos[name], is_rotated=True) for name in open_ones}
    _LOG.warning(
        "%s: %d photos have an EXIF orientation (the first: %s), and no size says whether their poses belong to the "
        "upright image. They are used as stored; if the result is wrong, rotate the pixels and remove the tags",
        source.stated_in, len(open_ones), photos[open_ones[0]].path,
    )  # fmt: skip
    return photos


def scale_intrinsics(
    intrinsics: Intrinsics, width: int, height: int, scale: tuple[float, float]
) -> Intrinsics:
    """Return the intrinsics for an image of ``width`` x ``height``, focal length and centre times ``scale``."""
    x, y = scale
    return replace(
        intrinsics,
        width=width,
        height=height,
        fx=intrinsics.fx * x,
        fy=intrinsics.fy * y,
        cx=intrinsics.cx * x,
        cy=intrinsics.cy * y,
    )


def _folder(image_path: Path, root: Path) -> Path:
    """Return the folder of images that holds a photo: the nearest one called so between it and the root."""
    for parent in image_path.parents:
        if parent == root:
            return root
        if image_folder(parent.name):
            return parent
    return image_path.parent


def _serve(
    folder: Path, frames: list[SourceFrame], wanted: int | None, max_side: int | None, stated_in: Path
) -> dict[str, Photo]:
    """Serve the frames of one folder from the copy that suits best."""
    copies = _copies(folder, frames)
    if not copies:
        return {}
    for factor, files in _preference(copies, wanted):
        rest = 1 if wanted is None else wanted // factor
        photos = {
            frame.name: _photo(frame, files[frame.name], factor, rest, stated_in)
            for frame in frames
            if frame.name in files
        }
        longest = max(max(photo.intrinsics.width, photo.intrinsics.height) for photo in photos.values())
        if max_side is None or longest <= max_side or factor == min(copies):
            if factor > 1:
                _LOG.info("using the reduced photos in %s", next(iter(files.values())).parent)
            return photos
    names = ", ".join(str(copy) for copy in sorted(copies))
    raise UsageError(f"{folder}: no photos that give a downscale of {wanted}; factors at hand: {names}")


def _preference(copies: dict[int, dict[str, Path]], wanted: int | None) -> list[tuple[int, dict[str, Path]]]:
    """Return the copies to try: the wanted one, then the largest photos that a whole factor takes there."""
    if wanted is None:
        order = [min(copies)]
    else:
        order = [wanted, *sorted(factor for factor in copies if factor < wanted and wanted % factor == 0)]
    complete = max(len(files) for files in copies.values())
    order = [factor for factor in order if factor in copies]
    # A copy that lacks photos others have is no choice, unless it is the only one.
    full = [factor for factor in order if len(copies[factor]) == complete]
    return [(factor, copies[factor]) for factor in (full or order)]


def _copies(folder: Path, frames: list[SourceFrame]) -> dict[int, dict[str, Path]]:
    """Return, by real reduction against the stated size, the files of each copy of a folder by frame name."""
    copies: dict[int, dict[str, Path]] = {}
    for candidate in _siblings(folder):
        files = _files(folder, candidate, frames)
        if not files:
            continue
        first = next(frame for frame in frames if frame.name in files)
        longest = max(read_header(files[first.name]).size)
        # The named folder itself must have the stated size; the size check that follows reports it otherwise.
        own = (found := image_folder(candidate.name)) is None or found[1] is None
        stated = max(first.intrinsics.width, first.intrinsics.height)
        factor = 1 if own else max(1, round(stated / longest))
        copies.setdefault(factor, files)
    return copies


def _siblings(folder: Path) -> list[Path]:
    """Return the folder and its copies of other sizes, itself first."""
    named = image_folder(folder.name)
    if named is None or not folder.parent.is_dir():
        return [folder] if folder.is_dir() else []
    others = [
        path
        for path in sorted(folder.parent.iterdir())
        if path.is_dir() and path != folder and (other := image_folder(path.name)) and other[0] == named[0]
    ]
    return ([folder] if folder.is_dir() else []) + others


def _files(folder: Path, candidate: Path, frames: list[SourceFrame]) -> dict[str, Path]:
    """Map frame names to files of a copy: by the same relative path, else by sorted position."""
    if candidate == folder:
        return {frame.name: frame.image_path for frame in frames if frame.image_path.is_file()}
    same = {frame.name: candidate / frame.image_path.relative_to(folder) for frame in frames}
    found = {name: path for name, path in same.items() if path.is_file()}
    if found:
        return found
    images = list_images(candidate)
    originals = list_images(folder) if folder.is_dir() else sorted(frame.image_path for frame in frames)
    if len(images) != len(originals):
        return {}
    by_position = dict(zip(originals, images))
    return {frame.name: by_position[frame.image_path] for frame in frames if frame.image_path in by_position}


def _photo(frame: SourceFrame, path: Path, factor: int, rest: int, stated_in: Path) -> Photo:
    header, intrinsics = read_header(path), frame.intrinsics

    def is_stated(size: tuple[int, int]) -> bool:
        slack = 1 if factor > 1 else 0
        return (
            abs(size[0] - intrinsics.width / factor) <= slack
            and abs(size[1] - intrinsics.height / factor) <= slack
        )

    as_stored, as_upright = is_stated(header.size), is_stated(header.upright)
    if not (as_stored or as_upright):
        raise InvalidDataError(_size_fault(path, header, intrinsics, factor, stated_in))
    is_rotated = None if as_stored == as_upright or not frame.is_size_stated else as_upright
    width, height = header.upright if as_upright and not as_stored else header.size
    if rest > min(width, height):
        raise UsageError(f"{path}: cannot reduce {width}x{height} by {rest}")
    scale = (width / intrinsics.width / rest, height / intrinsics.height / rest)
    return Photo(
        path=path,
        intrinsics=scale_intrinsics(intrinsics, width // rest, height // rest, scale),
        downscale=rest,
        exposure=frame.exposure if frame.exposure is not None else header.exposure,
        header=header,
        is_rotated=is_rotated,
    )


def _size_fault(path: Path, header: Header, intrinsics: Intrinsics, factor: int, stated_in: Path) -> str:
    size = f"{header.size[0]}x{header.size[1]}"
    if header.upright != header.size:
        size += f" ({header.upright[0]}x{header.upright[1]} after its EXIF orientation)"
    expected = f"{intrinsics.width}x{intrinsics.height}" + (f" reduced {factor} times" if factor > 1 else "")
    return (
        f"{path}: the image is {size}, but {stated_in} states {expected}; restore photos "
        "of that size, put reduced copies into images_2, images_4 ..., or correct the camera"
    )
