"""Phone apps that write ARKit's poses: Record3D, Stray Scanner, 3D Scanner App. All are in metres, y up.

- Record3D: ``metadata.json`` with ``rgb/N.jpg`` (unpacked ``.r3d``: ``metadata`` with ``rgbd/N.jpg``). A pose is a
  quaternion (x, y, z, w) and a centre, camera-to-world, OpenGL camera axes; ``K`` is column by column.
- Stray Scanner: ``odometry.csv`` and ``camera_matrix.csv`` beside ``rgb.mp4``, camera-to-world with OpenCV camera axes.
  The frames of the video have to be in ``rgb/``; ``depth/N.png`` is measured.
- 3D Scanner App: ``frame_N.jpg`` with ``frame_N.json``, camera-to-world row by row, OpenGL camera axes, and
  ``depth_N.png``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from smerf.capture.readers.exports import Lens, Shot, make_source, numbers, opengl_pose, pose_from_quaternion
from smerf.capture.readers.image_files import list_images
from smerf.capture.readers.nerfstudio import read_json
from smerf.capture.readers.source import Source, make_intrinsics
from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = [
    "find_record3d",
    "find_scanner_app",
    "find_stray",
    "read_record3d",
    "read_scanner_app",
    "read_stray",
]


def find_record3d(root: Path) -> Path | None:
    """Return the metadata file of a Record3D export in ``root``, or ``None``."""
    for name, folder in (("metadata.json", "rgb"), ("metadata", "rgbd")):
        if (root / name).is_file() and (root / folder).is_dir() and "poses" in read_json(root / name):
            return root / name
    return None


def read_record3d(path: Path) -> Source:
    """Read a Record3D export.

    Raises:
        InvalidDataError: If the file is damaged, or holds no poses, as of the front camera.
    """
    content = read_json(path)
    poses = np.array([numbers(pose, 7, path, "a pose") for pose in _rows(content.get("poses"), path)])
    if len(poses) > 1 and np.ptp(poses, axis=0).max() == 0:
        raise InvalidDataError(f"{path}: all poses are the same, as of the front camera; find poses with smerf prepare "
                               f"{path.parent / 'rgb'}")  # fmt: skip
    own = _rows(content.get("perFrameIntrinsicCoeffs") or [], path)
    if own and len(own) != len(poses):
        raise InvalidDataError(f"{path}: holds {len(poses)} poses and {len(own)} intrinsics; export it again")
    size = tuple(int(numbers([content.get(key)], 1, path, key)[0]) for key in ("w", "h"))
    folder = path.parent / ("rgb" if path.suffix else "rgbd")
    shots = []
    for index, pose in enumerate(poses):
        if own:
            fx, fy, cx, cy = numbers(own[index], 4, path, "perFrameIntrinsicCoeffs")
        else:
            matrix = numbers(content.get("K"), 9, path, "K").reshape(3, 3).T
            fx, fy, cx, cy = matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]
        photo = folder / f"{index}.jpg"
        shots.append(
            Shot(
                photo,
                pose_from_quaternion(pose[:4], pose[4:]),
                _lens(fx, fy, cx, cy, path),
                (size[0], size[1]),
            )
        )
    return make_source("record3d", path.parent, path, shots)


def find_stray(root: Path) -> Path | None:
    """Return the odometry file of a Stray Scanner recording in ``root``, or ``None``."""
    path = root / "odometry.csv"
    return path if path.is_file() and (root / "camera_matrix.csv").is_file() else None


def read_stray(path: Path) -> Source:
    """Read a Stray Scanner recording whose frames were extracted to ``rgb/``.

    Raises:
        InvalidDataError: If there are no frames, or a file is damaged.
    """
    root = path.parent
    frames = list_images(root / "rgb") if (root / "rgb").is_dir() else []
    if not frames:
        raise InvalidDataError(
            f"{root}: the frames are still in rgb.mp4; extract them: cd {root} && mkdir rgb && "
            "ffmpeg -noautorotate -i rgb.mp4 -start_number 0 -q:v 2 rgb/%06d.jpg"
        )
    matrix = numbers(
        (root / "camera_matrix.csv").read_text().replace(",", " "), 9, root / "camera_matrix.csv", "it"
    )
    fx, _, cx, _, fy, cy, *_ = matrix
    lens = _lens(fx, fy, cx, cy, path)
    shots = []
    for index, row in enumerate(_stray_rows(path)):
        values = numbers(row[-7:], 7, path, f"line {index}")
        number = row[1].strip() if len(row) > 7 else f"{index:06d}"
        pose = pose_from_quaternion(values[3:], values[:3])
        shots.append(
            Shot(
                root / "rgb" / f"{number}.jpg",
                opengl_pose(pose[:, :3], pose[:, 3]),
                lens,
                depth=root / "depth" / f"{number}.png",
            )
        )
    return make_source("stray-scanner", root, path, shots)


def _stray_rows(path: Path) -> list[list[str]]:
    """Return the rows without header; early versions have none, and neither time nor number."""
    rows = [row for row in csv.reader(path.read_text(encoding="utf-8-sig").splitlines()) if row]
    return rows[1:] if rows and any(word.strip() == "qw" for word in rows[0]) else rows


def find_scanner_app(root: Path) -> Path | None:
    """Return the folder of frames of a 3D Scanner App export, or ``None``."""
    first = next(iter(sorted(root.glob("frame_*.json"))), None)
    return root if first is not None and "cameraPoseARFrame" in read_json(first) else None


def read_scanner_app(root: Path) -> Source:
    """Read all frames of a 3D Scanner App export.

    Raises:
        InvalidDataError: If a file is damaged.
    """
    shots = []
    for path in sorted(root.glob("frame_*.json")):
        content = read_json(path)
        pose = numbers(content.get("cameraPoseARFrame"), 16, path, "cameraPoseARFrame").reshape(4, 4)[:3]
        fx, _, cx, _, fy, cy, *_ = numbers(content.get("intrinsics"), 9, path, "intrinsics")
        depth = path.with_name(path.stem.replace("frame_", "depth_") + ".png")
        shots.append(Shot(path.with_suffix(".jpg"), pose, _lens(fx, fy, cx, cy, path), depth=depth))
    return make_source("3d-scanner-app", root, root, shots)


def _rows(value: object, path: Path) -> list[object]:
    if not isinstance(value, list):
        raise InvalidDataError(f"{path}: poses or intrinsics are no list; export it again")
    return value


def _lens(fx: float, fy: float, cx: float, cy: float, path: Path) -> Lens:
    def lens(width: int, height: int) -> Intrinsics:
        return make_intrinsics("PINHOLE", (width, height), (fx, fy), (cx, cy), (), path)

    return lens
