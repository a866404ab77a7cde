"""Camera models: camera-space directions to image points and back.

Camera axes here are OpenCV's (x right, y down, z forward) and image points are in pixels with (0, 0) at the
outer corner of the first pixel. Everything is float64; N counts points. Formulas: OpenCV's calibration model
as used by COLMAP, with the inverse found by a damped Newton iteration.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.types import Intrinsics

__all__ = ["camera_from_image", "image_from_camera"]

_MAX_ITERATIONS = 40
_CONVERGED = 1e-13  # residual on the normalised image plane; about 1e-10 pixels


def image_from_camera(intrinsics: Intrinsics, points: np.ndarray) -> np.ndarray:
    """Project camera-space points to image points.

    Args:
        intrinsics: The camera's.
        points: Shape (N, 3), OpenCV camera axes, any length unit.

    Returns:
        Image points in pixels, shape (N, 2), float64. NaN where a point is not in front of the camera (for a
        fisheye camera: where it lies exactly behind).
    """
    points = np.asarray(points, np.float64).reshape(-1, 3)
    if intrinsics.model == "OPENCV_FISHEYE":
        distorted = _distort_fisheye(intrinsics, points)
    else:
        z = np.where(points[:, 2] > 0, points[:, 2], np.nan)
        plane = points[:, :2] / z[:, None]
        distorted = (
            plane if not _is_distorted(intrinsics) else _distort(_radial_tangential(intrinsics), plane)[0]
        )
    return distorted * (intrinsics.fx, intrinsics.fy) + (intrinsics.cx, intrinsics.cy)


def camera_from_image(intrinsics: Intrinsics, image_points: np.ndarray) -> np.ndarray:
    """Return the camera-space direction seen at each image point.

    Args:
        intrinsics: The camera's.
        image_points: Shape (N, 2), pixels.

    Returns:
        Directions, shape (N, 3), float64, OpenCV camera axes. Their z component is 1, except for
        ``OPENCV_FISHEYE``, where they have unit length because the view may reach past 90 degrees.
    """
    image_points = np.asarray(image_points, np.float64).reshape(-1, 2)
    plane = (image_points - (intrinsics.cx, intrinsics.cy)) / (intrinsics.fx, intrinsics.fy)
    if intrinsics.model == "OPENCV_FISHEYE":
        return _undistort_fisheye(intrinsics, plane)
    if _is_distorted(intrinsics):
        plane = _undistort(_radial_tangential(intrinsics), plane)
    return np.concatenate([plane, np.ones_like(plane[:, :1])], axis=1)


def _is_distorted(intrinsics: Intrinsics) -> bool:
    return any(value != 0 for value in intrinsics.distortion)


def _radial_tangential(intrinsics: Intrinsics) -> tuple[float, ...]:
    """Return k1 k2 p1 p2 k3 k4 k5 k6, zeros where the model has fewer."""
    given = tuple(intrinsics.distortion)
    return given + (0.0,) * (8 - len(given))


def _distort(coefficients: tuple[float, ...], plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply the rational radial and tangential model; also return the Jacobian (N, 3): xx, xy = yx, yy."""
    k1, k2, p1, p2, k3, k4, k5, k6 = coefficients
    x, y = plane[:, 0], plane[:, 1]
    r2 = x * x + y * y
    top = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    top_slope = k1 + r2 * (2 * k2 + 3 * r2 * k3)
    bottom = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    bottom_slope = k4 + r2 * (2 * k5 + 3 * r2 * k6)
    radial = top / bottom
    slope = (top_slope - radial * bottom_slope) / bottom  # d radial / d r2
    distorted = np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )
    jacobian = np.stack(
        [
            radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x,
            2 * x * y * slope + 2 * p1 * x + 2 * p2 * y,
            radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x,
        ],
        axis=1,
    )
    return distorted, jacobian


def _undistort(coefficients: tuple[float, ...], target: np.ndarray) -> np.ndarray:
    """Invert ``_distort`` by Newton's method, halving a point's step where it would raise the residual."""
    x = target.copy()
    value, jacobian = _distort(coefficients, x)
    residual = value - target
    error = np.abs(residual).max(axis=1)
    damping = np.ones(len(x))
    for _ in range(_MAX_ITERATIONS):
        if not np.any(error > _CONVERGED):
            break
        a, b, c = jacobian.T
        determinant = a * c - b * b
        safe = np.abs(determinant) > 1e-9
        inverse = np.where(safe, 1.0, 0.0) / np.where(safe, determinant, 1.0)
        step = np.stack(
            [(c * residual[:, 0] - b * residual[:, 1]), (a * residual[:, 1] - b * residual[:, 0])], axis=1
        )
        trial = x - step * (inverse * damping)[:, None]
        value, trial_jacobian = _distort(coefficients, trial)
        trial_residual = value - target
        trial_error = np.abs(trial_residual).max(axis=1)
        better = trial_error < error
        keep = better[:, None]
        x = np.where(keep, trial, x)
        residual = np.where(keep, trial_residual, residual)
        jacobian = np.where(keep, trial_jacobian, jacobian)
        error = np.where(better, trial_error, error)
        damping = np.where(better, np.minimum(1.0, 2 * damping), damping / 2)
        if not np.any(better) and damping.max() < 1e-3:
            break
    return x


def _fisheye_angle(coefficients: tuple[float, ...], theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distorted angle and its derivative."""
    k1, k2, k3, k4 = coefficients
    t2 = theta * theta
    value = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    return value, 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))


def _fisheye_coefficients(intrinsics: Intrinsics) -> tuple[float, ...]:
    given = tuple(intrinsics.distortion)
    return given + (0.0,) * (4 - len(given))


def _distort_fisheye(intrinsics: Intrinsics, points: np.ndarray) -> np.ndarray:
    radius = np.hypot(points[:, 0], points[:, 1])
    theta = np.arctan2(radius, points[:, 2])
    theta_distorted, _ = _fisheye_angle(_fisheye_coefficients(intrinsics), theta)
    on_axis = radius < 1e-12 * np.maximum(np.abs(points[:, 2]), 1e-300)
    ratio = np.where(on_axis, 0.0, theta_distorted / np.where(on_axis, 1.0, radius))
    ratio = np.where(on_axis & (points[:, 2] <= 0), np.nan, ratio)
    return points[:, :2] * ratio[:, None]


def _undistort_fisheye(intrinsics: Intrinsics, plane: np.ndarray) -> np.ndarray:
    coefficients = _fisheye_coefficients(intrinsics)
    target = np.hypot(plane[:, 0], plane[:, 1])
    theta = np.clip(target, 0.0, np.pi)
    error = np.abs(_fisheye_angle(coefficients, theta)[0] - target)
    damping = np.ones_like(theta)
    for _ in range(_MAX_ITERATIONS):
        if not np.any(error > _CONVERGED):
            break
        value, slope = _fisheye_angle(coefficients, theta)
        step = np.where(
            np.abs(slope) > 1e-9, (value - target) / np.where(np.abs(slope) > 1e-9, slope, 1.0), 0.0
        )
        trial = np.clip(theta - damping * step, 0.0, np.pi)
        trial_error = np.abs(_fisheye_angle(coefficients, trial)[0] - target)
        better = trial_error < error
        theta = np.where(better, trial, theta)
        error = np.where(better, trial_error, error)
        damping = np.where(better, np.minimum(1.0, 2 * damping), damping / 2)
    ratio = np.where(target > 1e-12, np.sin(theta) / np.where(target > 1e-12, target, 1.0), 1.0)
    return np.concatenate([plane * ratio[:, None], np.cos(theta)[:, None]], axis=1)
