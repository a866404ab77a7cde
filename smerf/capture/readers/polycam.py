"""Polycam's raw data: ``keyframes/corrected_images`` with ``corrected_cameras``, one JSON a photo.

Poses are camera-to-world with OpenGL camera axes, in metres, y up.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.readers.exports import Shot, make_source
from smerf.capture.readers.nerfstudio import read_json, read_number
from smerf.capture.readers.source import Source, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = ["find_polycam", "read_polycam"]

_LOG = logging.getLogger("smerf")

_OPTIMISED, _MEASURED = ("corrected_images", "corrected_cameras"), ("images", "cameras")


def find_polycam(root: Path) -> Path | None:
    """Return the folder of keyframes in ``root``, or ``None``."""
    for folder in (root / "keyframes", root):
        for _, cameras in (_OPTIMISED, _MEASURED):
            first = next((folder / cameras).glob("*.json"), None)
            if first is not None and "t_00" in read_json(first):
                return folder
    return None


def read_polycam(keyframes: Path) -> Source:
    """Read a folder of keyframes; poses as measured by the phone are used where there are no optimised ones.

    Raises:
        InvalidDataError: If a file is damaged or lacks a key.
    """
    images, cameras = _OPTIMISED
    if not any((keyframes / cameras).glob("*.json")):
        images, cameras = _MEASURED
        _LOG.warning(
            "%s: holds the poses that the phone measured, not optimised ones (corrected_cameras); expect blur. Process "
            "the capture in Polycam before exporting its raw data",
            keyframes,
        )
    shots = []
    for path in sorted((keyframes / cameras).glob("*.json")):
        content = read_json(path)
        pose = [[_number(content, f"t_{row}{column}", path) for column in range(4)] for row in range(3)]
        photo = keyframes / images / f"{path.stem}.jpg"
        size = (int(_number(content, "width", path)), int(_number(content, "height", path)))
        depth = keyframes / "depth" / f"{path.stem}.png"
        shots.append(Shot(photo, np.array(pose), _lens(content, path), size, depth))
    return make_source("polycam", keyframes, keyframes / cameras, shots)


def _lens(content: dict[str, Any], path: Path) -> Any:
    fx, fy, cx, cy = (_number(content, key, path) for key in ("fx", "fy", "cx", "cy"))

    def lens(width: int, height: int) -> Intrinsics:
        return make_intrinsics("PINHOLE", (width, height), (fx, fy), (cx, cy), (), path)

    return lens


def _number(content: dict[str, Any], key: str, path: Path) -> float:
    value = read_number(content, key, path)
    if value is None or not np.isfinite(value):
        raise InvalidDataError(f"{path}: lacks the number {key}; export the raw data again")
    return value
