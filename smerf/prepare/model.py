"""A reconstruction as arrays, free of pycolmap: cameras, points, and which camera observes which point."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from smerf.capture.types import Intrinsics

__all__ = ["Model", "load_model"]


@dataclass(frozen=True)
class Model:
    """N photos, P points, T observations; any world space and unit.

    ``poses`` (N, 3, 4) is camera-to-world with OpenCV axes (x right, y down, z forward); ``camera_of`` (N) picks from
    ``intrinsics``; ``errors`` (P) is the mean reprojection error of each point in pixels; ``seen_image`` and
    ``seen_point`` (T) are the two ends of each observation.
    """

    names: tuple[str, ...]
    poses: np.ndarray
    camera_of: np.ndarray
    intrinsics: dict[int, Intrinsics]
    points: np.ndarray
    errors: np.ndarray
    seen_image: np.ndarray
    seen_point: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """Camera centres (N, 3)."""
        return self.poses[:, :, 3]

    @property
    def observations(self) -> sparse.csr_matrix:
        """Which photo observes which point, (N, P), 0 or 1."""
        ones = np.ones(len(self.seen_image), np.int64)
        shape = (len(self.names), len(self.points))
        matrix = sparse.csr_matrix((ones, (self.seen_image, self.seen_point)), shape)
        matrix.data[:] = 1
        return matrix

    @property
    def mean_error(self) -> float:
        """Mean reprojection error over all observations, in pixels."""
        return float(self.errors[self.seen_point].mean()) if len(self.seen_point) else 0.0

    def intrinsics_of(self, index: int) -> Intrinsics:
        """Return the intrinsics of a photo."""
        return self.intrinsics[int(self.camera_of[index])]

    def keep(self, chosen: Sequence[int] | np.ndarray) -> Model:
        """Return the model of some of the photos, in their order, and of the points that at least two still observe."""
        chosen = np.asarray(chosen, np.int64)
        new_image = np.full(len(self.names), -1)
        new_image[chosen] = np.arange(len(chosen))
        image = new_image[self.seen_image]
        views = np.bincount(self.seen_point[image >= 0], minlength=len(self.points))
        kept_points = np.flatnonzero(views >= 2)
        new_point = np.full(len(self.points), -1)
        new_point[kept_points] = np.arange(len(kept_points))
        is_kept = (image >= 0) & (new_point[self.seen_point] >= 0)
        return replace(
            self,
            names=tuple(self.names[index] for index in chosen),
            poses=self.poses[chosen],
            camera_of=self.camera_of[chosen],
            points=self.points[kept_points],
            errors=self.errors[kept_points],
            seen_image=image[is_kept],
            seen_point=new_point[self.seen_point[is_kept]],
        )


def load_model(path: Path) -> Model:
    """Read the ``model.npz`` that the worker wrote."""
    with np.load(path, allow_pickle=False) as stored:
        cameras = json.loads(str(stored["cameras"]))
        return Model(
            names=tuple(stored["names"].tolist()),
            poses=stored["poses"],
            camera_of=stored["camera_of"],
            intrinsics={int(key): _intrinsics(camera) for key, camera in cameras.items()},
            points=stored["points"],
            errors=stored["errors"],
            seen_image=stored["seen_image"],
            seen_point=stored["seen_point"],
        )


def _intrinsics(camera: dict[str, Any]) -> Intrinsics:
    """Turn COLMAP's parameters of SIMPLE_RADIAL (f cx cy k) or OPENCV (fx fy cx cy k1 k2 p1 p2) into ours."""
    params = camera["params"]
    if camera["model"] == "SIMPLE_RADIAL":
        focal, cx, cy, k1 = params
        params = [focal, focal, cx, cy, k1, 0.0, 0.0, 0.0]
    fx, fy, cx, cy = params[:4]
    return Intrinsics("OPENCV", camera["width"], camera["height"], fx, fy, cx, cy, tuple(params[4:]))
