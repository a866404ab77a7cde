"""``annotations.json``: notes at points of a scene, as the page saves them, checked before they go into a page.

::

    {"format": "smerf-annotations", "version": 1, "metres_per_unit": float or null,
     "annotations": [{"title": str, "text": str, "link": "https://..." or "", "position": [3],
                      "camera": {"camera_to_world": [16], "fov": float} or null}],
     "measurements": [{"from": [3], "to": [3]}]}

Places are in training space, cameras in OpenGL axes, rows, with a vertical field of view in degrees.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from smerf.errors import InvalidDataError
from smerf.scene.manifest import read_json

__all__ = ["read_annotations"]

FORMAT, VERSION, MAX_ANNOTATIONS = "smerf-annotations", 1, 500


def read_annotations(path: Path) -> dict[str, Any]:
    """Read annotations and return their document.

    Raises:
        InvalidDataError: If the file is not such a document; the message names the file, the entry and the key.
    """
    document = read_json(path)
    if document.get("format") != FORMAT or document.get("version") != VERSION:
        raise InvalidDataError(
            f"{path}: is not {FORMAT} version {VERSION}; the page saves such files from its notes"
        )
    entries, lengths = document.get("annotations", []), document.get("measurements", [])
    if not isinstance(entries, list) or not isinstance(lengths, list) or len(entries) > MAX_ANNOTATIONS:
        raise InvalidDataError(f"{path}: 'annotations' must list at most {MAX_ANNOTATIONS} entries")
    metres = document.get("metres_per_unit")
    if metres is not None and not (isinstance(metres, (int, float)) and 0.0 < metres < math.inf):
        raise InvalidDataError(f"{path}: 'metres_per_unit' must be a number above 0, got {metres!r}")
    for index, entry in enumerate(entries):
        _check(entry, f"{path}: annotation {index}")
    for index, entry in enumerate(lengths):
        for end in ("from", "to"):
            _point(entry, end, (3,), f"{path}: measurement {index}")
    return document


def _check(entry: Any, where: str) -> None:
    _point(entry, "position", (3,), where)
    for key in ("title", "text", "link"):
        if not isinstance(entry.get(key, ""), str):
            raise InvalidDataError(f"{where}: {key!r} must be a string")
    link = urlsplit(entry.get("link", ""))
    if link.geturl() and not (link.scheme in ("http", "https") and link.netloc):
        raise InvalidDataError(f"{where}: 'link' must begin with https:// or http://, got {link.geturl()}")
    camera = entry.get("camera")
    if camera is None:
        return
    pose = _point(camera, "camera_to_world", (16,), where).reshape(4, 4)[:3, :3]
    fov = camera.get("fov")
    if not isinstance(fov, (int, float)) or not 0.0 < fov < 180.0:
        raise InvalidDataError(f"{where}: 'fov' must lie between 0 and 180, got {fov!r}")
    if not np.allclose(pose @ pose.T, np.eye(3), atol=1e-3):
        raise InvalidDataError(f"{where}: 'camera_to_world' must be a rotation and a translation")


def _point(entry: Any, key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    try:
        value = np.array(entry[key], np.float64)
    except (TypeError, ValueError, KeyError):
        value = np.zeros(0)
    if value.shape != shape or not np.isfinite(value).all():
        raise InvalidDataError(f"{where}: {key!r} must be {shape[0]} finite numbers")
    return value
