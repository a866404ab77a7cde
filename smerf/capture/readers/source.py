"""What a reader hands on: a capture as the files state it, before sizes, splits and scale are settled."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Intrinsics
from smerf.errors import InvalidDataError

__all__ = [
    "IMAGE_SUFFIXES",
    "Source",
    "SourceFrame",
    "check_pose",
    "default_split",
    "find_mask",
    "image_folder",
    "lens",
    "list_images",
    "read_json",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_ORTHONORMAL_TOLERANCE = 1e-2  # text files with few digits stay well below; a shear or a scale does not
_IMAGE_FOLDER = re.compile(r"^(images|image|rgb)(?:_(\d+))?$")
TEST_EVERY = 8


@dataclass(frozen=True)
class SourceFrame:
    """One photo as its file states it. ``world_from_cam`` is 3x4, OpenGL camera axes, source space.

    ``split`` is ``None`` where the data names none; ``depth_unit`` turns a stored depth value into source
    units.
    """

    name: str
    image_path: Path
    intrinsics: Intrinsics
    world_from_cam: np.ndarray
    split: str | None = None
    mask_path: Path | None = None
    depth_path: Path | None = None
    depth_unit: float = 1.0e-3
    exposure: float | None = None


@dataclass(frozen=True)
class Source:
    """A whole capture in source space; ``near`` and ``far`` in source units where the data states them."""

    root: Path
    kind: str
    stated_in: Path
    frames: tuple[SourceFrame, ...]
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    near: float | None = None
    far: float | None = None
    bounded: bool = False
    background: str | None = None
    depth_bounds: np.ndarray | None = None
    is_posed_by_design: bool = False
    """True where origin and axes already mean something (rendered sets): only the scale is changed."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object, or raise ``InvalidDataError`` with the line of the fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise InvalidDataError(
            f"{path}: not valid JSON (line {error.lineno}: {error.msg}); restore a good copy"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error}); restore the file") from error
    if not isinstance(content, dict):
        raise InvalidDataError(f"{path}: expected a JSON object, found a {type(content).__name__}")
    return content


def check_pose(matrix: Any, path: Path, name: str) -> np.ndarray:
    """Return a camera-to-world 3x4 with an exactly orthonormal rotation, or raise ``InvalidDataError``."""
    where = f"{path}: the pose of {name}"
    mend = "remove the frame or export the poses again"
    try:
        pose = np.asarray(matrix, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidDataError(f"{where} is not a matrix of numbers; {mend}") from error
    if pose.shape not in ((4, 4), (3, 4)):
        raise InvalidDataError(f"{where} has shape {pose.shape}, expected 4x4 or 3x4; {mend}")
    pose = pose[:3]
    if not np.all(np.isfinite(pose)):
        raise InvalidDataError(f"{where} holds NaN or infinite values; {mend}")
    rotation = pose[:, :3]
    if (
        np.abs(rotation.T @ rotation - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE
        or np.linalg.det(rotation) < 0
    ):
        raise InvalidDataError(
            f"{where} is not a rotation and a translation (singular, scaled, sheared or mirrored); {mend}"
        )
    left, _, right = np.linalg.svd(rotation)
    return np.concatenate([left @ right, pose[:, 3:]], axis=1)


def lens(
    model: str,
    size: tuple[int, int],
    focal: tuple[float, float],
    centre: tuple[float, float],
    distortion: tuple[float, ...],
    path: Path,
) -> Intrinsics:
    """Build intrinsics with the plainest model that holds the coefficients, or raise ``InvalidDataError``."""
    values = (*focal, *centre, *distortion)
    if not np.all(np.isfinite(values)) or min(focal) <= 0 or min(size) <= 0:
        raise InvalidDataError(
            f"{path}: a camera has size {size[0]}x{size[1]}, focal length {focal}, centre {centre} and "
            f"distortion {distortion}; sizes and focal lengths must be positive, all values finite"
        )
    if model != "OPENCV_FISHEYE" and not any(distortion):
        model, distortion = "PINHOLE", ()
    numbers = [float(value) for value in (*focal, *centre)]
    return Intrinsics(
        model, int(size[0]), int(size[1]), *numbers, tuple(float(value) for value in distortion)
    )


def image_folder(name: str) -> tuple[str, int | None] | None:
    """Split ``images_4`` into ``("images", 4)``; ``None`` where the name is not one of an image folder."""
    match = _IMAGE_FOLDER.match(name)
    return (match[1], int(match[2]) if match[2] else None) if match else None


def list_images(folder: Path) -> list[Path]:
    """Return the images below a folder, sorted by relative path; hidden files are no photos."""
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def find_mask(root: Path, name: str, image_path: Path) -> Path | None:
    """Find the mask of an image in ``masks/``, or instant-ngp's ``dynamic_mask_STEM.png`` beside it."""
    stem = Path(name).with_suffix("")
    candidates = [root / "masks" / f"{name}.png", root / "masks" / f"{stem}.png", root / "masks" / name]
    candidates.append(image_path.parent / f"dynamic_mask_{image_path.stem}.png")
    return next((path for path in candidates if path.is_file()), None)


def default_split(frames: list[SourceFrame]) -> list[SourceFrame]:
    """Sort by name and hold out every 8th frame, starting with the first, where the data names no split."""
    if any(frame.split is not None for frame in frames):
        return frames
    ordered = sorted(frames, key=lambda frame: frame.name)
    return [
        replace(frame, split="test" if index % TEST_EVERY == 0 else "train")
        for index, frame in enumerate(ordered)
    ]
