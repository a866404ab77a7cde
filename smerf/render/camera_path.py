"""Camera paths in nerfstudio's JSON, which our viewers write as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smerf.capture.types import Camera, Intrinsics
from smerf.engine.files import read_json
from smerf.errors import InvalidDataError

__all__ = ["read_camera_path"]


def read_camera_path(path: Path, width: int | None = None) -> tuple[list[Camera], float]:
    """Read a camera path in nerfstudio's JSON.

    Args:
        path: File with ``camera_path``: ``camera_to_world`` (16 numbers, rows, OpenGL axes, training space)
            and ``fov`` (vertical, degrees) for each frame; ``render_width``, ``render_height`` and ``fps``.
        width: Width of the frames in pixels in place of the file's; the shape of the frame stays.

    Returns:
        The cameras and the frames a second.

    Raises:
        InvalidDataError: If the file is not such a path; the message names the file and the key.
    """
    document = read_json(path)
    try:
        own_width, own_height = int(document["render_width"]), int(document["render_height"])
        frames, fps = document["camera_path"], float(document.get("fps", 24.0))
        columns = width or own_width
        rows = max(1, round(columns * own_height / own_width))
        if not (columns > 0 and own_height > 0 and 0.0 < fps < float("inf")):
            raise ValueError("render_width, render_height and fps must be above 0")
        cameras: list[Camera] = []
        for frame in frames:
            pose = np.array(frame["camera_to_world"], np.float64).reshape(4, 4)[:3]
            fov = float(frame["fov"])
            if not (np.isfinite(pose).all() and 0.0 < fov < 180.0):
                raise ValueError(f"frame {len(cameras)} has a pose or a fov that makes no sense")
            focal = 0.5 * rows / np.tan(np.radians(0.5 * fov))
            intrinsics = Intrinsics("PINHOLE", columns, rows, focal, focal, columns / 2, rows / 2)
            cameras.append(Camera(intrinsics, pose))
    except KeyError as error:
        raise InvalidDataError(f"{path}: is not a camera path: {error} is missing") from error
    except (TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise InvalidDataError(f"{path}: is not a camera path: {error}") from error
    if not cameras:
        raise InvalidDataError(f"{path}: holds no frames in camera_path")
    return cameras, fps
