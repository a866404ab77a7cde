"""Camera paths: recorded as keyframes, played, and stored in nerfstudio's JSON.

The page and ``smerf render`` read the same files. Poses are camera-to-world (3, 4) in training axes; fields of
view are vertical, in degrees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smerf.errors import InvalidDataError, UsageError

__all__ = ["CameraPath", "View", "read_path", "write_path"]

SECONDS_PER_KEYFRAME = 2.0
FPS = 30.0


@dataclass(frozen=True)
class View:
    """Where a camera stands and how wide it sees."""

    pose: np.ndarray
    fov: float


@dataclass(frozen=True)
class CameraPath:
    """Views at equal distances of time. ``keyframes`` are what the path was made from, possibly nothing.

    ``size`` is the frame in pixels that the file asks for, ``None`` where it does not.
    """

    frames: tuple[View, ...]
    seconds: float
    fps: float = FPS
    is_cycle: bool = False
    keyframes: tuple[View, ...] = ()
    size: tuple[int, int] | None = None

    def at(self, time: float) -> View:
        """Return the view at a time in seconds; a cycle repeats, another path stays at its end."""
        count = len(self.frames)
        share = (
            math.fmod(time, self.seconds) / self.seconds if self.is_cycle else min(1.0, time / self.seconds)
        )
        place = share * (count if self.is_cycle else count - 1)
        low = min(count - 1, int(place))
        a, b = self.frames[low], self.frames[(low + 1) % count]
        t = place - low
        return View(_square(a.pose + (b.pose - a.pose) * t), a.fov + (b.fov - a.fov) * t)

    @staticmethod
    def through(
        keyframes: Sequence[View], seconds: float | None = None, is_cycle: bool = False
    ) -> CameraPath:
        """Make a smooth path through keyframes, two seconds between each by default.

        Place, turn (as a quaternion) and field of view follow Catmull-Rom splines, as on the page.
        """
        count = len(keyframes)
        if count < 2:
            raise UsageError("a camera path needs two keyframes or more")
        spans = count if is_cycle else count - 1
        seconds = seconds or SECONDS_PER_KEYFRAME * spans
        frames = max(2, round(seconds * FPS) + (0 if is_cycle else 1))
        places = np.arange(frames) * (spans / (frames if is_cycle else frames - 1))
        values = np.stack([[*view.pose[:, 3], view.fov] for view in keyframes])
        turns = np.stack([_quaternion(view.pose[:, :3]) for view in keyframes])
        made = []
        for place in places:
            low = min(spans - 1, int(place))
            corners = np.arange(low - 1, low + 3)
            corners = corners % count if is_cycle else np.clip(corners, 0, count - 1)
            *origin, fov = _spline(values[corners], place - low)
            rotation = _rotation(_spline(_alongside(turns[corners]), place - low))
            pose = np.concatenate([rotation, np.array(origin)[:, None]], -1)
            made.append(View(pose, float(np.clip(fov, 1.0, 170.0))))
        return CameraPath(tuple(made), seconds, FPS, is_cycle, tuple(keyframes))


def _spline(corners: np.ndarray, t: float) -> np.ndarray:
    """Return the Catmull-Rom spline of four corners (4, N) at ``t`` between the second and the third."""
    p0, p1, p2, p3 = corners
    cubic = (3 * p1 - p0 - 3 * p2 + p3) * t**3
    return 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + cubic)


def _alongside(turns: np.ndarray) -> np.ndarray:
    """Choose signs that make each of four quaternions a near neighbour of the one beside: q and -q turn alike."""
    q0, q1, q2, q3 = turns
    q2 = -q2 if q2 @ q1 < 0 else q2
    return np.stack([-q0 if q0 @ q1 < 0 else q0, q1, q2, -q3 if q3 @ q2 < 0 else q3])


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """Return x, y, z, w of a rotation (3, 3)."""
    m = rotation
    xx, yy, zz = np.diag(m)
    squares = np.array([1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz])
    # The largest of the four squares keeps the division well away from zero.
    largest = int(np.argmax(squares))
    x, y, z = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, zx, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    square = squares[largest]
    rows = ((square, xy, zx, x), (xy, square, yz, y), (zx, yz, square, z), (x, y, z, square))
    return np.array(rows[largest]) / (2.0 * math.sqrt(square))


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    """Return the rotation (3, 3) of a quaternion x, y, z, w of any length."""
    x, y, z, w = quaternion / (np.linalg.norm(quaternion) or 1.0)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _square(pose: np.ndarray) -> np.ndarray:
    """Return the pose with axes of length one at right angles; the view and then the up axis count most."""
    back = pose[:, 2] / (np.linalg.norm(pose[:, 2]) or 1.0)
    right = np.cross(pose[:, 1], back)
    right /= np.linalg.norm(right) or 1.0
    return np.stack([right, np.cross(back, right), back, pose[:, 3]], -1)


def read_path(path: Path) -> CameraPath:
    """Read a camera path. Raises InvalidDataError naming the file and what is wrong in it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        entries = document.get("camera_path") or document.get("keyframes")
        if not entries:
            raise ValueError("holds neither camera_path nor keyframes")
        default = float(document.get("default_fov", 50.0))
        frames = tuple(_view(entry, default) for entry in entries)
        keyframes = tuple(_view(entry, default) for entry in document.get("keyframes", ()))
        fps = float(document.get("fps", FPS))
        natural = len(frames) / fps if document.get("camera_path") else SECONDS_PER_KEYFRAME * len(frames)
        seconds = float(document.get("seconds") or natural)
        size = None
        if "render_width" in document and "render_height" in document:
            size = int(document["render_width"]), int(document["render_height"])
        if not (math.isfinite(seconds) and math.isfinite(fps) and fps > 0) or (size and min(size) < 1):
            raise ValueError("seconds, fps and the size must be positive")
    except OSError as error:
        raise InvalidDataError(f"{path}: cannot be read ({error.strerror})") from error
    except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidDataError(f"{path}: is not a camera path: {reason}") from error
    is_cycle = bool(document.get("is_cycle"))
    if not document.get("camera_path") and len(keyframes) > 1:
        frames = CameraPath.through(keyframes, max(0.1, seconds), is_cycle).frames
    return CameraPath(frames, max(0.1, seconds), fps, is_cycle, keyframes, size)


