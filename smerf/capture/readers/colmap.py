"""COLMAP sparse models, binary and text, with their photos beside them.

Poses on file are world-to-camera with OpenCV camera axes; the first pixel's outer corner is (0, 0). Layout:
``images/`` (and ``images_2`` ...) beside ``sparse``, ``colmap/sparse`` or ``distorted/sparse``, which hold one model
or numbered ones. Of several models, the one that poses most images is read.
Source: the file formats documented by COLMAP (colmap.github.io/format.html).
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from smerf.capture.readers.exports import opengl_pose, rotation_from_quaternion
from smerf.capture.readers.image_files import find_masks, has_photos, image_folder, list_images, locate_photos
from smerf.capture.readers.source import Source, SourceFrame, check_pose, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = [
    "find_model",
    "is_model",
    "model_root",
    "read_cameras",
    "read_colmap",
    "read_images",
    "read_points",
]

_LOG = logging.getLogger("smerf")

# name, number of parameters; the position in the list is the model's number in binary files
_MODELS = [
    ("SIMPLE_PINHOLE", 3), ("PINHOLE", 4), ("SIMPLE_RADIAL", 4), ("RADIAL", 5), ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8), ("FULL_OPENCV", 12), ("FOV", 5), ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5), ("THIN_PRISM_FISHEYE", 12),
    ("RAD_TAN_THIN_PRISM_FISHEYE", 16), ("SIMPLE_DIVISION", 4), ("DIVISION", 5), ("SIMPLE_FISHEYE", 3),
    ("FISHEYE", 4), ("EUCM", 6), ("EQUIRECTANGULAR", 2),
]  # fmt: skip
_SUPPORTED = [name for name, _ in _MODELS[:7]]
_FOLDERS = ("sparse", "colmap/sparse", "distorted/sparse", ".")
_OBSERVATION = np.dtype([("x", "<f8"), ("y", "<f8"), ("point", "<i8")])
_NO_POINTS = np.zeros(0, np.int64)
_MAX_DEPTH = 3  # folders between a capture's own and a model, such as dense/0/sparse
_NOT_SEARCHED = re.compile(r"^(\..*|prepare|images?.*|masks?|depths?.*)$")


@dataclass(frozen=True)
class _Image:
    name: str
    camera_id: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    points: np.ndarray
    """Numbers (S,) of the points that it shows; negative: of none."""


def find_model(root: Path) -> Path | None:
    """Return the folder of the sparse model below ``root`` that poses most images, or ``None``."""
    for folder in _FOLDERS:
        numbered = sorted((root / folder).iterdir()) if folder != "." and (root / folder).is_dir() else []
        models = [model for model in [root / folder, *numbered] if is_model(model)]
        if models:
            return _largest(models, root / folder)
    models = [model for model in _folders_below(root, _MAX_DEPTH) if is_model(model) and _has_cameras(model)]
    return _largest(models, root) if models else None


def _largest(models: list[Path], folder: Path) -> Path:
    if len(models) == 1:
        return models[0]
    counts = {model: len(read_images(model)) for model in models}
    best = max(models, key=lambda model: counts[model])
    names = (f"{model.relative_to(folder).as_posix()}: {counts[model]} images" for model in models)
    _LOG.warning(
        "%s: holds several models (%s); %s is read, the largest. To read another one, give its folder",
        folder, ", ".join(names), best,
    )  # fmt: skip
    return best


def _folders_below(root: Path, depth: int) -> list[Path]:
    """Return the folders below a root that may hold a model, nearest first, without those of photos and results."""
    found: list[Path] = []
    layer = [root] if root.is_dir() else []
    for _ in range(depth):
        layer = [
            child
            for folder in layer
            for child in sorted(folder.iterdir())
            if child.is_dir() and not _NOT_SEARCHED.match(child.name.lower())
        ]
        found += layer
    return found


def is_model(folder: Path) -> bool:
    """Tell whether a folder is a sparse model."""
    return any((folder / f"images{suffix}").is_file() for suffix in (".bin", ".txt"))


def _has_cameras(folder: Path) -> bool:
    return any((folder / f"cameras{suffix}").is_file() for suffix in (".bin", ".txt"))


def model_root(model: Path) -> Path:
    """Return the folder of the capture that a sparse model belongs to.

    That is the one above ``sparse`` and what that lies in; where no image lies below it, the nearest above that holds a
    folder of photos.
    """
    own = model
    for folder in (model.parent.parent, model.parent, model):
        if folder.name == "sparse":
            own = folder.parent.parent if folder.parent.name in ("colmap", "distorted") else folder.parent
    if list_images(own):
        return own
    return next((folder for folder in list(own.parents)[:_MAX_DEPTH] if has_photos(folder)), own)


def read_colmap(root: Path, model: Path) -> Source:
    """Read a sparse model and name the photos it poses.

    Raises:
        InvalidDataError: If a file of the model is missing, truncated, contradictory or of an unsupported
            camera model.
    """
    cameras = read_cameras(model)
    images = sorted(read_images(model), key=lambda image: image.name)
    stated_in = _file(model, "images")
    splits = _splits(root, model)
    paths = locate_photos(root, _expected(root, images), stated_in)
    names = [_name(image.name, path, root) for image, path in zip(images, paths)]
    frames = []
    points, numbers = read_points(model)
    order = np.argsort(numbers, kind="stable")
    for image, name, path, mask in zip(images, names, paths, find_masks(root, names, paths)):
        if image.camera_id not in cameras:
            raise InvalidDataError(
                f"{stated_in}: image {image.name} names camera {image.camera_id}, which "
                f"{_file(model, 'cameras').name} does not hold; export the model again"
            )
        frames.append(
            SourceFrame(
                name=name,
                image_path=path,
                intrinsics=cameras[image.camera_id],
                world_from_cam=_world_from_cam(image, stated_in),
                split=None if splits is None else ("test" if splits(image.name) else "train"),
                mask_path=mask,
                sees=_seen(image, numbers, order),
            )
        )
    return Source(root, "colmap", stated_in, tuple(frames), points=points)


def read_cameras(model: Path) -> dict[int, Intrinsics]:
    """Return the intrinsics of a sparse model by camera number."""
    path = _file(model, "cameras")
    cameras = {}
    if path.suffix == ".txt":
        for line in _lines(path):
            words = line.split()
            with _faults(path, line):
                cameras[int(words[0])] = _intrinsics(
                    words[1], (int(words[2]), int(words[3])), [float(word) for word in words[4:]], path
                )
        return cameras
    reader = _Binary(path)
    for _ in range(reader.take("Q")[0]):
        number, model_number, width, height = reader.take("IiQQ")
        if not 0 <= model_number < len(_MODELS):
            raise InvalidDataError(
                f"{path}: camera {number} has the unknown model number {model_number}; undistort the images "
                "with COLMAP's image_undistorter first"
            )
        name, count = _MODELS[model_number]
        cameras[number] = _intrinsics(name, (width, height), list(reader.take(f"{count}d")), path)
    return cameras


def read_images(model: Path) -> list[_Image]:
    """Return name, camera number, quaternion (w, x, y, z) and translation (world to camera) of each image."""
    path = _file(model, "images")
    images: list[_Image] = []
    if path.suffix == ".txt":
        # Two lines an image; the second lists observations. It may be empty, and some writers leave it out.
        lines = [line.strip() for line in _lines(path, keep_empty=True)]
        follows_image = False
        for line in lines:
            if not line or (follows_image and _is_observations(line)):
                if line:
                    images[-1] = replace(
                        images[-1], points=np.array(line.split()[2::3], np.float64).astype(np.int64)
                    )
                follows_image = False
                continue
            words = line.split(maxsplit=9)
            with _faults(path, line):
                numbers = tuple(float(word) for word in words[1:8])
                images.append(_Image(words[9], int(words[8]), numbers[:4], numbers[4:], _NO_POINTS))
            follows_image = True
        return images
    reader = _Binary(path)
    for _ in range(reader.take("Q")[0]):
        values = reader.take("I7dI")
        name = reader.text()
        seen = reader.array(_OBSERVATION, reader.take("Q")[0])["point"]
        images.append(_Image(name, values[8], values[1:5], values[5:8], seen))
    return images


def read_points(model: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the sparse points (N, 3) in source space and their numbers (N,); none where there is no points file."""
    if not any((model / f"points3D{suffix}").is_file() for suffix in (".bin", ".txt")):
        return np.zeros((0, 3)), _NO_POINTS
    path = _file(model, "points3D")
    points: list[tuple[float, ...]] = []
    numbers: list[np.int64 | int] = []
    if path.suffix == ".txt":
        for line in _lines(path):
            with _faults(path, line):
                number, x, y, z = line.split()[:4]
                points.append((float(x), float(y), float(z)))
                numbers.append(np.int64(int(number)))
    else:
        reader = _Binary(path)
        for _ in range(reader.take("Q")[0]):
            values = reader.take("q3d3BdQ")
            reader.skip(8 * values[8])
            points.append(values[1:4])
            numbers.append(values[0])
    array = np.asarray(points, np.float64).reshape(-1, 3)
    kept = np.all(np.isfinite(array), axis=1)
    return array[kept], np.array(numbers, np.int64)[kept]


