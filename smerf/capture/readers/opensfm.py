"""OpenSfM's ``reconstruction.json``, and OpenDroneMap's ``cameras.json`` with ``odm_report/shots.geojson``.

Rotations are axis-angle vectors from world to camera with OpenCV camera axes, z up; OpenSfM's translation is that of
the camera's coordinates, OpenDroneMap's the centre. Focal lengths and centres are in units of the longer side.
Source: OpenSfM documentation, "Geometric models".
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.readers.exports import (
    Lens,
    Shot,
    make_source,
    numbers,
    opengl_pose,
    rotation_from_quaternion,
)
from smerf.capture.readers.nerfstudio import read_json
from smerf.capture.readers.source import Source, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = ["find_odm", "find_opensfm", "read_odm", "read_opensfm"]

_LOG = logging.getLogger("smerf")

_ODM_SHOTS = "odm_report/shots.geojson"


def find_opensfm(root: Path) -> Path | None:
    """Return the reconstruction below ``root``, or ``None``."""
    places = (root / "reconstruction.json", root / "opensfm" / "reconstruction.json")
    return next((path for path in places if path.is_file()), None)


def find_odm(root: Path) -> Path | None:
    """Return the cameras of an OpenDroneMap project without its reconstruction, or ``None``."""
    is_project = (root / "cameras.json").is_file() and (root / _ODM_SHOTS).is_file()
    return root / "cameras.json" if is_project else None


def read_opensfm(path: Path) -> Source:
    """Read the part of a reconstruction that holds most shots.

    Raises:
        InvalidDataError: If the file is damaged, or holds a camera model that cannot be read.
    """
    try:
        parts = json.loads(path.read_text(encoding="utf-8-sig"))
        parts = sorted(parts, key=lambda one: len(one["shots"]), reverse=True)
        best = parts[0]
        shots = []
        for name, shot in best["shots"].items():
            rotation = _rotation(numbers(shot["rotation"], 3, path, f"the rotation of {name}"))
            centre = -rotation.T @ numbers(shot["translation"], 3, path, f"the translation of {name}")
            shots.append(_shot(path.parent, name, rotation, centre, best["cameras"], shot["camera"], path))
        points = [point["coordinates"] for point in (best.get("points") or {}).values()]
        cloud = np.asarray(points, np.float64).reshape(-1, 3)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InvalidDataError(f"{path}: not a readable reconstruction ({error}); export it again") from error
    if len(parts) > 1:
        _LOG.warning(
            "%s: the photos fall into %d parts; the largest, of %d, is read", path, len(parts), len(shots)
        )
    root = path.parent.parent if path.parent.name == "opensfm" else path.parent
    return replace(make_source("opensfm", root, path, shots), points=cloud[np.isfinite(cloud).all(axis=1)])


def read_odm(path: Path) -> Source:
    """Read the cameras and shots of an OpenDroneMap project.

    Raises:
        InvalidDataError: If a file is damaged, or holds a camera model that cannot be read.
    """
    cameras, listing = read_json(path), path.parent / _ODM_SHOTS
    try:
        shots = []
        for feature in read_json(listing)["features"]:
            values = feature["properties"]
            name = values["filename"]
            rotation = _rotation(numbers(values["rotation"], 3, listing, f"the rotation of {name}"))
            centre = numbers(values["translation"], 3, listing, f"the translation of {name}")
            camera = values.get("camera") or (next(iter(cameras)) if len(cameras) == 1 else None)
            shots.append(_shot(path.parent, name, rotation, centre, cameras, camera, path))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidDataError(f"{listing}: lacks or misspells {error}; run OpenDroneMap again") from error
    return make_source("odm", path.parent, listing, shots)


def _shot(
    root: Path,
    name: str,
    rotation: np.ndarray,
    centre: np.ndarray,
    cameras: dict[str, Any],
    camera: Any,
    path: Path,
) -> Shot:
    values = _camera(cameras, camera)
    size = (int(values["width"]), int(values["height"]))
    return Shot(root / "images" / name, opengl_pose(rotation.T, centre), _lens(values, path), size)


def _camera(cameras: dict[str, Any], name: Any) -> dict[str, Any]:
    """Return a camera by its name; OpenDroneMap leaves out the version that OpenSfM's names begin with."""
    return cameras[name] if name in cameras else cameras[str(name).removeprefix("v2 ")]


def _rotation(axis_angle: np.ndarray) -> np.ndarray:
    angle = float(np.linalg.norm(axis_angle))
    axis = axis_angle / angle if angle else axis_angle
    return rotation_from_quaternion(np.cos(angle / 2), *(np.sin(angle / 2) * axis))


def _lens(values: dict[str, Any], path: Path) -> Lens:
    kind = values.get("projection_type", "perspective")
    if kind not in ("perspective", "brown"):
        raise InvalidDataError(f"{path}: the projection {kind} cannot be read; export undistorted photos")
    k1, k2, k3, p1, p2, cx, cy = (
        float(values.get(key, 0.0)) for key in ("k1", "k2", "k3", "p1", "p2", "c_x", "c_y")
    )
    fx = float(values["focal_x"] if "focal_x" in values else values["focal"])
    fy = float(values.get("focal_y", fx))
    tail = (k3, 0.0, 0.0, 0.0) if k3 else ()
    model = "FULL_OPENCV" if tail else "OPENCV"

    def lens(width: int, height: int) -> Intrinsics:
        side = max(width, height)
        centre = (width / 2 + cx * side, height / 2 + cy * side)
        return make_intrinsics(
            model, (width, height), (fx * side, fy * side), centre, (k1, k2, p1, p2, *tail), path
        )

    return lens
