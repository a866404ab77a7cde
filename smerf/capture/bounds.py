"""Near and far of a capture in training units.

Stated bounds win (scaled). Otherwise far is infinite and near is, in this order: half the first percentile of
the depths at which cameras see sparse points, or of the stated depth bounds; 0.2 of the median distance of
the cameras from the focus; 0.05. It is kept within [0.005, 0.5]: a larger near plane removes floaters at the
lens, a plane beyond the content would cut it.

Rendered sets in the NeRF-synthetic layout state no bounds either: the published ones stand about 4 units from their
object, which lies between 2 and 6. Sets of another size are bounded in proportion.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.normalise import focus_point, has_focus
from smerf.capture.rays import project
from smerf.capture.types import Camera

__all__ = ["choose_near", "object_bounds", "visible_depths"]

_NEAR_RANGE = (0.005, 0.5)
_PART_OF_DEPTH, _PERCENTILE = 0.5, 1.0
_PART_OF_FOCUS_DISTANCE = 0.2
_DEFAULT_NEAR = 0.05
_MAX_POINTS, _MAX_CAMERAS = 20_000, 200  # enough for a percentile; keeps large captures quick
_MIN_DEPTHS = 100
_PUBLISHED_BOUNDS, _PUBLISHED_DISTANCE = (2.0, 6.0), (3.0, 5.0)
_OBJECT_RADIUS, _MIN_OBJECT_NEAR = 0.5, 0.05  # in median distances of the cameras
_MAX_FOCUS_OFFSET, _FACES_ORIGIN = 0.25, 0.9


def object_bounds(poses: np.ndarray) -> tuple[float, float, bool] | None:
    """Return near and far of cameras (N, 3, 4) that look at one object, and whether it stands at the origin.

    ``None`` where the cameras do not look at one place: then nothing is known of the scene's extent.
    """
    centres = poses[:, :, 3]
    from_origin = np.linalg.norm(centres, axis=1)
    inward = np.einsum("nj,nj->n", centres, poses[:, :, 2]) / np.maximum(from_origin, 1e-12)
    low, high = _PUBLISHED_DISTANCE
    if low <= from_origin.min() and from_origin.max() <= high and np.median(inward) > _FACES_ORIGIN:
        return *_PUBLISHED_BOUNDS, True
    if len(poses) < 3 or not has_focus(poses):
        return None
    focus = focus_point(poses)[0]
    distances = np.linalg.norm(centres - focus, axis=1)
    usual = float(np.median(distances))
    near = max(float(distances.min()) - _OBJECT_RADIUS * usual, _MIN_OBJECT_NEAR * usual)
    far = float(distances.max()) + _OBJECT_RADIUS * usual
    return near, far, bool(np.linalg.norm(focus) <= _MAX_FOCUS_OFFSET * usual)


def choose_near(
    cameras: list[Camera], method: str, points: np.ndarray, depth_bounds: np.ndarray | None
) -> float:
    """Return a near distance in training units.

    Args:
        cameras: Posed in training space.
        method: The normalisation that was used; with ``focus`` the origin is the focus.
        points: Sparse points (M, 3) in training space, possibly none.
        depth_bounds: Nearest and farthest depth of each photo (N, 2) in training units, where the data states
            them.
    """
    near = _DEFAULT_NEAR
    depths = visible_depths(cameras, points)
    if depth_bounds is not None and np.any(depth_bounds[:, 0] > 0):
        stated = depth_bounds[:, 0]
        near = _PART_OF_DEPTH * np.percentile(stated[stated > 0], _PERCENTILE)
    elif len(depths) >= _MIN_DEPTHS:
        near = _PART_OF_DEPTH * np.percentile(depths, _PERCENTILE)
    elif method == "focus":
        distances = [np.linalg.norm(camera.world_from_cam[:, 3]) for camera in cameras]
        near = _PART_OF_FOCUS_DISTANCE * np.median(distances)
    return float(np.clip(near, *_NEAR_RANGE))


def visible_depths(cameras: list[Camera], points: np.ndarray) -> np.ndarray:
    """Return the depths of the points that fall inside the images, over all cameras, in one flat array."""
    if not len(points):
        return np.zeros(0)
    points = points[:: max(1, len(points) // _MAX_POINTS)]
    depths = []
    for camera in cameras[:: max(1, len(cameras) // _MAX_CAMERAS)]:
        pixels, depth = project(camera, points)
        size = (camera.intrinsics.width, camera.intrinsics.height)
        with np.errstate(invalid="ignore"):
            inside = np.all((pixels >= 0) & (pixels <= size), axis=1) & (depth > 0)
        # Far outside the image a polynomial distortion model folds back into it; a generous cone keeps such points
        # out.
        local = (points - camera.world_from_cam[:, 3]) @ camera.world_from_cam[:, :3]
        reach = np.hypot(size[0] / camera.intrinsics.fx, size[1] / camera.intrinsics.fy)
        if camera.intrinsics.model != "OPENCV_FISHEYE":
            inside &= np.hypot(local[:, 0], local[:, 1]) <= reach * np.abs(depth)
        depths.append(depth[inside])
    return np.concatenate(depths)
