"""The cameras that trainers of splats leave beside their files: ``cameras.json`` (INRIA, OpenSplat, Brush).

And those of a posed capture.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from smerf.capture import load_capture
from smerf.capture.normalise import invert_pose
from smerf.capture.types import Camera, Intrinsics, intrinsics_fault
from smerf.errors import InvalidDataError

__all__ = ["capture_cameras", "find_cameras", "found_focal", "is_camera_list", "read_cameras"]

_NAME = "cameras.json"
_LEVELS = 4
_MAX_WIDTH = 1600


def find_cameras(path: Path) -> Path | None:
    """Return the ``cameras.json`` in a file's folder or up to three above it."""
    for folder in list(path.resolve().parents)[:_LEVELS]:
        if (folder / _NAME).is_file():
            return folder / _NAME
    return None


def found_focal(path: Path) -> float | None:
    """Return the focal length in pixels that splats were trained with, if their cameras are there and readable."""
    found = find_cameras(path)
    if found is None:
        return None
    try:
        first = read_cameras(found)[0].intrinsics
    except InvalidDataError:
        # Whoever wants the cameras themselves gets the message.
        return None
    # INRIA's trainer reduces wider photos to this width; newer versions write the reduced size.
    return first.fx * min(1.0, _MAX_WIDTH / first.width)


def read_cameras(path: Path) -> list[Camera]:
    """Read the cameras of a ``cameras.json``, in the splats' space.

    Raises:
        InvalidDataError: If the file is no such list.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        cameras = [_camera(entry) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidDataError(f"{path}: is no list of cameras ({error}); export it again") from error
    if not cameras:
        raise InvalidDataError(f"{path}: lists no cameras")
    return cameras


def is_camera_list(path: Path) -> bool:
    """Return whether a path is a ``cameras.json``, and not a posed capture."""
    return path.is_file() and path.read_bytes().lstrip()[:1] != b"{"


def capture_cameras(path: Path) -> list[Camera]:
    """Read the cameras of a posed capture of any layout, which lies in the splats' space.

    Raises:
        UsageError: If nothing is there.
        InvalidDataError: If it is no capture.
    """
    capture = load_capture(path)
    place = capture.training_from_source
    return [
        replace(frame.camera, world_from_cam=invert_pose(place, frame.camera.world_from_cam))
        for frame in capture.frames
    ]


def _camera(entry: dict) -> Camera:
    width, height = int(entry["width"]), int(entry["height"])
    intrinsics = Intrinsics(
        "PINHOLE", width, height, float(entry["fx"]), float(entry["fy"]), 0.5 * width, 0.5 * height
    )
    fault = intrinsics_fault(intrinsics)
    pose = np.concatenate(
        [
            np.asarray(entry["rotation"], float).reshape(3, 3),
            np.asarray(entry["position"], float).reshape(3, 1),
        ],
        1,
    )
    if fault or not np.isfinite(pose).all() or abs(np.linalg.det(pose[:, :3]) - 1.0) > 1e-2:
        raise ValueError(fault or f"camera {entry.get('img_name')} has no rotation")
    # Camera axes of the file are right, down, forward.
    return Camera(intrinsics, pose * np.array([1.0, -1.0, -1.0, 1.0]))
