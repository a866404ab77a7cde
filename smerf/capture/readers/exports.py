"""What the readers of other programs' exports share: shots, axes, parsing, and the way to a ``Source``."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.images import is_smaller
from smerf.capture.pixels import read_header
from smerf.capture.readers.image_files import find_masks, locate_photos
from smerf.capture.readers.source import Source, SourceFrame, check_pose
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = [
    "Lens",
    "Shot",
    "make_source",
    "numbers",
    "opengl_pose",
    "parse_xml",
    "pose_from_quaternion",
    "rotation_from_quaternion",
]

Lens = Callable[[int, int], Intrinsics]
"""Returns the intrinsics for images of a width and height in pixels."""


@dataclass(frozen=True)
class Shot:
    """A posed photo of an export. ``world_from_cam`` is 3x4 with OpenGL camera axes.

    ``size`` is ``None`` where the export states none: then it is the photo's own. ``depth`` holds millimetres.
    """

    photo: Path
    world_from_cam: np.ndarray
    lens: Lens
    size: tuple[int, int] | None = None
    depth: Path | None = None


def make_source(kind: str, root: Path, stated_in: Path, shots: Sequence[Shot]) -> Source:
    """Return the capture that the shots of an export make up.

    Raises:
        InvalidDataError: If there is no shot, or a pose or camera is impossible.
    """
    if not shots:
        raise InvalidDataError(
            f"{stated_in}: holds no aligned camera; align the photos in the program that wrote it and export again"
        )
    photos = locate_photos(root, [shot.photo for shot in shots], stated_in)
    names = [photo.name for photo in photos]
    if len(set(names)) < len(names):
        names = [
            photo.relative_to(root).as_posix() if root in photo.parents else str(photo) for photo in photos
        ]
    masks = find_masks(root, names, photos)
    frames = [
        SourceFrame(
            name=name,
            image_path=photo,
            intrinsics=_intrinsics(shot, photo),
            world_from_cam=check_pose(shot.world_from_cam, stated_in, name),
            mask_path=mask,
            depth_path=_usable_depth(shot, photo),
            is_size_stated=shot.size is not None,
        )
        for shot, photo, name, mask in zip(shots, photos, names, masks)
    ]
    return Source(root, kind, stated_in, tuple(sorted(frames, key=lambda frame: frame.name)))


def _intrinsics(shot: Shot, photo: Path) -> Intrinsics:
    if shot.size is not None:
        return shot.lens(*shot.size)
    if photo.is_file():
        return shot.lens(*read_header(photo).size)
    return Intrinsics("PINHOLE", 1, 1, 1.0, 1.0, 0.5, 0.5)  # a photo that is missing is dropped later


def _usable_depth(shot: Shot, photo: Path) -> Path | None:
    """Return the depth file where it shows what the photo does; phones measure fewer pixels."""
    if shot.depth is None or not shot.depth.is_file() or not photo.is_file():
        return None
    depth, image = read_header(shot.depth).size, shot.size or read_header(photo).size
    factor = max(1, depth[0] // image[0])
    is_whole = depth == (factor * image[0], factor * image[1])
    return shot.depth if is_whole or is_smaller(depth, image) else None


def rotation_from_quaternion(w: float, x: float, y: float, z: float) -> np.ndarray:
    """Return the rotation (3, 3) of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def pose_from_quaternion(quaternion: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the pose (3, 4) of a quaternion (x, y, z, w) of any length but 0; NaN for that."""
    x, y, z, w = quaternion / (np.linalg.norm(quaternion) or np.nan)
    return np.concatenate([rotation_from_quaternion(w, x, y, z), np.reshape(centre, (3, 1))], axis=1)


def opengl_pose(rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the pose (3, 4) with OpenGL camera axes of a camera-to-world rotation with OpenCV axes."""
    return np.concatenate([np.asarray(rotation) * (1.0, -1.0, -1.0), np.reshape(centre, (3, 1))], axis=1)


def numbers(value: Any, count: int, path: Path, what: str) -> np.ndarray:
    """Return ``count`` finite numbers from a list, or a text that separates them by spaces.

    Raises:
        InvalidDataError: If it is anything else.
    """
    try:
        array = np.asarray(value.split() if isinstance(value, str) else value, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        array = np.zeros(0)
    if len(array) != count or not np.isfinite(array).all():
        raise InvalidDataError(
            f"{path}: {what} is {str(value)[:80]!r}, expected {count} numbers; export it again"
        )
    return array


def parse_xml(path: Path) -> ElementTree.Element:
    """Return the root of an XML file.

    Raises:
        InvalidDataError: If it is not valid, or declares entities, which could expand without end.
    """
    data = path.read_bytes()
    if b"<!ENTITY" in data:
        raise InvalidDataError(f"{path}: declares entities, which an export does not need; export it again")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InvalidDataError(f"{path}: not valid XML ({error}); export it again") from error