def _view(entry: dict[str, Any], default_fov: float) -> View:
    matrix = entry["camera_to_world"] if "camera_to_world" in entry else entry["matrix"]
    # Older nerfstudio wrote the matrix of a keyframe as a string.
    numbers = np.array(json.loads(matrix) if isinstance(matrix, str) else matrix, np.float64).ravel()
    fov = float(entry.get("fov", default_fov))
    if numbers.size not in (12, 16) or not np.isfinite(numbers).all() or not 0.0 < fov < 180.0:
        raise ValueError("a frame has a pose or a fov that makes no sense")
    return View(numbers[:12].reshape(3, 4), fov)


def write_path(path: Path, camera_path: CameraPath, width: int, height: int) -> None:
    """Write a path as nerfstudio's JSON, with ``width`` x ``height`` as the size to render at."""

    def matrix(view: View) -> list[float]:
        return [*view.pose.ravel().tolist(), 0.0, 0.0, 0.0, 1.0]

    aspect = width / height
    document = {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": camera_path.fps,
        "seconds": camera_path.seconds,
        "is_cycle": camera_path.is_cycle,
        "smoothness_value": 0.5,
        "default_fov": camera_path.frames[0].fov,
        "default_transition_sec": SECONDS_PER_KEYFRAME,
        "keyframes": [
            {"matrix": matrix(view), "fov": view.fov, "aspect": aspect, "override_transition_enabled": False}
            for view in camera_path.keyframes
        ],
        "camera_path": [
            {"camera_to_world": matrix(view), "fov": view.fov, "aspect": aspect}
            for view in camera_path.frames
        ],
    }
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
