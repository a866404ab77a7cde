"""``transforms.json`` of nerfstudio and instant-ngp.

Poses are camera-to-world with OpenGL camera axes: used as they stand. Focal lengths and centres are in pixels
with (0, 0) at the outer corner of the first pixel. Source space is the space of the file; an
``applied_transform`` that a converter recorded is not undone.

Beside the keys of those two programs, the top level may carry ``near`` and ``far`` (source units),
``bounded`` (all content lies between them) and ``depth_unit_scale_factor`` (source units per stored depth
value, 0.001 unless given) and ``sightings_path`` (``smerf.capture.readers.sightings``); a frame may carry ``exposure``
(shutter seconds x ISO / 1000) and ``name`` (else made from its path).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, overload
from urllib.parse import unquote

from smerf.capture.pixels import read_header
from smerf.capture.readers.image_files import IMAGE_SUFFIXES, find_masks, image_folder, locate_photos
from smerf.capture.readers.sightings import with_points
from smerf.capture.readers.source import Source, SourceFrame, check_pose, make_intrinsics
from smerf.errors import InvalidDataError

__all__ = ["parse_frames", "read_json", "read_nerfstudio", "read_number"]

_LOG = logging.getLogger("smerf")

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
_FOCAL_KEYS = ("fl_x", "fl_y")
_ANGLE_KEYS = ("camera_angle_x", "camera_angle_y", "x_fov", "y_fov")
_UNSUPPORTED = {
    "equirectangular": "a panorama",
    "latlong": "a panorama",
    "orthographic": "an orthographic camera",
    "ftheta_p0": "an f-theta lens",
    "from_mitsuba": "Mitsuba's camera axes",
    "normal_mts_args": "Mitsuba's camera axes",
    "fix_premult": "colours multiplied by alpha",
    "mask_color": "a colour that stands for a mask",
}
"""Keys of instant-ngp that change what pixels or poses mean."""
_MAX_EXPOSURE = 1e6


def read_nerfstudio(path: Path) -> Source:
    """Read a ``transforms.json``.

    Raises:
        InvalidDataError: If the file is not valid JSON, lacks a needed key, holds a bad pose, or names a
            camera model that this package cannot invert.
    """
    content = read_json(path)
    frames = parse_frames(content, path, _splits(content, path))
    source = Source(
        root=path.parent,
        kind="nerfstudio",
        stated_in=path,
        frames=tuple(frames),
        near=read_number(content, "near", path),
        far=read_number(content, "far", path),
        bounded=bool(content.get("bounded", False)),
    )
    return with_points(source, content.get("ply_file_path"), content.get("sightings_path"))


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


@overload
def read_number(keys: dict[str, Any], key: str, path: Path, default: float) -> float: ...


@overload
def read_number(keys: dict[str, Any], key: str, path: Path, default: None = None) -> float | None: ...


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
    taken: Collection[Path] = (),
) -> list[SourceFrame]:
    """Read the ``frames`` of a transforms file; keys of a frame override those of the top level.

    ``taken`` are photos of other files, which are none of these.
    """
    entries = _entries(content, path)
    shared = {key: value for key, value in content.items() if key != "frames"}
    depth_unit = read_number(content, "depth_unit_scale_factor", path)
    if depth_unit is None:
        depth_unit = read_number(content, "integer_depth_scale", path, 1.0e-3)
    stated = [_stated(str(entry["file_path"]), path.parent) for entry in entries]
    expected = [_with_suffix(path.parent / one) for one in stated]
    is_listed = path.name.startswith("transforms")  # other files, as of runs, say exactly what they used
    images = locate_photos(path.parent, expected, path, taken) if is_listed else expected
    names = _names(entries, stated, images, path.parent)
    masks = find_masks(path.parent, names, images)
    frames = []
    for entry, name, image_path, one, mask in zip(entries, names, images, stated, masks):
        keys = _merged(shared, entry)
        frames.append(
            SourceFrame(
                name=name,
                image_path=image_path,
                world_from_cam=check_pose(entry["transform_matrix"], path, name),
                split=split_of(one),
                mask_path=_mask(path, entry, mask),
                depth_path=_optional(path, entry, "depth_file_path") or _optional(path, entry, "depth_path"),
                depth_unit=depth_unit,
                exposure=_exposure(entry, path, name),
                **_intrinsics(keys, image_path, path, name),
            )
        )
    return _with_depth(frames, path)


def _stated(file_path: str, root: Path) -> str:
    """Return a path as it was meant: with slashes, without blanks around it or an address's escapes."""
    plain = file_path.replace("\\", "/")
    if (root / plain).is_file():
        return plain
    return unquote(plain.strip().removeprefix("file://"))


