"""Headings of a camera relative to an up axis, and small vector helpers, in training axes (z up, OpenGL cameras)."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["Heading", "common_target", "look_at", "normalise", "view_text"]


def normalise(vector: np.ndarray) -> np.ndarray:
    """Return a vector of length one; zero stays zero."""
    vector = np.asarray(vector, np.float64)
    return vector / (np.linalg.norm(vector) or 1.0)


def look_at(
    origin: np.ndarray, target: np.ndarray, up: tuple[float, float, float] = (0.0, 0.0, 1.0)
) -> np.ndarray:
    """Return the camera-to-world pose (3, 4) at ``origin`` that looks at ``target`` and stands upright."""
    back = normalise(np.asarray(origin, np.float64) - np.asarray(target, np.float64))
    right = np.cross(up, back)
    if np.linalg.norm(right) < 1e-6:
        right = np.cross([1.0, 0.0, 0.0] if abs(back[0]) < 0.9 else [0.0, 1.0, 0.0], back)
    right = normalise(right)
    return np.stack([right, np.cross(back, right), back, np.asarray(origin, np.float64)], -1)


def view_text(pose: np.ndarray, distance: float, fov_degrees: float) -> str:
    """Return a view as the web page spells it behind ``#`` in its address."""
    origin = pose[:, 3]
    look = origin - distance * pose[:, 2]
    pos, look, up = (",".join(f"{value:.5g}" for value in vector) for vector in (origin, look, pose[:, 1]))
    return f"#pos={pos}&look={look}&up={up}&fov={fov_degrees:.4g}"


def common_target(poses: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Return what cameras look at together: the point nearest to all their axes, and their median distance from it.

    ``poses`` is (N, 3, 4). ``None`` for fewer than two cameras, or where all look the same way.
    """
    if len(poses) < 2:
        return None
    axes, origins = poses[:, :, 2], poses[:, :, 3]
    parts = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    whole = parts.sum(0)
    if abs(np.linalg.det(whole)) < 1e-6 * len(poses) ** 3:
        return None
    point = np.linalg.solve(whole, (parts @ origins[:, :, None]).sum(0)[:, 0])
    return point, float(np.median(np.linalg.norm(origins - point, axis=1)))


class Heading:
    """Yaw about the up axis, pitch above the horizon and roll about the view, in radians."""

    def __init__(self, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> None:
        self.up = normalise(np.array(up))
        seed = np.array([1.0, 0.0, 0.0] if abs(self.up[0]) < 0.9 else [0.0, 1.0, 0.0])
        self.east = normalise(seed - self.up * (seed @ self.up))
        self.north = np.cross(self.up, self.east)

    def of_forward(self, forward: np.ndarray) -> tuple[float, float]:
        """Return yaw and pitch of a viewing direction of length one."""
        yaw = math.atan2(forward @ self.north, forward @ self.east)
        return yaw, math.asin(min(1.0, max(-1.0, float(forward @ self.up))))

    def of_pose(self, pose: np.ndarray) -> tuple[float, float, float]:
        """Return yaw, pitch and roll of a camera-to-world pose."""
        yaw, pitch = self.of_forward(-pose[:, 2])
        right, up, _ = self.basis(yaw, pitch, 0.0)
        return yaw, pitch, math.atan2(pose[:, 0] @ up, pose[:, 0] @ right)

    def basis(self, yaw: float, pitch: float, roll: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the camera's right, up and forward."""
        level = self.east * math.cos(yaw) + self.north * math.sin(yaw)
        forward = level * math.cos(pitch) + self.up * math.sin(pitch)
        right = normalise(np.cross(level, self.up))
        up = np.cross(right, forward)
        c, s = math.cos(roll), math.sin(roll)
        return right * c + up * s, up * c - right * s, forward

    def pose(self, yaw: float, pitch: float, roll: float, origin: np.ndarray) -> np.ndarray:
        """Return the camera-to-world pose (3, 4)."""
        right, up, forward = self.basis(yaw, pitch, roll)
        return np.stack([right, up, -forward, origin], -1)
