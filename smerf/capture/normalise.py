"""Where a capture sits in training space: the similarity that puts its cameras into [-1, 1]^3.

Methods
- ``focus``: origin at the point nearest to all optical axes, z along the mean camera up vector. For captures
  that look at something.
- ``pca``: origin at the mean camera centre, axes along the principal directions of the centres, z along the
  least. For walks and views from inside out.
- ``up``: origin at the mean camera centre, z along the mean camera up vector.
- ``scale``: origin and axes as they are.
- ``auto``: ``scale`` for rendered sets; else ``focus`` where a focus exists in front of the cameras, else
  ``pca`` where its z agrees with the cameras' up vectors, else ``up``.

Source: Zip-NeRF (arXiv 2304.06706), ``camera_utils.transform_poses_pca`` and ``transform_poses_focus``.
N counts cameras; poses are (N, 3, 4), camera-to-world, OpenGL camera axes, source space.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.types import Similarity

__all__ = [
    "METHODS",
    "apply_similarity",
    "choose_similarity",
    "find_outliers",
    "focus_point",
    "has_focus",
    "invert_pose",
]

METHODS = ("auto", "focus", "pca", "up", "scale")

# Mean squared sine between optical axes below which their common point is mostly noise along the viewing
# direction.
_MIN_FOCUS_CONDITION = 0.01
_MAX_FOCUS_DISTANCE = 3.0  # in camera spreads (root mean square distance from the mean centre)
_MIN_FACING = 0.75  # part of the cameras that must have the focus in front of them
_MIN_UP_LENGTH = 0.3  # mean of unit up vectors; below it the cameras share no up
_MAX_PCA_TILT = np.cos(np.radians(35.0))
_OUTLIER_RATIO = 3.0
_MIN_GAP_REACH = 10.0
_INLIER_FRACTION = 0.8
_MIN_CAMERAS = 4  # of fewer, none is the odd one out
_SAME_PLACE = 1e-9


def choose_similarity(
    poses: np.ndarray, method: str, points: np.ndarray | None = None
) -> tuple[Similarity, str]:
    """Choose the similarity from source to training space.

    Args:
        poses: Shape (N, 3, 4), N >= 1.
        method: One of ``METHODS``.
        points: Sparse points (M, 3) in source space; they set the scale where the cameras cannot.

    Returns:
        The similarity, under which every camera centre has coordinates of magnitude at most 1 (and the
        largest is 1 unless the cameras share one place), and the method that was used.

    Raises:
        ValueError: If ``method`` is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"normalise: expected one of {', '.join(METHODS)}, got {method!r}")
    centres = poses[:, :, 3]
    if method == "scale":
        return _scaled(poses, np.eye(3), np.zeros(3), points), method
    spread = np.sqrt(np.mean(np.sum((centres - centres.mean(axis=0)) ** 2, axis=1)))
    if len(poses) < 3 or spread <= _SAME_PLACE * max(1.0, np.abs(centres).max()):
        return _scaled(poses, np.eye(3), centres.mean(axis=0), points), "scale"
    if method == "auto":
        method = _suitable(poses)
    if method == "focus":
        return _scaled(poses, _up_rotation(poses), focus_point(poses)[0], points), method
    if method == "up":
        return _scaled(poses, _up_rotation(poses), centres.mean(axis=0), points), method
    return _scaled(poses, _pca_rotation(poses), centres.mean(axis=0), points), method


