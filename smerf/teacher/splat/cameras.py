"""Cameras for a splat or mesh file that comes without any: which way is up, inside or outside, and from where to look.

Everything is decided from what rays meet. Letters: N splats, C cameras, R rays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from smerf.capture.synth.rigs import look_at
from smerf.errors import InvalidDataError

__all__ = ["Content", "Probe", "Rig", "content_of", "synthesise"]

Probe = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Takes origins and unit directions (R, 3) of rays to their opacity (R,) and the distance (R,) of what they meet."""

_MIN_CAP_RATIO = 20.0
_CAP, _REACH = np.cos(np.radians(4.0)), np.cos(np.radians(35.0))
_EDGE, _DIRECTIONS = 7, 64
_BAND = 0.16
"""Of the height: one step of the grid of candidates up and down."""
_GOLDEN = np.pi * (3.0 - np.sqrt(5.0))
_OUTER, _MANY = 0.01, 0.05
_ENOUGH, _SAMPLES = 100_000, 5_000
"""Points of which percentiles are taken, and of which a box is turned."""
_MIN_SURROUNDINGS = 5.0
"""What is so many times larger than the finely drawn part surrounds it: sky, hills, a lawn."""
_SKY = 4.0
"""Distance in radii at which rays leave what is surrounded."""
_LEVEL, _BELOW = -0.1, -0.9
"""Sine of the elevation of the lowest cameras around something that stands, and something with an underside."""
_COLUMNS = 24
_PITCHES = (-20.0, -8.0, 5.0)
ORBIT_FIELD, WALK_FIELD = 45.0, 65.0
"""Degrees across the longer side of an image."""


@dataclass(frozen=True)
class Content:
    """Where something is, in axes of which z is up.

    ``rotation`` (3, 3) takes the file's axes to them; ``low``, ``middle`` and ``high`` (3,) are percentiles 1, 50 and
    99 of the opacity; ``radius`` is half the diagonal of the box. ``is_surrounded`` says that much lies farther out.
    """

    rotation: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray
    is_surrounded: bool = False

    @property
    def radius(self) -> float:
        """Return half the diagonal of the box."""
        return float(0.5 * np.linalg.norm(self.high - self.low))

    @property
    def centre(self) -> np.ndarray:
        """Return the middle of the box (3,) in the file's axes."""
        return self.rotation.T @ (0.5 * (self.low + self.high))


@dataclass(frozen=True)
class Rig:
    """Cameras that were chosen.

    ``kind`` is ``orbit`` or ``walk``; ``poses`` (C, 3, 4) camera to world, OpenGL camera axes, in the file's space;
    ``field`` in degrees across the longer side.
    """

    kind: str
    poses: np.ndarray
    field: float
    why: str


def content_of(
    points: np.ndarray,
    weights: np.ndarray,
    up: np.ndarray,
    normals: tuple[np.ndarray, np.ndarray] | None = None,
    sizes: np.ndarray | None = None,
) -> Content:
    """Return where something is: of scenes with far surroundings, the part that is drawn finely.

    Photos are taken near what they are of, and what is near the photos is made of small splats.

    Args:
        points: (N, 3).
        weights: How much each counts (N,): its opacity.
        up: The direction (3,) that the format calls up.
        normals: Unit normals (M, 3) of flat parts and their weights (M,), by which ``up`` is refined; None keeps it.
        sizes: How far each reaches (N,); None takes points for points.
    """
    if normals is not None:
        up = _refined_up(up, *normals)
    rotation = _upright(up / np.linalg.norm(up))
    step = -(-len(points) // _ENOUGH)
    points, weights = points[::step], weights[::step]
    sizes = None if sizes is None else sizes[::step]
    content = _extent(rotation, points, weights, sizes)
    near = points.astype(np.float64) @ rotation.T
    inside = ((near >= content.low) & (near <= content.high)).all(1)
    if not inside.any():
        return content
    turn = _aligned(near[inside, :2], weights[inside])
    return _extent(turn @ rotation, points, weights, sizes)


def _extent(
    rotation: np.ndarray, points: np.ndarray, weights: np.ndarray, sizes: np.ndarray | None
) -> Content:
    """Return the box of what is drawn finely, in the axes that a rotation leads to."""
    turned = points.astype(np.float64) @ rotation.T
    if sizes is None:
        return Content(rotation, *_box(turned, weights, np.zeros(len(points)), _OUTER))
    content = Content(rotation, *_box(turned, weights, sizes, _OUTER))
    fine = weights / np.maximum(sizes, 1e-12)
    # Many stray splats need more than a few percent left out, whatever their sizes.
    for chosen, outer in ((fine, _OUTER), (weights, _MANY), (fine, _MANY)):
        smaller = Content(rotation, *_box(turned, chosen, sizes, outer))
        if content.radius > _MIN_SURROUNDINGS * smaller.radius:
            content = replace(smaller, is_surrounded=True)
    return content


def _aligned(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the turn about z (3, 3) that takes the sides of the smallest box around points (N, 2) to the axes.

    Its longer side becomes x, and the heavier end of it lies at low x: turned copies of a file get the same cameras,
    and walls lie along the axes.
    """
    step = -(-len(points) // _SAMPLES)
    points, weights = points[::step], weights[::step]

    def sides(angle: float) -> np.ndarray:
        turned = points @ _turned_by(angle)[:2, :2].T
        low, _, high = _box(turned, weights, np.zeros(len(points)), _OUTER)
        return high - low

    def area(angle: float) -> float:
        length = sides(angle)
        return float(np.prod(length + 1e-3 * length.max()))

    best = min(np.radians(np.arange(0.0, 90.0, 2.0)), key=area)
    best = min(best + np.radians(np.arange(-2.0, 2.01, 0.25)), key=area)
    along = sides(best)
    best += 0.5 * np.pi * (along[1] > along[0])
    x = points @ _turned_by(best)[0, :2]
    x = x - np.average(x, weights=weights)
    return _turned_by(best + np.pi * (np.average(x**3, weights=weights) < 0.0))


def _turned_by(angle: float) -> np.ndarray:
    """Return the rotation about z that takes the direction at an angle to x."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, s, 0.0], [-s, c, 0.0], [0.0, 0.0, 1.0]])


def _box(points: np.ndarray, weights: np.ndarray, sizes: np.ndarray, outer: float) -> np.ndarray:
    """Return low, middle and high ends (3, D) of points (N, D) that reach ``sizes`` (N,) around themselves.

    ``outer`` is the part of the weight that is left out at either end of an axis.
    """
    ends = []
    for side, part in ((-1.0, outer), (0.0, 0.5), (1.0, 1.0 - outer)):
        moved = points + side * sizes[:, None]
        order = np.argsort(moved, 0, kind="stable")
        total = np.cumsum(weights[order], 0, dtype=np.float64)
        place = (total < part * total[-1]).sum(0).clip(0, len(points) - 1)
        ends.append(np.take_along_axis(moved, np.take_along_axis(order, place[None], 0), 0)[0])
    return np.stack(ends)


def _upright(up: np.ndarray) -> np.ndarray:
    """Return a rotation that takes ``up`` to z."""
    axis = np.eye(3)[np.argmin(np.abs(up))]
    right = np.cross(axis, up)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(up, right), up])


