"""The axes and the unit of a scene: which way is up, and how long a metre is.

Photographers keep the horizon level, so up is perpendicular to all cameras' right vectors; where their headings do not
go round, the mean of the cameras' up vectors is the better estimate.
"""

from __future__ import annotations

import numpy as np

__all__ = ["choose_up", "enu_metres", "metric_scale", "rotation_to_z"]

_MAX_TILT_RATIO = 0.05
_MIN_TURN = 0.3
_LEVEL_RATIO, _MIN_LEVEL_TURN = 0.002, 0.02
_MIN_GPS, _MIN_GPS_SPREAD, _GPS_ERROR = 5, 20.0, 5.0
_EARTH, _FLATTENING = 6378137.0, 1 / 298.257223563  # WGS 84


def choose_up(poses: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the up direction (3,) of camera-to-world poses (N, 3, 4) with OpenCV axes, and how it was found.

    That is ``horizon`` (perpendicular to the right vectors) or ``mean`` (of the up vectors).
    """
    right, up = poses[:, :, 0], -poses[:, :, 1].mean(axis=0)
    values, vectors = np.linalg.eigh(right.T @ right / len(poses))
    goes_round = values[0] < _MAX_TILT_RATIO * values[1] and values[1] > _MIN_TURN
    is_level = (
        values[0] < _LEVEL_RATIO * values[1] and values[1] > _MIN_LEVEL_TURN
    )  # a tripod, a gimbal, a rendering
    if goes_round or is_level:
        axis = vectors[:, 0]
        return (axis if axis @ up >= 0 else -axis), "horizon"
    length = np.linalg.norm(up)
    return (up / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])), "mean"


def rotation_to_z(up: np.ndarray) -> np.ndarray:
    """Return the smallest rotation (3, 3) that takes a unit vector to +z."""
    axis, cosine = np.cross(up, (0.0, 0.0, 1.0)), float(up[2])
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def enu_metres(positions: np.ndarray) -> np.ndarray:
    """Turn latitude, longitude (degrees) and altitude (metres), (N, 3), into east, north, up metres about the first."""
    latitude, longitude, altitude = np.radians(positions[:, 0]), np.radians(positions[:, 1]), positions[:, 2]
    squash = _FLATTENING * (2 - _FLATTENING)
    radius = _EARTH / np.sqrt(1 - squash * np.sin(latitude) ** 2)
    earth = np.stack(
        [
            (radius + altitude) * np.cos(latitude) * np.cos(longitude),
            (radius + altitude) * np.cos(latitude) * np.sin(longitude),
            (radius * (1 - squash) + altitude) * np.sin(latitude),
        ],
        axis=1,
    )
    lat, lon = latitude[0], longitude[0]
    axes = np.array(
        [
            [-np.sin(lon), np.cos(lon), 0.0],
            [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)],
            [np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)],
        ]
    )
    return (earth - earth[0]) @ axes.T


def metric_scale(centres: np.ndarray, metres: np.ndarray) -> float | None:
    """Return metres per model unit from camera centres (N, 3) and GPS positions (N, 3), or ``None`` if GPS cannot say.

    Needs 5 positions spread over more than 20 m that fit within 15 m; the median over pairs of photos ignores outliers.
    """
    if len(centres) < _MIN_GPS or np.ptp(metres[:, :2], axis=0).max() <= _MIN_GPS_SPREAD:
        return None
    first, second = np.triu_indices(len(centres), 1)
    model = np.linalg.norm(centres[first] - centres[second], axis=1)
    level = np.linalg.norm(metres[first] - metres[second], axis=1)
    is_far = level > 0.5 * np.percentile(level, 90)
    scale = float(np.median(level[is_far] / np.maximum(model[is_far], 1e-12)))
    misfit = np.median(np.abs(scale * model[is_far] - level[is_far]))
    return scale if misfit < 3 * _GPS_ERROR else None
