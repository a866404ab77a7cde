"""How many submodels a capture needs, from where its cameras are: K by itself, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smerf.capture.bounds import visible_depths
from smerf.capture.types import Capture, Frame
from smerf.student.partition import Partition

__all__ = ["Division", "divide", "looks_about"]

_INWARD = 0.6
"""Mean cosine between where cameras look and where the middle of the scene is, from which they circle it."""
_MAX_EDGE = 5
_PHOTOS = 16
"""Photos that a submodel needs, on average: of fewer, it learns its cell from its neighbours' photos."""
_MIN_POINTS = 100


@dataclass(frozen=True)
class Division:
    """``edge`` cells per axis (K), ``submodels`` of them with cameras, and the reason in a few words."""

    edge: int
    submodels: int
    reason: str


def divide(capture: Capture, max_submodels: int | None = None) -> Division:
    """Choose K for a capture.

    Cameras that circle one place, and objects before white, get one submodel. A walk gets cells that are no narrower
    than what its cameras see is away, as far as sparse points tell, with enough photos in each.

    Args:
        capture: The photos' cameras in training space.
        max_submodels: Most that there is time for; not limited if not given.
    """
    frames = capture.split("train")
    if capture.background is not None:
        return Division(1, 1, "an object")
    if len(frames) < 2 * _PHOTOS:
        return Division(1, 1, f"{len(frames)} photos")
    poses = np.stack([frame.camera.world_from_cam for frame in frames])
    centres = poses[:, :, 3]
    if _circles(poses):
        return Division(1, 1, "the cameras circle one place")
    depth = _typical_depth(capture)
    extent = float(np.ptp(centres, axis=0).max())
    limit = _MAX_EDGE if depth is None else int(np.clip(extent / max(depth, 1e-6), 1, _MAX_EDGE))
    if limit == 1:
        return Division(1, 1, "the cameras stay in one room")
    return _finest(centres, limit, max_submodels)


def looks_about(frames: Sequence[Frame]) -> bool:
    """Tell whether enough photos look about, and not all at one place, for views between them to be worth teaching."""
    return len(frames) >= 2 * _PHOTOS and not _circles(
        np.stack([frame.camera.world_from_cam for frame in frames])
    )


def _circles(poses: np.ndarray) -> bool:
    """Tell whether cameras (N, 3, 4) circle one place: most look towards the middle of the scene."""
    centres, views = poses[:, :, 3], -poses[:, :, 2]
    inward = -centres / np.maximum(np.linalg.norm(centres, axis=-1, keepdims=True), 1e-9)
    return float((inward * views).sum(-1).mean()) > _INWARD


def _typical_depth(capture: Capture) -> float | None:
    """Return how far away cameras see things, in training units; None where nothing is known of it."""
    depths = visible_depths([frame.camera for frame in capture.split("train")], capture.points)
    return float(np.median(depths)) if len(depths) >= _MIN_POINTS else None


def _finest(centres: np.ndarray, limit: int, max_submodels: int | None) -> Division:
    """Return the most cells per axis, at most ``limit``, for which there are enough photos and time."""
    short_of = ""
    for edge in range(limit, 1, -1):
        submodels = len(Partition.of_cameras(edge, centres, 1.0))
        if submodels < 2:
            continue
        if max_submodels is not None and submodels > max_submodels:
            short_of = "; more time would allow more"
        elif len(centres) >= _PHOTOS * submodels:
            return Division(edge, submodels, f"the cameras walk through {submodels} cells{short_of}")
    return Division(1, 1, f"the cameras walk{short_of or ', too few photos for more'}")
