"""Meshroom's ``cameras.sfm`` (JSON of AliceVision's SfMData).

The nine numbers of a pose, read row by row, are camera-to-world with OpenCV camera axes. What principal points and
focal lengths mean depends on the version of the file.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.readers.exports import Lens, Shot, make_source, numbers, opengl_pose
from smerf.capture.readers.nerfstudio import read_json
from smerf.capture.readers.source import Source, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = ["find_meshroom", "read_meshroom"]

_LOG = logging.getLogger("smerf")

_COEFFICIENTS = {"pinhole": 0, "radial1": 1, "radial3": 3, "brown": 5, "radialk1": 1, "radialk3": 3}
_OFFSET_SINCE, _MILLIMETRES_SINCE = (1, 2, 1), (1, 2, 2)


def find_meshroom(root: Path) -> Path | None:
    """Return the file of cameras in ``root``, or ``None``."""
    named = root / "cameras.sfm"
    return named if named.is_file() else next(iter(sorted(root.glob("*.sfm"))), None)


def read_meshroom(path: Path) -> Source:
    """Read a ``cameras.sfm``.

    Raises:
        InvalidDataError: If the file is damaged, or holds a camera model that cannot be read.
    """
    content = read_json(path)
    try:
        version = tuple(int(part) for part in content["version"])
        intrinsics = {str(one["intrinsicId"]): one for one in content["intrinsics"]}
        poses = {str(one["poseId"]): one["pose"]["transform"] for one in content["poses"]}
        shots, unaligned = [], 0
        for view in content["views"]:
            name, pose = str(view["path"]).replace("\\", "/"), poses.get(str(view["poseId"]))
            lens = intrinsics.get(str(view["intrinsicId"]))
            if pose is None or lens is None:
                unaligned += 1
                continue
            rotation = numbers(pose["rotation"], 9, path, f"the rotation of {name}").reshape(3, 3)
            centre = numbers(pose["center"], 3, path, f"the centre of {name}")
            size = (int(view["width"]), int(view["height"]))
            shots.append(
                Shot(path.parent / name, opengl_pose(rotation, centre), _lens(lens, version, path), size)
            )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidDataError(f"{path}: lacks or misspells {error}; export the cameras again") from error
    if unaligned:
        _LOG.warning("%s: %d photos are not aligned and left out", path, unaligned)
    return make_source("meshroom", path.parent, path, shots)


def _lens(values: dict[str, Any], version: tuple[int, ...], path: Path) -> Lens:
    kind = str(values["type"])
    distortion = values.get("distortionParams") or []
    kind = str(values.get("distortionType") or kind) if kind == "pinhole" else kind
    if kind not in _COEFFICIENTS and any(float(one) for one in distortion):
        raise InvalidDataError(f"{path}: the camera type {kind} cannot be read; export undistorted photos "
                               "(Prepare Dense Scene)")  # fmt: skip
    count = _COEFFICIENTS.get(kind, 0)
    given = [float(one) for one in numbers(distortion, count, path, "distortionParams")] if count else []
    k1, k2, k3, p1, p2 = given + [0.0] * (5 - len(given))
    point = numbers(values["principalPoint"], 2, path, "principalPoint")

    def lens(width: int, height: int) -> Intrinsics:
        centre = (point[0], point[1])
        if version >= _OFFSET_SINCE:
            centre = (width / 2 + point[0], height / 2 + point[1])
        if version < _MILLIMETRES_SINCE:
            stated = values["pxFocalLength"]
            focal = numbers(stated if isinstance(stated, list) else [stated] * 2, 2, path, "pxFocalLength")
        else:
            fx = float(values["focalLength"]) / float(values["sensorWidth"]) * width
            focal = np.array([fx, fx * float(values.get("pixelRatio", 1.0))])
        tail = (k3, 0.0, 0.0, 0.0) if k3 else ()
        model = "FULL_OPENCV" if tail else "OPENCV"
        return make_intrinsics(
            model, (width, height), (float(focal[0]), float(focal[1])), centre, (k1, k2, p1, p2, *tail), path
        )

    return lens