def _seen(image: _Image, numbers: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return which of the points with these ``numbers`` (N,), which ``order`` (N,) sorts, an image shows (S,)."""
    if not len(numbers):
        return _NO_POINTS
    wanted = image.points[image.points >= 0]
    place = order[np.searchsorted(numbers, wanted, sorter=order).clip(max=len(numbers) - 1)]
    return np.unique(place[numbers[place] == wanted])


def _is_observations(line: str) -> bool:
    """Tell whether a line lists triples of numbers: x, y and the point's number."""
    words = line.split()
    try:
        return len(words) % 3 == 0 and all(np.isfinite(float(word)) for word in words)
    except ValueError:
        return False


def _expected(root: Path, images: list[_Image]) -> list[Path]:
    """Return where photos should be: in ``images``, or beside the model's folder where they lie there."""
    names = [
        image.name if (root / image.name).is_file() else image.name.replace("\\", "/") for image in images
    ]
    has_folder = any(path.is_dir() and image_folder(path.name) for path in root.iterdir())
    is_flat = not has_folder and any((root / name).is_file() for name in names)
    return [(root if is_flat else root / "images") / name for name in names]


def _name(stated: str, path: Path, root: Path) -> str:
    """Return the frame's name: as stated, unless that is a path of another machine."""
    if not (stated.startswith("/") or stated[1:3] in (":/", ":\\")) or root not in path.parents:
        return stated
    parts = path.relative_to(root).parts
    return "/".join(parts[1:] if len(parts) > 1 and image_folder(parts[0]) else parts)


def _splits(root: Path, model: Path) -> Callable[[str], bool] | None:
    """Return a function name -> is test, from ``test.txt`` in the model or ``test_list.txt`` beside it."""
    for path in (model / "test.txt", root / "test_list.txt"):
        if path.is_file():
            names = {
                line.strip()
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
                if line.strip()
            }
            stems = {Path(name).with_suffix("").as_posix() for name in names}
            return lambda name: name in names or Path(name).with_suffix("").as_posix() in stems
    return None


def _world_from_cam(image: _Image, path: Path) -> np.ndarray:
    quaternion = np.asarray(image.quaternion)
    length = np.linalg.norm(quaternion)
    if not (np.isfinite(length) and length > 1e-6):
        raise InvalidDataError(
            f"{path}: the quaternion of {image.name} is {image.quaternion}; export the model again"
        )
    cam_from_world = rotation_from_quaternion(*(quaternion / length))
    centre = -cam_from_world.T @ np.asarray(image.translation)
    return check_pose(opengl_pose(cam_from_world.T, centre), path, image.name)


def _intrinsics(name: str, size: tuple[int, int], params: list[float], path: Path) -> Intrinsics:
    if name not in _SUPPORTED:
        raise InvalidDataError(
            f"{path}: camera model {name} is not supported (only {', '.join(_SUPPORTED)}); undistort "
            "the images with COLMAP's image_undistorter first"
        )
    expected = dict(_MODELS)[name]
    if len(params) != expected:
        raise InvalidDataError(
            f"{path}: camera model {name} needs {expected} parameters, found {len(params)}; "
            "export the model again"
        )
    if name in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        params = [params[0], *params]
    distortion = tuple(params[4:])
    if name in ("SIMPLE_RADIAL", "RADIAL"):
        distortion = (*distortion, *(0.0,) * (4 - len(distortion)))
        name = "OPENCV"
    return make_intrinsics(name, size, (params[0], params[1]), (params[2], params[3]), distortion, path)


def _file(model: Path, stem: str) -> Path:
    for suffix in (".bin", ".txt"):
        if (model / f"{stem}{suffix}").is_file():
            return model / f"{stem}{suffix}"
    raise InvalidDataError(f"{model}: {stem}.bin or {stem}.txt is missing; copy the whole sparse model")


def _lines(path: Path, keep_empty: bool = False) -> Iterator[str]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return (line for line in text.splitlines() if not line.startswith("#") and (keep_empty or line.strip()))


class _faults:  # noqa: N801 - reads as a word in a with statement
    """Turn a line that does not parse into an error that shows it."""

    def __init__(self, path: Path, line: str) -> None:
        self.path, self.line = path, line

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if kind in (ValueError, IndexError, OverflowError):
            raise InvalidDataError(
                f"{self.path}: cannot read the line {self.line[:80]!r}; export the model again"
            ) from error


class _Binary:
    """A little-endian file read front to back; running off its end is an error that names it."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.position = path, path.read_bytes(), 0

    def take(self, layout: str) -> tuple:
        layout = "<" + layout
        start = self.position
        self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self.data, start)

    def skip(self, count: int) -> None:
        self.position += count
        if self.position > len(self.data):
            raise InvalidDataError(
                f"{self.path}: the file ends early ({len(self.data)} bytes); copy or export it again"
            )

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        start = self.position
        self.skip(dtype.itemsize * count)
        return np.frombuffer(self.data, dtype, count, start)

    def text(self) -> str:
        end = self.data.find(b"\0", self.position)
        start, self.position = self.position, end + 1
        if end < 0:
            self.skip(len(self.data) + 1)
        return self.data[start:end].decode("utf-8", errors="replace")
