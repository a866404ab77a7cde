"""``transforms.json`` of nerfstudio and instant-ngp.

Poses are camera-to-world with OpenGL camera axes: used as they stand. Focal lengths and centres are in pixels
with (0, 0) at the outer corner of the first pixel. Source space is the space of the file; an
``applied_transform`` that a converter recorded is not undone.

Beside the keys of those two programs, the top level may carry ``near`` and ``far`` (source units),
``bounded`` (all content lies between them) and ``depth_unit_scale_factor`` (source units per stored depth
value, 0.001 unless given); a frame may carry ``exposure`` (shutter seconds x ISO / 1000) and ``name`` (else
made from its path).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from smerf.capture.images import image_header
from smerf.capture.readers.image_files import IMAGE_SUFFIXES, find_mask, image_folder
from smerf.capture.readers.ply import read_ply_points
from smerf.capture.readers.source import Source, SourceFrame, check_pose, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = ["parse_frames", "read_json", "read_nerfstudio", "read_number"]

_PERSPECTIVE = (
    "PINHOLE",
    "SIMPLE_PINHOLE",
    "SIMPLE_RADIAL",
    "RADIAL",
    "OPENCV",
    "FULL_OPENCV",
    "PERSPECTIVE",
)
_DISTORTION_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")


def read_nerfstudio(path: Path) -> Source:
    """Read a ``transforms.json``.

    Raises:
        InvalidDataError: If the file is not valid JSON, lacks a needed key, holds a bad pose, or names a
            camera model that this package cannot invert.
    """
    content = read_json(path)
    frames = parse_frames(content, path, _splits(content, path))
    points = path.parent / str(content["ply_file_path"]) if content.get("ply_file_path") else None
    extra = {} if points is None or not points.is_file() else {"points": read_ply_points(points)}
    return Source(
        root=path.parent,
        kind="nerfstudio",
        stated_in=path,
        frames=tuple(frames),
        near=read_number(content, "near", path),
        far=read_number(content, "far", path),
        bounded=bool(content.get("bounded", False)),
        **extra,
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise ``InvalidDataError`` with the line of the fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InvalidDataError(
            f"{path}: not valid JSON (line {error.lineno}: {error.msg}); restore a good copy"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); restore the file") from error
    if not isinstance(content, dict):
        raise InvalidDataError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def read_number(keys: dict[str, Any], key: str, path: Path, default: float | None = None) -> float | None:
    """Return a number of a JSON object, or ``default`` where the key is absent or null."""
    value = keys.get(key)
    if value is None:
        return default
    try:
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise TypeError
        return float(value)
    except (TypeError, OverflowError):
        raise InvalidDataError(
            f"{path}: {key} is {str(value)[:80]}, expected a number; correct the value"
        ) from None


def parse_frames(
    content: dict[str, Any],
    path: Path,
    split_of: Callable[[str], str | None],
) -> list[SourceFrame]:
    """Read the ``frames`` of a transforms file; keys of a frame override those of the top level."""
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise InvalidDataError(
            f"{path}: the key 'frames' is missing or empty; list at least one frame with its pose"
        )
    shared = {key: value for key, value in content.items() if key != "frames"}
    depth_unit = read_number(content, "depth_unit_scale_factor", path)
    if depth_unit is None:
        depth_unit = read_number(content, "integer_depth_scale", path, 1.0e-3)
    frames = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidDataError(f"{path}: frame {index} is not a JSON object; remove it")
        for key in ("file_path", "transform_matrix"):
            if key not in entry:
                raise InvalidDataError(
                    f"{path}: frame {index} lacks the key '{key}'; add it or remove the frame"
                )
        stated = str(entry["file_path"]).replace("\\", "/")
        image_path = _with_suffix(path.parent / stated)
        name = str(entry.get("name") or _name(stated, image_path))
        frames.append(
            SourceFrame(
                name=name,
                image_path=image_path,
                intrinsics=_intrinsics(shared | entry, image_path, path, name),
                world_from_cam=check_pose(entry["transform_matrix"], path, name),
                split=split_of(stated),
                mask_path=_optional(path, entry, "mask_path") or find_mask(path.parent, name, image_path),
                depth_path=_optional(path, entry, "depth_file_path") or _optional(path, entry, "depth_path"),
                depth_unit=depth_unit,
                exposure=read_number(entry, "exposure", path),
            )
        )
    return frames


def _splits(content: dict[str, Any], path: Path) -> Callable[[str], str | None]:
    """Return file_path -> split. Validation files are the test only where no test files are named."""
    named = {}
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        value = content.get(key) or []
        if not isinstance(value, list):
            raise InvalidDataError(f"{path}: {key} is not a list of file names; correct or remove it")
        named[key.split("_")[0]] = {_plain(str(item)) for item in value}
    if not any(named.values()):
        return lambda name: None
    test = named["test"] or named["val"]

    def split_of(name: str) -> str | None:
        if _plain(name) in test:
            return "test"
        # Frames that no list names are left out, as nerfstudio does; without a train list the rest is for
        # training.
        return "train" if not named["train"] or _plain(name) in named["train"] else "unused"

    return split_of


def _plain(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _name(stated: str, image_path: Path) -> str:
    """Return the frame's name: its path without the folder of images, with a suffix."""
    parts = [part for part in PurePosixPath(stated).parts if part not in (".", "..", "/")]
    if len(parts) > 1 and image_folder(parts[0]):
        parts = parts[1:]
    return "/".join([*parts[:-1], image_path.name])