def focus_point(poses: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the point nearest to all optical axes (3,), and how well they fix it.

    The second value is the smallest eigenvalue of the mean projection across the axes: the mean squared sine
    between the axes and their common direction, 0 where they are parallel and at most 2/3.
    """
    forward = -poses[:, :, 2]
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]
    total = across.mean(axis=0)
    point = np.linalg.pinv(total) @ np.einsum("nij,nj->i", across, poses[:, :, 3]) / len(poses)
    return point, float(np.linalg.eigvalsh(total)[0])


def find_outliers(similarity: Similarity, poses: np.ndarray) -> np.ndarray:
    """Return which cameras (N,) lie so far from all others that they are probably wrong registrations.

    Reach is the largest coordinate seen from the median camera. True above three times the 98th percentile of all
    cameras; and, so that one of few is found as well, from the first gap outwards that triples the reach and leads
    beyond ten times that of the nearest four fifths. Such a camera would shrink the rest of the scene to a dot.
    """
    centres = similarity.scale * poses[:, :, 3] @ similarity.rotation.T
    reach = np.abs(centres - np.median(centres, axis=0)).max(axis=1)
    is_far = reach > _OUTLIER_RATIO * np.percentile(reach, 98) + _SAME_PLACE
    ordered = np.sort(reach)
    nearest = int(_INLIER_FRACTION * (len(reach) - 1))
    if len(reach) < _MIN_CAMERAS or ordered[nearest] <= _SAME_PLACE:
        return is_far
    inner, outer = ordered[nearest:-1], ordered[nearest + 1 :]
    beyond = outer[(outer > _OUTLIER_RATIO * inner) & (outer > _MIN_GAP_REACH * ordered[nearest])]
    return is_far | (reach >= beyond[0]) if len(beyond) else is_far


def apply_similarity(similarity: Similarity, poses: np.ndarray) -> np.ndarray:
    """Carry poses (N, 3, 4) from source to training space; rotations stay rotations."""
    rotation = similarity.rotation @ poses[:, :, :3]
    centres = similarity.scale * poses[:, :, 3] @ similarity.rotation.T + similarity.translation
    return np.concatenate([rotation, centres[:, :, None]], axis=2)


def invert_pose(similarity: Similarity, world_from_cam: np.ndarray) -> np.ndarray:
    """Carry one pose (3, 4) from training back to source space."""
    rotation = similarity.rotation.T @ world_from_cam[:3, :3]
    centre = similarity.rotation.T @ (world_from_cam[:3, 3] - similarity.translation) / similarity.scale
    return np.concatenate([rotation, centre[:, None]], axis=1)


def has_focus(poses: np.ndarray) -> bool:
    """Tell whether cameras (N, 3, 4) look at one place in front of them."""
    point, condition = focus_point(poses)
    centres = poses[:, :, 3]
    spread = np.sqrt(np.mean(np.sum((centres - centres.mean(axis=0)) ** 2, axis=1)))
    depth = np.einsum("nj,nj->n", point - centres, -poses[:, :, 2])
    is_near = np.linalg.norm(point - centres.mean(axis=0)) <= _MAX_FOCUS_DISTANCE * spread
    return bool(condition >= _MIN_FOCUS_CONDITION and is_near and np.mean(depth > 0) >= _MIN_FACING)


def _suitable(poses: np.ndarray) -> str:
    has_up = np.linalg.norm(poses[:, :, 1].mean(axis=0)) >= _MIN_UP_LENGTH
    if has_up and has_focus(poses):
        return "focus"
    if not has_up:
        return "pca"
    z = _pca_rotation(poses)[2]
    return "pca" if z @ _mean_up(poses) >= _MAX_PCA_TILT else "up"


def _scaled(
    poses: np.ndarray, rotation: np.ndarray, origin: np.ndarray, points: np.ndarray | None
) -> Similarity:
    """Put ``origin`` at 0, turn by ``rotation``, and scale the largest camera coordinate to 1."""
    centres = (poses[:, :, 3] - origin) @ rotation.T
    reach = np.abs(centres).max()
    scale = 1.0 / reach if reach > _SAME_PLACE * max(1.0, np.abs(origin).max()) else np.inf
    if not np.isfinite(scale):
        # Cameras in one place say nothing about size: take the median depth of the points, if there are any.
        scale = 1.0
        if points is not None and len(points):
            distance = np.median(np.linalg.norm(points - poses[:, :, 3].mean(axis=0), axis=1))
            scale = 1.0 / distance if distance > 0 else 1.0
    return Similarity(float(scale), rotation, -scale * rotation @ origin)


def _mean_up(poses: np.ndarray) -> np.ndarray:
    up = poses[:, :, 1].mean(axis=0)
    length = np.linalg.norm(up)
    return up / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])


def _up_rotation(poses: np.ndarray) -> np.ndarray:
    """Return the smallest rotation that takes the mean up vector to +z."""
    up, target = _mean_up(poses), np.array([0.0, 0.0, 1.0])
    axis, cosine = np.cross(up, target), float(up @ target)
    if cosine < -1 + 1e-9:
        return np.diag([1.0, -1.0, -1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1 + cosine)


def _pca_rotation(poses: np.ndarray) -> np.ndarray:
    """Return the rotation whose rows are the principal directions of the centres, largest first."""
    centres = poses[:, :, 3] - poses[:, :, 3].mean(axis=0)
    values, vectors = np.linalg.eigh(centres.T @ centres)
    rows = vectors[:, np.argsort(-values, kind="stable")].T
    # An eigenvector's sign is arbitrary: fix it, so that runs on other machines agree.
    largest = rows[np.arange(3), np.abs(rows).argmax(axis=1)]
    rows = rows * np.where(largest < 0, -1.0, 1.0)[:, None]
    if np.linalg.det(rows) < 0:
        rows[2] = -rows[2]
    if rows[2] @ poses[:, :, 1].mean(axis=0) < 0:
        rows = rows * np.array([[1.0], [-1.0], [-1.0]])
    return rows
