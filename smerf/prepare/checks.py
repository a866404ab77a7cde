"""Whether a model can be right. The reprojection error does not tell: it is as low in folded models as in right ones.

Each check returns a number; the thresholds are those that separated right from wrong models of real captures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from smerf.prepare.model import Model

__all__ = ["Checks", "Place", "agreement", "check", "contradictions", "path_steps"]

MAX_CONTRADICTION = 0.05
MAX_STEP = 10.0
MIN_ANGLE = 2.0
MAX_ERROR = 1.5
MIN_AGREEMENT = 0.9
MIN_FOV, MAX_FOV, MAX_ASPECT = 20.0, 130.0, 0.02

_MAX_RAY_ANGLE = np.cos(np.radians(15.0))
_DISTANCE_RATIO = (0.67, 1.5)
_BORDER = 0.05
_MIN_VISIBLE = 30
_MIN_SEEN = 0.02
_MIN_TESTABLE = 20
_ANGLE_AGREES, _CENTRE_AGREES = 2.0, 0.05


@dataclass(frozen=True)
class Place:
    """Where a photo stands in the capture: its input, its number there, and its time (source frame, or number)."""

    sequence: int
    number: int
    time: int


@dataclass(frozen=True)
class Checks:
    """What was measured of a model. ``None``: not testable."""

    registered: float
    contradiction: float | None
    step: float | None
    step_between: tuple[str, str] | None
    angle: float
    error: float
    fov: tuple[float, float]
    aspect: float

    @property
    def is_folded(self) -> bool:
        """Return whether photos see points that cannot be visible there."""
        return self.contradiction is not None and self.contradiction > MAX_CONTRADICTION

    @property
    def is_torn(self) -> bool:
        """Return whether the camera path jumps."""
        return self.step is not None and self.step > MAX_STEP

    @property
    def has_plausible_intrinsics(self) -> bool:
        """Return whether the field of view and the pixel aspect are those of a camera."""
        return self.fov[0] >= MIN_FOV and self.fov[1] <= MAX_FOV and self.aspect <= MAX_ASPECT


def check(model: Model, places: Mapping[str, Place], total: int) -> Checks:
    """Measure a cleaned model of a capture of ``total`` photos."""
    step, between = path_steps(model, places)
    fov = [_fov(model, index) for index in range(len(model.names))]
    aspect = [abs(lens.fx / lens.fy - 1) for lens in model.intrinsics.values()]
    return Checks(
        registered=len(model.names) / max(total, 1),
        contradiction=contradictions(model),
        step=step,
        step_between=between,
        angle=median_angle(model),
        error=model.mean_error,
        fov=(min(fov, default=0.0), max(fov, default=0.0)),
        aspect=max(aspect, default=0.0),
    )


def contradictions(model: Model) -> float | None:
    """Return the fraction of photos that contradict another photo, or ``None`` where too few pairs can be tested.

    Of the points of photo a that photo b would see from nearly the same place and direction (rays within 15 degrees,
    distances within a factor of 1.5, inside the frame of b), b must observe some. In a folded model it observes none.
    """
    count = len(model.names)
    seen = model.observations
    indices = [seen.indices[seen.indptr[row] : seen.indptr[row + 1]] for row in range(count)]
    is_seen = np.zeros((count, len(model.points)), bool)
    for row, points in enumerate(indices):
        is_seen[row, points] = True
    worst = np.ones((count, count))
    is_testable = np.zeros((count, count), bool)
    rays = [model.points[points] - model.centres[row] for row, points in enumerate(indices)]
    for b in range(count):
        for a in range(count):
            if a == b or not len(indices[a]):
                continue
            visible = _visible(model, b, indices[a], rays[a])
            if len(visible) >= _MIN_VISIBLE:
                is_testable[a, b] = True
                worst[a, b] = is_seen[b, visible].mean()
    # Through a door one camera sees what is hidden from the other: both must be in view of much of the other's points.
    is_testable &= is_testable.T
    if np.count_nonzero(is_testable) // 2 < _MIN_TESTABLE:
        return None
    contradicts = is_testable & (np.minimum(worst, worst.T) < _MIN_SEEN)
    return float(contradicts.any(axis=1).mean())


def _visible(model: Model, b: int, points: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """Return those points of another photo that photo ``b`` should see; distortion is left to the border."""
    to_b = model.points[points] - model.centres[b]
    camera = to_b @ model.poses[b, :, :3]
    near, far = np.linalg.norm(rays, axis=1), np.linalg.norm(to_b, axis=1)
    cosine = np.einsum("nj,nj->n", rays, to_b) / np.maximum(near * far, 1e-12)
    ratio = far / np.maximum(near, 1e-12)
    lens = model.intrinsics_of(b)
    depth = np.maximum(camera[:, 2], 1e-12)
    x = (camera[:, 0] / depth * lens.fx + lens.cx) / lens.width
    y = (camera[:, 1] / depth * lens.fy + lens.cy) / lens.height
    is_inside = (np.minimum(x, y) > _BORDER) & (np.maximum(x, y) < 1 - _BORDER) & (camera[:, 2] > 0)
    is_like = (cosine > _MAX_RAY_ANGLE) & (ratio > _DISTANCE_RATIO[0]) & (ratio < _DISTANCE_RATIO[1])
    return points[is_inside & is_like]


def path_steps(model: Model, places: Mapping[str, Place]) -> tuple[float | None, tuple[str, str] | None]:
    """Return the largest step of the camera path as a multiple of the median one, and the photos it lies between.

    Steps join photos that are neighbours in the capture, and are divided by their distance in time.
    """
    pairs, steps = neighbour_steps(model, places)
    if len(steps) < 3 or np.median(steps) <= 0:
        return None, None
    index = int(np.argmax(steps))
    return float(steps[index] / np.median(steps)), pairs[index]


def neighbour_steps(model: Model, places: Mapping[str, Place]) -> tuple[list[tuple[str, str]], np.ndarray]:
    """Return the pairs of registered photos that follow each other in an input, and their distances a unit of time."""
    index_of = {name: index for index, name in enumerate(model.names)}
    ordered = sorted(index_of, key=lambda name: (places[name].sequence, places[name].number))
    pairs, steps = [], []
    for first, second in pairwise(ordered):
        one, two = places[first], places[second]
        if one.sequence == two.sequence and two.number == one.number + 1:
            distance = np.linalg.norm(model.centres[index_of[second]] - model.centres[index_of[first]])
            pairs.append((first, second))
            steps.append(distance / max(two.time - one.time, 1))
    return pairs, np.array(steps)


def median_angle(model: Model) -> float:
    """Return the median over points of the largest angle between two of their rays, in degrees.

    The largest angle is approximated by that to the ray furthest from the point's first one.
    """
    if not len(model.points):
        return 0.0
    rays = model.points[model.seen_point] - model.centres[model.seen_image]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
    order = np.argsort(model.seen_point, kind="stable")
    points, rays = model.seen_point[order], rays[order]
    _, start, where = np.unique(points, return_index=True, return_inverse=True)
    for _ in range(2):  # from the first ray to the furthest, and from there to the one furthest from it
        cosine = np.einsum("nj,nj->n", rays, rays[start][where])
        by_angle = np.lexsort((cosine, points))
        _, first = np.unique(points[by_angle], return_index=True)
        start = by_angle[first]
    return float(np.degrees(np.median(np.arccos(np.clip(cosine[start], -1.0, 1.0)))))


def agreement(one: Model, two: Model) -> tuple[float, float, float] | None:
    """Compare the poses of two models on their common photos, after a robust similarity.

    Returns:
        The fraction within 2 degrees and 5 % of the cameras' spread, and the medians in degrees and as a fraction of
        the spread; ``None`` with fewer than 3 common photos.
    """
    index = {name: place for place, name in enumerate(two.names)}
    common = [(place, index[name]) for place, name in enumerate(one.names) if name in index]
    if len(common) < 3:
        return None
    first, second = np.array(common).T
    degrees, distances = compare_poses(one.poses[first], two.poses[second])
    is_alike = (degrees < _ANGLE_AGREES) & (distances < _CENTRE_AGREES)
    return float(is_alike.mean()), float(np.median(degrees)), float(np.median(distances))


def compare_poses(poses: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rotation errors (N) in degrees and centre errors (N) as a fraction of the reference's spread.

    Rotations of both sets (N, 3, 4) are aligned by the rotation, and centres by the similarity, that the majority
    agrees on.
    """
    relative = reference[:, :, :3] @ poses[:, :, :3].transpose(0, 2, 1)
    angles = np.degrees(np.arccos(np.clip((np.einsum("aij,bij->ab", relative, relative) - 1) / 2, -1, 1)))
    rotation = relative[np.argmin(np.median(angles, axis=1))]
    trusted = angles[np.argmin(np.median(angles, axis=1))] < 5.0
    for _ in range(3):
        left, _, right = np.linalg.svd(relative[trusted].sum(axis=0))
        rotation = left @ np.diag([1.0, 1.0, np.linalg.det(left @ right)]) @ right
        degrees = np.degrees(np.arccos(np.clip((np.einsum("nij,ij->n", relative, rotation) - 1) / 2, -1, 1)))
        trusted = degrees < max(3 * np.median(degrees), 0.1)
    source, target = poses[:, :, 3], reference[:, :, 3]
    spread = np.sqrt(np.mean(np.sum((target - target.mean(axis=0)) ** 2, axis=1)))
    weights = np.where(trusted, 1.0, 1e-3)
    for _ in range(20):  # least absolute distances by reweighting
        weights = weights / weights.sum()
        source_mean, target_mean = weights @ source, weights @ target
        moved, wanted = source - source_mean, target - target_mean
        left, stretch, right = np.linalg.svd((weights[:, None] * wanted).T @ moved)  # Umeyama 1991
        signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left @ right))])
        scale = (stretch * signs).sum() / max(np.sum(weights[:, None] * moved**2), 1e-12)
        errors = np.linalg.norm(scale * moved @ ((left * signs) @ right).T - wanted, axis=1)
        weights = 1.0 / np.maximum(errors, 1e-3 * spread + 1e-12)
    return degrees, errors / max(spread, 1e-12)


def _fov(model: Model, index: int) -> float:
    lens = model.intrinsics_of(index)
    return float(np.degrees(2 * np.arctan(max(lens.width, lens.height) / 2 / max(lens.fx, lens.fy))))
