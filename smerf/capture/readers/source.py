"""What every reader returns: a capture as its files state it, before sizes, splits and scale are settled."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Intrinsics, intrinsics_fault
from smerf.errors import InvalidDataError

__all__ = ["Source", "SourceFrame", "check_pose", "make_intrinsics"]

_ORTHONORMAL_TOLERANCE = 1e-2  # text files with few digits stay well below; a shear or a scale does not
_MAX_FOV = 150.0  # degrees; lenses without fisheye projection stay below 130
_MAX_COORDINATE = 1e12  # metres from the centre of the Earth stay far below; sums of squares stay finite


@dataclass(frozen=True)
class SourceFrame:
    """One photo as its file states it. ``world_from_cam`` is 3x4, OpenGL camera axes, source space.

    ``split`` is ``None`` where the data names none; ``depth_unit`` turns a stored depth value into source
    units. ``is_size_stated`` is false where the size is that of the photo, for want of another. ``sees`` (S,) are
    the sparse points that are known to be in the photo.
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
    is_size_stated: bool = True
    sees: np.ndarray | None = None


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
    """True where origin and axes already mean something (rendered sets): only the scale is changed, and near and far
    that are not stated follow from the distance of the cameras."""


def check_pose(matrix: Any, path: Path, name: str) -> np.ndarray:
    """Return a camera-to-world 3x4 with an exactly orthonormal rotation, or raise ``InvalidDataError``."""
    where = f"{path}: the pose of {name}"
    fix = "remove the frame or export the poses again"
    try:
        pose = np.asarray(matrix, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidDataError(f"{where} is not a matrix of numbers; {fix}") from error
    if pose.shape not in ((4, 4), (3, 4)):
        raise InvalidDataError(f"{where} has shape {pose.shape}, expected 4x4 or 3x4; {fix}")
    pose = pose[:3]
    if not np.all(np.abs(pose) < _MAX_COORDINATE):
        raise InvalidDataError(f"{where} holds NaN, infinite or absurdly large values; {fix}")
    rotation = pose[:, :3]
    if (
        np.abs(rotation.T @ rotation - np.eye(3)).max() > _ORTHONORMAL_TOLERANCE
        or np.linalg.det(rotation) < 0
    ):
        raise InvalidDataError(
            f"{where} is not a rotation and a translation (singular, scaled, sheared or mirrored); {fix}"
        )
    left, _, right = np.linalg.svd(rotation)
    return np.concatenate([left @ right, pose[:, 3:]], axis=1)


def make_intrinsics(
    model: str,
    size: tuple[float, float],
    focal: tuple[float, float],
    centre: tuple[float, float],
    distortion: tuple[float, ...],
    path: Path,
) -> Intrinsics:
    """Build intrinsics with the simplest model that holds the coefficients, or raise ``InvalidDataError``."""
    if not all(abs(value) < _MAX_COORDINATE for value in size):
        raise InvalidDataError(f"{path}: a camera has the size {size}; correct it")
    if model != "OPENCV_FISHEYE" and not any(distortion):
        model, distortion = "PINHOLE", ()
    (fx, fy), (cx, cy) = map(float, focal), map(float, centre)
    intrinsics = Intrinsics(
        model, int(size[0]), int(size[1]), fx, fy, cx, cy, tuple(float(value) for value in distortion)
    )
    fault = intrinsics_fault(intrinsics)
    if fault:
        raise InvalidDataError(f"{path}: a camera is impossible: {fault}; correct it or remove its frames")
    if not (0 < intrinsics.cx < intrinsics.width and 0 < intrinsics.cy < intrinsics.height):
        raise InvalidDataError(
            f"{path}: the principal point ({intrinsics.cx:g}, {intrinsics.cy:g}) lies outside the "
            f"{intrinsics.width}x{intrinsics.height} image. Are cx and cy swapped, or focal length and centre those of "
            "photos of another size? State w and h of the photos that they were calibrated for"
        )
    fov = np.degrees(2 * np.arctan(max(size[0] / 2 / intrinsics.fx, size[1] / 2 / intrinsics.fy)))
    if model != "OPENCV_FISHEYE" and fov > _MAX_FOV:
        raise InvalidDataError(
            f"{path}: a focal length of {intrinsics.fx:g} pixels in {intrinsics.width}x{intrinsics.height} is a field "
            f"of view of {fov:.0f} degrees. Is it in millimetres, or a fraction of the width? State it in pixels"
        )
    return intrinsics
