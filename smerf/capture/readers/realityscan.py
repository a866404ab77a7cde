"""RealityScan and RealityCapture: ``Internal/External camera parameters`` (CSV), or XMP files beside the photos.

Focal lengths are for 35 mm film, so that 36 mm are the longer side. The CSV states heading, pitch and roll in degrees,
z up, x east, y north; a pitch of 0 looks straight down. XMP states the rotation from world to camera, row by row, with
OpenCV camera axes, and the centre.
"""

from __future__ import annotations

import csv
import logging
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from smerf.capture.pixels import read_start
from smerf.capture.readers.exports import Lens, Shot, make_source, numbers, opengl_pose, parse_xml
from smerf.capture.readers.image_files import list_images
from smerf.capture.readers.source import Source, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = ["find_realityscan", "find_xmp", "read_realityscan", "read_xmp"]

_LOG = logging.getLogger("smerf")

_FILM = 36.0
_COLUMNS = ("x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", "k1", "k2", "k3", "k4", "t1", "t2")
_XMP_MODELS = ("perspective", "brown3", "brown4", "brown3t2", "brown4t2")


def find_realityscan(root: Path) -> Path | None:
    """Return the CSV file of cameras in ``root``, or ``None``."""
    for path in sorted(root.glob("*.csv")):
        if read_start(path, 64).removeprefix(b"\xef\xbb\xbf").startswith(b"#name,"):
            return path
    return None


def find_xmp(root: Path) -> Path | None:
    """Return the first XMP file below ``root`` that holds a camera, or ``None``."""
    files = sorted(path for pattern in ("*.xmp", "*/*.xmp") for path in root.glob(pattern))
    return next((path for path in files if b"capturingreality" in read_start(path, 4096)), None)


def read_realityscan(path: Path) -> Source:
    """Read a CSV file of camera parameters.

    Raises:
        InvalidDataError: If a column is missing, a value is no number, or the distortion cannot be read.
    """
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (ValueError, csv.Error) as error:
        raise InvalidDataError(f"{path}: not readable as CSV ({error}); export it again") from error
    missing = [key for key in ("#name", *_COLUMNS) if rows and key not in rows[0]]
    if missing:
        raise InvalidDataError(f"{path}: lacks the columns {', '.join(missing)}; export 'Internal/External camera "
                               "parameters'")  # fmt: skip
    shots = []
    for row in rows:
        name = row["#name"].replace("\\", "/")
        values = {key: float(numbers(row[key] or "", 1, path, f"{key} of {name}")[0]) for key in _COLUMNS}
        rotation = _rotation(*(np.radians(values[key]) for key in ("heading", "pitch", "roll")))
        centre = [[values["x"]], [values["y"]], [values["alt"]]]
        lens = _lens(
            values["f"] / _FILM,
            (values["px"] / _FILM, values["py"] / _FILM),
            [values[key] for key in ("k1", "k2", "k3", "k4", "t1", "t2")],
            path,
        )
        shots.append(Shot(path.parent / "images" / name, np.concatenate([rotation, centre], axis=1), lens))
    return make_source("realityscan", path.parent, path, shots)


def read_xmp(root: Path) -> Source:
    """Read the XMP files beside the photos below ``root``; photos without a pose are left out with one warning.

    Raises:
        InvalidDataError: If a file is damaged or its distortion cannot be read.
    """
    photos = {path.with_suffix(""): path for path in list_images(root)}
    files = sorted(path for path in root.rglob("*.xmp") if path.with_suffix("") in photos)
    shots, unaligned = [], 0
    for path in files:
        values = _xmp_values(parse_xml(path))
        if "Rotation" not in values or "Position" not in values:
            unaligned += 1
            continue
        rotation = numbers(values["Rotation"], 9, path, "Rotation").reshape(3, 3).T
        pose = opengl_pose(rotation, numbers(values["Position"], 3, path, "Position"))
        model = values.get("DistortionModel", "perspective")
        if model not in _XMP_MODELS:
            raise InvalidDataError(
                f"{path}: the distortion model {model} cannot be read; export undistorted photos"
            )
        coefficients = numbers(
            values.get("DistortionCoeficients", "0 0 0 0 0 0"), 6, path, "DistortionCoeficients"
        )
        focal, u, v = (
            float(numbers(values.get(key, default), 1, path, key)[0])
            for key, default in (("FocalLength35mm", ""), ("PrincipalPointU", "0"), ("PrincipalPointV", "0"))
        )
        lens = _lens(focal / _FILM, (u, v), list(coefficients), path)
        shots.append(Shot(photos[path.with_suffix("")], pose, lens))
    if unaligned:
        _LOG.warning("%s: %d photos have an XMP file without a pose and are left out", root, unaligned)
    return make_source("realityscan", root, root, shots)


def _xmp_values(document: Element) -> dict[str, str]:
    """Return attributes and elements of the camera by their names without namespace."""
    values: dict[str, str] = {}
    for element in document.iter():
        values[element.tag.rpartition("}")[2]] = (element.text or "").strip()
        values |= {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    return values


def _rotation(heading: float, pitch: float, roll: float) -> np.ndarray:
    """Return camera-to-world, OpenGL camera axes: Rz(-heading) Rx(pitch) Ry(roll)."""

    def about(axis: int, angle: float) -> Any:
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = np.cos(angle)
        matrix[j, i], matrix[i, j] = np.sin(angle), -np.sin(angle)
        return matrix

    return about(2, -heading) @ about(0, pitch) @ about(1, roll)


def _lens(focal: float, centre: tuple[float, float], distortion: list[float], path: Path) -> Lens:
    """Return a lens whose focal length and centre (from the middle) are in units of the longer side."""
    k1, k2, k3, k4, t1, t2 = distortion
    if k4:
        raise InvalidDataError(
            f"{path}: k4 is not 0, which no camera model here has; export undistorted photos"
        )
    model, tail = ("FULL_OPENCV", (k3, 0.0, 0.0, 0.0)) if k3 else ("OPENCV", ())

    def lens(width: int, height: int) -> Intrinsics:
        side = max(width, height)
        middle = (width / 2 + centre[0] * side, height / 2 + centre[1] * side)
        return make_intrinsics(
            model, (width, height), (focal * side,) * 2, middle, (k1, k2, t1, t2, *tail), path
        )

    return lens