def _entries(content: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    entries = content.get("frames")
    if not isinstance(entries, list) or not entries:
        raise InvalidDataError(
            f"{path}: the key 'frames' is missing or empty; list at least one frame with its pose"
        )
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise InvalidDataError(f"{path}: frame {index} is not a JSON object; remove it")
        for key in ("file_path", "transform_matrix"):
            if key not in entry:
                raise InvalidDataError(
                    f"{path}: frame {index} lacks the key '{key}'; add it or remove the frame"
                )
    return entries


def _merged(shared: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Return a frame's keys over those of the top level, without those that belong to another camera's."""
    dropped: set[str] = set()
    has_focal = any(entry.get(key) is not None for key in _FOCAL_KEYS)
    has_angle = any(entry.get(key) is not None for key in _ANGLE_KEYS)
    if has_focal:
        dropped.update(_ANGLE_KEYS)
    elif has_angle:
        dropped.update(_FOCAL_KEYS, _ANGLE_KEYS)
    if any(entry.get(key, shared.get(key)) != shared.get(key) for key in ("w", "h")):
        dropped.update(("cx", "cy"))
    return {key: value for key, value in shared.items() if key not in dropped} | entry


def _exposure(entry: dict[str, Any], path: Path, name: str) -> float | None:
    exposure = read_number(entry, "exposure", path)
    if exposure is not None and not 0 < exposure < _MAX_EXPOSURE:
        raise InvalidDataError(
            f"{path}: the exposure of {name} is {exposure:g}, expected shutter seconds x ISO / 1000, which is above 0 "
            "(not stops); correct it, or remove the key where it is not known"
        )
    return exposure


def _with_depth(frames: list[SourceFrame], path: Path) -> list[SourceFrame]:
    """Leave out depth files that do not exist, with one warning: nothing depends on them."""
    absent = [frame for frame in frames if frame.depth_path is not None and not frame.depth_path.is_file()]
    if not absent:
        return frames
    _LOG.warning("%s: %d depth files do not exist and are left out; the first is %s",
                 path, len(absent), absent[0].depth_path)  # fmt: skip
    return [replace(frame, depth_path=None) if frame in absent else frame for frame in frames]


def _splits(content: dict[str, Any], path: Path) -> Callable[[str], str | None]:
    """Return file_path -> split. Validation files are the test only where no test files are named."""
    named = {}
    for key in ("train_filenames", "val_filenames", "test_filenames"):
        value = content.get(key) or []
        if not isinstance(value, list):
            raise InvalidDataError(f"{path}: {key} is not a list of file names; correct or remove it")
        named[key.split("_")[0]] = {_plain(str(item)) for item in value}
    test = named["test"] or named["val"]
    both = test & named["train"]
    if both:
        _LOG.warning("%s: %d photos are listed for training and for testing; they are not used for testing",
                     path, len(both))  # fmt: skip
        test = test - both
    if not test and not (named["train"] and not both):
        listed = named["train"]
        return lambda name: None if not listed or _plain(name) in listed else "unused"

    def split_of(name: str) -> str | None:
        if _plain(name) in test:
            return "test"
        # Frames that no list names are left out, as nerfstudio does; without a train list the rest is for
        # training.
        return "train" if not named["train"] or _plain(name) in named["train"] else "unused"

    return split_of


def _plain(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _names(entries: list[dict[str, Any]], stated: list[str], images: list[Path], root: Path) -> list[str]:
    """Return the frames' names: their own, else their paths without the folder of images, where that is unique."""
    names = [
        str(entry.get("name") or _name(one, image, root))
        for entry, one, image in zip(entries, stated, images)
    ]
    files: dict[str, set[Path]] = {}
    for name, image in zip(names, images):
        files.setdefault(name, set()).add(image)
    return [
        name if len(files[name]) == 1 else "/".join([*_folders(one), image.name])
        for name, one, image in zip(names, stated, images)
    ]


def _folders(stated: str) -> list[str]:
    return [part for part in PurePosixPath(stated).parts[:-1] if part not in (".", "..", "/")]


def _name(stated: str, image_path: Path, root: Path) -> str:
    """Return the frame's name: its path without the folder of images, with a suffix."""
    is_absolute = stated.startswith("/") or stated[1:3] == ":/"
    if is_absolute and root in image_path.parents:
        stated = image_path.relative_to(root).as_posix()
    parts = _folders(stated)
    if parts and image_folder(parts[0]):
        parts = parts[1:]
    return "/".join([*parts, image_path.name])


def _with_suffix(path: Path) -> Path:
    """Add the suffix that synthetic sets leave out, ``.png`` unless another image lies there."""
    if path.suffix.lower() in IMAGE_SUFFIXES or path.is_file():
        return path
    candidates = [path.with_name(path.name + suffix) for suffix in IMAGE_SUFFIXES]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def _optional(path: Path, entry: dict[str, Any], key: str) -> Path | None:
    if not entry.get(key):
        return None
    return path.parent / str(entry[key]).replace("\\", "/")


def _mask(path: Path, entry: dict[str, Any], found: Path | None) -> Path | None:
    """Return a frame's mask: the stated one, else the one that was found by the photo's name."""
    stated = _optional(path, entry, "mask_path")
    if stated is None or stated.is_file():
        return stated or found
    (located,) = [found] if found is not None else locate_photos(path.parent, [stated], path)
    if located.is_file():
        return located
    raise InvalidDataError(
        f"{path}: mask_path of {entry['file_path']} names {stated}, which does not exist; restore it"
    )


def _intrinsics(keys: dict[str, Any], image_path: Path, path: Path, name: str) -> dict[str, Any]:
    """Return ``intrinsics`` and ``is_size_stated`` of a frame."""

    def number(key: str) -> float | None:
        return read_number(keys, key, path)

    for key, meaning in _UNSUPPORTED.items():
        if keys.get(key):
            raise InvalidDataError(
                f"{path}: {key} of {name} means {meaning}, which is not supported; export pinhole images with plain "
                "colours, and masks as files"
            )
    width, height, is_size_stated = number("w"), number("h"), True
    if width is None or height is None:
        width, height, is_size_stated = _photo_size(number, image_path)
    focal_x = number("fl_x") or _focal(keys, "x", width, path)
    focal_y = number("fl_y") or _focal(keys, "y", height, path)
    focal_x, focal_y = focal_x or focal_y, focal_y or focal_x
    if focal_x is None or focal_y is None:
        raise InvalidDataError(
            f"{path}: {name} has no focal length; add fl_x and fl_y (pixels) or camera_angle_x (radians)"
        )
    centre = (read_number(keys, "cx", path, width / 2), read_number(keys, "cy", path, height / 2))
    model, distortion = _distortion(keys, path)
    intrinsics = make_intrinsics(model, (width, height), (focal_x, focal_y), centre, distortion, path)
    return {"intrinsics": intrinsics, "is_size_stated": is_size_stated}


def _photo_size(number: Callable[..., float | None], image_path: Path) -> tuple[float, float, bool]:
    """Return a photo's own size, and whether the centre tells that it is that of the upright photo."""
    centre_x, centre_y = number("cx"), number("cy")
    if not image_path.is_file():
        # A photo that is missing is dropped later; any plausible size does until then.
        side = number("fl_x") or number("fl_y") or 1.0
        return 2 * (centre_x or side / 2), 2 * (centre_y or side / 2), False
    header = read_header(image_path)
    width, height = header.size
    if header.orientation < 5 or centre_x is None or centre_y is None:
        return width, height, False
    stored = math.hypot(centre_x - width / 2, centre_y - height / 2)
    upright = math.hypot(centre_x - height / 2, centre_y - width / 2)
    return (height, width, True) if upright < stored else (width, height, True)


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


def _distortion(keys: dict[str, Any], path: Path) -> tuple[str, tuple[float, ...]]:
    model = str(keys.get("camera_model") or "OPENCV").upper()
    if keys.get("is_fisheye"):
        model = "OPENCV_FISHEYE"
    given = {key: read_number(keys, key, path, 0.0) for key in (*_DISTORTION_KEYS, "k5", "k6")}
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