def _refined_up(up: np.ndarray, normals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the direction near ``up`` in which many flat parts face, as floors do, or ``up`` if none is clear."""
    up = up / np.linalg.norm(up)
    normals = normals * np.where(normals @ up < 0.0, -1.0, 1.0)[:, None]
    near = normals @ up > _REACH
    if not near.any():
        return up
    normals, weights = normals[near], weights[near]
    found = up
    for _ in range(30):
        cap = normals @ found > _CAP
        if not cap.any():
            # The mean shift starts where the most weight is.
            found = normals[np.argmax(weights)]
            continue
        mean = (weights[cap, None] * normals[cap]).sum(0)
        found = mean / np.linalg.norm(mean)
    inside = weights[normals @ found > _CAP].sum() / weights.sum()
    return found if inside > _MIN_CAP_RATIO * (1.0 - _CAP) / (1.0 - _REACH) else up


def _sphere(count: int) -> np.ndarray:
    """Return unit vectors (count, 3) spread evenly (Fibonacci)."""
    z = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    angle = _GOLDEN * np.arange(count)
    ring = np.sqrt(1.0 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], 1)


def synthesise(
    content: Content, probe: Probe, count: int, kind: str = "auto", seed: int = 0, *, has_sides: bool = False
) -> Rig:
    """Choose cameras.

    Args:
        content: Where something is.
        probe: What rays meet, in the file's space.
        count: Cameras wanted.
        kind: ``orbit``, ``walk``, or ``auto``.
        seed: Of the walk's yaws.
        has_sides: Whether the probe doesn't meet what it comes to from behind: then it tells what has an underside,
            which is looked at from below as well.

    Raises:
        InvalidDataError: If a walk is asked for and no place inside is free.
    """
    below = has_sides and _has_underside(content, probe)
    orbit, also = _orbit(content, count, _BELOW if below else _LEVEL), "; from below as well" if below else ""
    if kind == "orbit":
        return Rig("orbit", orbit, ORBIT_FIELD, f"asked for{also}")
    places, score, views = _places_inside(content, probe)
    is_inside = len(places) >= 0.02 * _EDGE**3 and float(np.median(views)) > 0.2 * content.radius
    why = f"{len(places)} of {_EDGE**3} places inside are free and surrounded"
    if kind == "auto" and not is_inside:
        return Rig("orbit", orbit, ORBIT_FIELD, f"{why}{also}")
    if not len(places):
        raise InvalidDataError(
            "no place inside is free and surrounded: a walk is not possible; use --cameras orbit"
        )
    return Rig("walk", _walk(content, probe, places, score, count, seed), WALK_FIELD, why)


def _places_inside(content: Content, probe: Probe) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the good candidates inside (M, 3) in upright axes, their scores (M,) and median viewing distances (M,)."""
    middle, half = 0.5 * (content.low + content.high), 0.45 * (content.high - content.low)
    line = np.linspace(-1.0, 1.0, _EDGE)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    places = middle + grid * half
    opacity, distance = _look_around(content, probe, places, _sphere(_DIRECTIONS))
    is_hit = opacity > 0.5
    if content.is_surrounded:
        # A sky is around everything.
        is_hit &= distance < _SKY * content.radius
    distance = np.where(is_hit, distance, 4.0 * content.radius)
    cover, clearance = is_hit.mean(1), np.percentile(distance, 5.0, axis=1)
    good = (cover > 0.7) & (clearance > 0.04 * content.radius)
    score = cover * np.minimum(clearance / (0.1 * content.radius), 1.0)
    return places[good], score[good], np.median(distance, 1)[good]


def _look_around(
    content: Content, probe: Probe, places: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return opacity and distance (M, D) along directions (D, 3) from places (M, 3), all in upright axes."""
    origins = np.repeat(places @ content.rotation, len(directions), 0)
    towards = np.tile(directions @ content.rotation, (len(places), 1))
    opacity, distance = probe(origins.astype(np.float32), towards.astype(np.float32))
    return opacity.reshape(len(places), -1), distance.reshape(len(places), -1)


def _has_underside(content: Content, probe: Probe) -> bool:
    """Return whether most of what can be seen from right above can be seen from right below too."""
    (left, front, floor), (right, back, top) = content.low, content.high
    x, y = np.meshgrid(np.linspace(left, right, _COLUMNS), np.linspace(front, back, _COLUMNS))
    seen = []
    for height, ahead in ((top + content.radius, -1.0), (floor - content.radius, 1.0)):
        eyes = np.stack([x.ravel(), y.ravel(), np.full(x.size, height)], 1)
        opacity, _ = _look_around(content, probe, eyes, np.array([[0.0, 0.0, ahead]]))
        seen.append(opacity[:, 0] > 0.5)
    above, below = seen
    return bool((above & below).sum() > 0.5 * above.sum())


def _orbit(content: Content, count: int, lowest: float) -> np.ndarray:
    """Return poses around the content, from the sine ``lowest`` of their elevation on; every third is closer."""
    middle = 0.5 * (content.low + content.high)
    index = np.arange(count)
    height = np.linspace(lowest, 0.95, count)
    ring, angle = np.sqrt(1.0 - height**2), _GOLDEN * index
    unit = np.stack([ring * np.cos(angle), ring * np.sin(angle), height], 1)
    radius = np.where(index % 3 == 2, 1.5, 2.4) * content.radius
    return _posed(content, middle + radius[:, None] * unit, np.broadcast_to(middle, unit.shape))


def _posed(content: Content, eyes: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Return poses (C, 3, 4) in the file's axes of eyes that face targets (C, 3), in upright axes."""
    poses = np.stack([look_at(eye, target)[:3] for eye, target in zip(eyes, targets)])
    return np.asarray(content.rotation.T @ poses)


def _walk(
    content: Content, probe: Probe, places: np.ndarray, score: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """Return poses inside: a few positions far from one another, six views from each."""
    band = np.abs(places[:, 2] - np.median(places[:, 2])) <= _BAND * (content.high - content.low)[2]
    places, score = places[band], score[band]
    eyes = places[_spread_out(places / content.radius, score, max(1, -(-count // 6)))]
    random = np.random.default_rng(seed)
    targets, origins = [], []
    for number in range(count):
        eye = eyes[number // 6 % len(eyes)]
        for attempt in range(8):
            yaw = 2.0 * np.pi * (number % 6 / 6.0 + random.random() / (1.0 if attempt else 6.0))
            pitch = np.radians(_PITCHES[number % 3])
            ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
            if _view_distance(content, probe, eye, ahead) > 0.15 * content.radius:
                break
        origins.append(eye)
        targets.append(eye + ahead)
    return _posed(content, np.stack(origins), np.stack(targets))


def _spread_out(places: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of ``count`` places (or all), from the best one on each farthest from those before."""
    # Rounded, so that equally good places do not change with the units of a file.
    chosen = [int(np.argmax(score.round(3)))]
    distance = np.linalg.norm(places - places[chosen[0]], axis=1)
    while len(chosen) < min(count, len(places)):
        chosen.append(int(np.argmax((distance * score).round(3))))
        distance = np.minimum(distance, np.linalg.norm(places - places[chosen[-1]], axis=1))
    return np.array(chosen)


def _view_distance(content: Content, probe: Probe, eye: np.ndarray, ahead: np.ndarray) -> float:
    """Return the median distance of what a view shows."""
    pose = look_at(eye, eye + ahead)[:3, :3]
    reach = np.tan(np.radians(0.5 * WALK_FIELD))
    line = np.linspace(-reach, reach, 7)
    local = np.stack([*(each.ravel() for each in np.meshgrid(line, line)), np.full(49, -1.0)], 1)
    rays = local @ pose.T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    opacity, distance = _look_around(content, probe, eye[None], rays)
    return float(np.median(np.where(opacity > 0.5, distance, 4.0 * content.radius)))
