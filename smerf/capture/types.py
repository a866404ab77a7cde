"""What a posed capture is: cameras, frames, and the similarity that ties them to the source.

Letters: R rays, H W image. Camera axes are OpenGL (x right, y up, z backward) and pixel (0, 0) covers the
square from (0, 0) to (1, 1), so the centre of the first pixel is (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

__all__ = ["Camera", "Capture", "Frame", "Intrinsics", "Similarity", "intrinsics_fault"]

_COEFFICIENTS = {"PINHOLE": (0,), "OPENCV": (0, 4), "FULL_OPENCV": (0, 8), "OPENCV_FISHEYE": (0, 4)}
_MAX_SIZE = 65_535
_MAX_NUMBER = 1e7  # the longest focal length that the field of view allows is below it
_FIELD_OF_VIEW = (1.0, 179.0)
"""Degrees, along the wider axis; outside, the focal length belongs to another image or unit."""


@dataclass(frozen=True)
class Intrinsics:
    """Intrinsics of a camera: size and focal length in pixels, and its distortion.

    ``model`` is ``PINHOLE``, ``OPENCV`` (k1 k2 p1 p2), ``FULL_OPENCV`` (k1 k2 p1 p2 k3 k4 k5 k6) or
    ``OPENCV_FISHEYE`` (k1 k2 k3 k4); ``distortion`` holds the coefficients in that order.
    """

    model: str
    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    distortion: tuple[float, ...] = ()


def intrinsics_fault(intrinsics: Intrinsics) -> str | None:
    """Return what is impossible about intrinsics, or ``None``."""
    model, distortion = intrinsics.model, intrinsics.distortion
    width, height = intrinsics.width, intrinsics.height
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    if len(distortion) not in _COEFFICIENTS.get(model, ()):
        return f"model {model} with {len(distortion)} distortion coefficients is not known"
    if not all(abs(value) <= _MAX_NUMBER for value in (fx, fy, cx, cy, *distortion)) or min(fx, fy) <= 0:
        return (
            f"focal length {fx:g}, {fy:g}, centre {cx:g}, {cy:g}, distortion {distortion}: "
            f"expected positive focal lengths and values up to {_MAX_NUMBER:g}"
        )
    if not (0 < width <= _MAX_SIZE and 0 < height <= _MAX_SIZE):
        return f"size {width}x{height}: expected 1 to {_MAX_SIZE} pixels"
    is_fisheye = model == "OPENCV_FISHEYE"
    reach = max(width / fx, height / fy)
    field = float(np.degrees(reach if is_fisheye else 2.0 * np.arctan(0.5 * reach)))
    low, high = _FIELD_OF_VIEW
    if field < low or (field > high and not is_fisheye):
        return (
            f"focal length {fx:g}, {fy:g} for {width}x{height} pixels is a field of view of {field:.3g} degrees, "
            f"expected {low:g} to {high:g}"
        )
    return None


@dataclass(frozen=True)
class Camera:
    """Intrinsics at a pose. ``world_from_cam`` is 3x4 float64, OpenGL axes, in training space."""

    intrinsics: Intrinsics
    world_from_cam: np.ndarray


@dataclass(frozen=True)
class Frame:
    """One photo. ``split`` is ``train`` or ``test``.

    ``exposure`` is shutter seconds x ISO / 1000 where known, ``downscale`` the whole number of file pixels
    that are averaged into one pixel of ``camera`` along each axis, ``orientation`` the EXIF value by which the file is
    rotated first (1: not at all), ``depth_scale`` turns a stored depth value into training units, and ``sees`` (S,) are
    the capture's sparse points that structure from motion found in the photo, where that is known.
    """

    name: str
    image_path: Path
    camera: Camera
    split: str
    mask_path: Path | None = None
    depth_path: Path | None = None
    exposure: float | None = None
    downscale: int = 1
    depth_scale: float = 1.0e-3
    orientation: int = 1
    sees: np.ndarray | None = None


@dataclass(frozen=True)
class Similarity:
    """``training = scale * rotation @ source + translation``; rotation 3x3, translation 3, float64."""

    scale: float = 1.0
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    translation: np.ndarray = field(default_factory=lambda: np.zeros(3))


@dataclass(frozen=True)
class Capture:
    """Posed photos in training space: every camera centre lies in [-1, 1]^3.

    ``near`` and ``far`` bound the rays in training units (``far`` may be infinite). ``background`` is
    ``white`` where images carry alpha (composited over white), else ``None``. ``points`` are sparse points
    (N, 3) in training space, possibly empty. ``bounded`` says that all content lies within ``near`` ..
    ``far``.
    """

    root: Path
    kind: str
    frames: tuple[Frame, ...]
    training_from_source: Similarity
    near: float
    far: float
    bounded: bool
    background: str | None
    points: np.ndarray

    def split(self, name: str) -> tuple[Frame, ...]:
        """Return the frames of one split, in order."""
        return tuple(frame for frame in self.frames if frame.split == name)