def _with_suffix(path: Path) -> Path:
    """Add the suffix that synthetic sets leave out, ``.png`` unless another image lies there."""
    if path.suffix.lower() in IMAGE_SUFFIXES or path.is_file():
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def _optional(path: Path, entry: dict[str, Any], key: str) -> Path | None:
    if not entry.get(key):
        return None
    file = path.parent / str(entry[key])
    if not file.is_file():
        raise InvalidDataError(
            f"{path}: {key} of {entry['file_path']} names {file}, which does not exist; restore it"
        )
    return file


def _intrinsics(keys: dict[str, Any], image_path: Path, path: Path, name: str) -> Intrinsics:
    def number(key: str, default: float | None = None) -> float | None:
        return read_number(keys, key, path, default)

    width, height = number("w"), number("h")
    if (width is None or height is None) and image_path.is_file():
        width, height = image_header(image_path)[0]
    elif width is None or height is None:
        # A photo that is missing is dropped later; any plausible size does until then.
        width = height = number("fl_x") or number("fl_y") or 1.0
    focal_x = number("fl_x") or _focal(keys, "x", width, path)
    focal_y = number("fl_y") or _focal(keys, "y", height, path)
    focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
    if focal_x is None or focal_y is None:
        raise InvalidDataError(
            f"{path}: {name} has no focal length; add fl_x and fl_y (pixels) or camera_angle_x (radians)"
        )
    centre = (number("cx", width / 2), number("cy", height / 2))
    model, distortion = _distortion(keys, path, number)
    return make_intrinsics(model, (width, height), (focal_x, focal_y), centre, distortion, path)


def _focal(keys: dict[str, Any], axis: str, extent: float, path: Path) -> float | None:
    angle = read_number(keys, f"camera_angle_{axis}", path)
    if angle is None:
        degrees = read_number(keys, f"{axis}_fov", path)
        angle = None if degrees is None else math.radians(degrees)
    if angle is None:
        return None
    if not 0 < angle < math.pi:
        raise InvalidDataError(
            f"{path}: the field of view in {axis} is {angle} rad, expected between 0 and pi"
        )
    return 0.5 * extent / math.tan(0.5 * angle)


def _distortion(
    keys: dict[str, Any], path: Path, number: Callable[..., float | None]
) -> tuple[str, tuple[float, ...]]:
    model = str(keys.get("camera_model") or "OPENCV").upper()
    if keys.get("is_fisheye"):
        model = "OPENCV_FISHEYE"
    given = {key: number(key, 0.0) for key in (*_DISTORTION_KEYS, "k5", "k6")}
    listed = keys.get("distortion_params")
    if isinstance(listed, list) and not any(given.values()):
        named = dict(zip(_DISTORTION_KEYS, listed))
        given |= {key: read_number(named, key, path, 0.0) for key in named}
    if model == "OPENCV_FISHEYE":
        return model, tuple(given[key] for key in ("k1", "k2", "k3", "k4"))
    if model not in _PERSPECTIVE:
        raise InvalidDataError(
            f"{path}: camera_model {model} is not supported (only {', '.join(_PERSPECTIVE)} and "
            "OPENCV_FISHEYE); undistort the images to a pinhole camera first"
        )
    if model == "FULL_OPENCV":
        return model, tuple(given[key] for key in ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"))
    if given["k4"]:
        raise InvalidDataError(
            f"{path}: k4 with camera_model {model} has no agreed meaning; use FULL_OPENCV or OPENCV_FISHEYE"
        )
    plain = tuple(given[key] for key in ("k1", "k2", "p1", "p2"))
    if given["k3"]:
        return "FULL_OPENCV", (*plain, given["k3"], 0.0, 0.0, 0.0)
    return "OPENCV", plain
