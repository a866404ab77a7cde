"""Camera rigs: orbits and walks as camera-to-world matrices, OpenGL axes (x right, y up, z backward)."""

from __future__ import annotations

import numpy as np

from smerf.capture.synth.describe import Rig
from smerf.errors import InvalidDataError

__all__ = ["camera_path", "look_at", "rig_poses"]


def look_at(eye: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the 4x4 camera-to-world matrix of a camera at ``eye`` that faces ``target``, z up."""
    back = np.asarray(eye, float) - target
    back /= np.linalg.norm(back)
    right = np.cross([0, 0, 1.0], back)
    if np.linalg.norm(right) < 1e-6:
        right = np.array([1.0, 0, 0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 1], pose[:3, 2], pose[:3, 3] = right, np.cross(back, right), back, eye
    return pose


def rig_poses(rig: Rig, views: int) -> np.ndarray:
    """Return the poses (views, 4, 4) float64 of a rig, in shooting order."""
    if rig.kind == "orbit":
        return _orbit(rig, views)
    if rig.kind == "walk":
        return _walk(rig, views)
    raise InvalidDataError(f"unknown rig '{rig.kind}'; known: orbit, walk")


def _orbit(rig: Rig, views: int) -> np.ndarray:
    t = np.linspace(0, 1, views, endpoint=False)
    azimuth = 2 * np.pi * rig.turns * t
    elevation = np.radians(rig.elevation[0] + (rig.elevation[-1] - rig.elevation[0]) * t)
    radius = rig.radius[0] + (rig.radius[-1] - rig.radius[0]) * t
    center = np.asarray(rig.center, float)
    poses = []
    for index, (a, e, r) in enumerate(zip(azimuth, elevation, radius)):
        r = r * (1 + rig.sway * np.sin(2.4 * index))
        eye = center + r * np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
        poses.append(look_at(eye, center))
    return np.stack(poses)


def _walk(rig: Rig, views: int) -> np.ndarray:
    points = np.asarray(rig.points, float)
    if points.ndim != 2 or len(points) < 2 or points.shape[1] != 3:
        raise InvalidDataError("a walk needs at least two points [x, y, z]")
    if rig.closed:
        points = np.concatenate([points, points[:1]])
    curve = _rounded(points)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    s = np.linspace(0, length[-1], views, endpoint=not rig.closed)
    eyes = np.stack([np.interp(s, length, curve[:, k]) for k in range(3)], 1)
    # The heading looks at the path a little further on, so that it turns before the corner.
    ahead = np.minimum(s + 0.5, length[-1]) if not rig.closed else np.mod(s + 0.5, length[-1])
    behind = np.maximum(s - 0.3, 0)
    heading = np.stack(
        [np.interp(ahead, length, curve[:, k]) - np.interp(behind, length, curve[:, k]) for k in (0, 1)]
    )
    yaw = np.unwrap(np.arctan2(heading[1], heading[0]))
    poses = []
    for index, eye in enumerate(eyes):
        a = yaw[index] + np.radians(rig.yaw_step) * index
        amplitude = rig.pitch[-1] if len(rig.pitch) > 1 else 0.0
        e = np.radians(rig.pitch[0] + amplitude * np.sin(2.4 * index))
        raised = eye + [0, 0, rig.sway * np.sin(1.7 * index)]
        direction = np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
        poses.append(look_at(raised, raised + direction))
    return np.stack(poses)


def _rounded(points: np.ndarray, passes: int = 3) -> np.ndarray:
    """Cut the corners of a polyline (Chaikin): the curve stays inside them, so it never enters a wall."""
    curve = points
    for _ in range(passes):
        a, b = curve[:-1], curve[1:]
        inner = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], 1).reshape(-1, curve.shape[1])
        curve = np.concatenate([curve[:1], inner, curve[-1:]])
    return curve


def camera_path(rig: Rig, width: int, height: int, fps: int = 24) -> dict:
    """Return a rig as a nerfstudio camera path: 12 keyframes and ``fps * seconds`` poses.

    Poses are in the capture's own space, said by the extra key ``space``.
    """
    aspect = width / height
    frames = [
        {"camera_to_world": [float(x) for x in pose.ravel()], "fov": rig.fov, "aspect": aspect}
        for pose in rig_poses(rig, int(fps * rig.seconds))
    ]
    step = max(1, len(frames) // 12)
    keyframes = [{"matrix": f["camera_to_world"], "fov": rig.fov, "aspect": aspect} for f in frames[::step]]
    return {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": fps,
        "seconds": rig.seconds,
        "is_cycle": rig.kind == "orbit" or rig.closed,
        "smoothness_value": 0.5,
        "default_fov": rig.fov,
        "space": "source",
        "keyframes": keyframes,
        "camera_path": frames,
    }
