"""Primitives as triangle meshes fine enough to carry lighting at their vertices.

Every function takes sizes in metres and ``cell``, the longest edge wanted, and returns a :class:`Mesh` whose
faces turn outwards. Sharp edges have their vertices doubled, so normals and uv are per vertex everywhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from smerf.capture.synth.textures import fbm
from smerf.errors import InvalidDataError

__all__ = ["SHAPES", "Mesh", "make_shape"]

Points = Sequence[Sequence[float]] | np.ndarray
_Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Mesh:
    """``vertices``, unit ``normals`` (V, 3) and ``uv`` (V, 2) in metres, float64; ``faces`` (F, 3) int."""

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    uv: np.ndarray


def make_shape(shape: Mapping[str, Any], where: str) -> Mesh:
    """Build the mesh of a description such as ``{kind: box, size: [1, 1, 1], cell: 0.1}``.

    Raises:
        InvalidDataError: If the kind is unknown or its parameters are; the message starts with ``where``.
    """
    values = dict(shape)
    kind = values.pop("kind", None)
    if kind not in SHAPES:
        raise InvalidDataError(f"{where}: unknown shape '{kind}'; known: {', '.join(sorted(SHAPES))}")
    function = SHAPES[kind]
    parameters = inspect.signature(function).parameters
    for key in values:
        if key not in parameters:
            known = ", ".join(name for name in parameters)
            raise InvalidDataError(f"{where}: shape '{kind}' has no key '{key}'; known: {known}")
    try:
        return function(**values)
    except (TypeError, ValueError) as error:
        raise InvalidDataError(f"{where}: shape '{kind}': {error}") from error


def join(meshes: Sequence[Mesh]) -> Mesh:
    """Put several meshes into one."""
    offsets = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vertices for m in meshes]),
        np.concatenate([m.faces + o for m, o in zip(meshes, offsets)]),
        np.concatenate([m.normals for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
    )


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Two triangles for each square of a ``rows`` x ``columns`` grid, counter-clockwise in (column, row)."""
    r, c = np.meshgrid(np.arange(rows - 1), np.arange(columns - 1), indexing="ij")
    a = (r * columns + c).ravel()
    b, d, e = a + 1, a + columns, a + columns + 1
    return np.concatenate([np.stack([a, b, e], 1), np.stack([a, e, d], 1)])


def _drop_degenerate(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return faces[np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-12]


def _rect(corner: _Vector, u: _Vector, v: _Vector, cell: float) -> Mesh:
    """Return a rectangle from ``corner`` along ``u`` and ``v``, facing ``u x v``."""
    corner, u, v = (np.asarray(x, float) for x in (corner, u, v))
    lu, lv = float(np.linalg.norm(u)), float(np.linalg.norm(v))
    nu, nv = (int(np.clip(np.ceil(length / cell), 1, 400)) for length in (lu, lv))
    s, t = np.meshgrid(np.linspace(0, 1, nu + 1), np.linspace(0, 1, nv + 1))
    vertices = corner + s.reshape(-1, 1) * u + t.reshape(-1, 1) * v
    normal = np.cross(u, v) / max(lu * lv, 1e-12)
    # uv follow the position along the main axes, so that patterns run on across neighbouring pieces.
    axes = [int(np.argmax(np.abs(x))) for x in (u, v)]
    uv = vertices[:, sorted(axes)] if axes[0] != axes[1] else np.stack([s.ravel() * lu, t.ravel() * lv], 1)
    return Mesh(vertices, _grid_faces(nv + 1, nu + 1), np.tile(normal, (len(vertices), 1)), uv)


def plane(size: Sequence[float], cell: float) -> Mesh:
    """Return a rectangle in xy around the origin, facing up."""
    x, y = size
    return _rect((-x / 2, -y / 2, 0), (x, 0, 0), (0, y, 0), cell)


def box(size: Sequence[float], cell: float) -> Mesh:
    """Return a box that stands on z = 0, centred in x and y."""
    x, y, z = size
    a = np.array([-x / 2, -y / 2, 0.0])
    X, Y, Z = np.diag([float(x), float(y), float(z)])
    sides = [(a + Z, X, Y), (a, Y, X), (a, X, Z), (a + Y, Z, X), (a, Z, Y), (a + X, Y, Z)]
    return join([_rect(*side, cell) for side in sides])


def _catmull_rom(points: np.ndarray, cell: float, closed: bool = False) -> np.ndarray:
    """Resample a polyline as a smooth curve with steps of about ``cell``."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    pieces = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:]):
        n = max(2, int(np.ceil(np.linalg.norm(p2 - p1) / cell)))
        t = np.linspace(0, 1, n, endpoint=False)[:, None]
        pieces.append(
            0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
                   + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
        )  # fmt: skip
    curve = np.concatenate(pieces)
    return curve if closed else np.concatenate([curve, points[-1:]])


def _linear(points: np.ndarray, cell: float) -> np.ndarray:
    pieces = []
    for a, b in pairwise(points):
        n = max(1, int(np.ceil(np.linalg.norm(b - a) / cell)))
        pieces.append(a + (b - a) * np.linspace(0, 1, n, endpoint=False)[:, None])
    return np.concatenate([*pieces, points[-1:]])


def lathe(profile: Points, cell: float, smooth: bool = True, segments: int | None = None) -> Mesh:
    """Return a surface of revolution about z; the profile of [radius, z] has the solid on its left.

    That is from the bottom's centre outwards and up. A repeated point makes a sharp edge; ``smooth: false``
    makes every point one.
    """
    points = np.asarray(profile, float).reshape(-1, 2)
    runs, start = [], 0
    for i in range(1, len(points)):
        if np.allclose(points[i], points[i - 1]):
            runs.append(points[start:i])
            start = i
    runs.append(points[start:])
    if not smooth:
        runs = [run[i : i + 2] for run in runs for i in range(len(run) - 1)]
    widest = points[:, 0].max()
    n = segments or int(np.clip(np.ceil(2 * np.pi * widest / cell), 20, 240))
    angle = np.linspace(0, 2 * np.pi, n + 1)
    cos, sin = np.cos(angle), np.sin(angle)
    cos[-1], sin[-1] = 1.0, 0.0
    pieces, length = [], 0.0
    for run in runs:
        if len(run) < 2:
            continue
        curve = _catmull_rom(run, cell) if smooth and len(run) > 2 else _linear(run, cell)
        curve[:, 0] = np.maximum(curve[:, 0], 0)
        tangent = np.gradient(curve, axis=0)
        outward = np.stack([tangent[:, 1], -tangent[:, 0]], 1)
        outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-12)
        along = length + np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
        length = along[-1]
        vertices = np.stack(
            [curve[:, :1] * cos, curve[:, :1] * sin, np.repeat(curve[:, 1:], n + 1, 1)], -1
        ).reshape(-1, 3)
        normals = np.stack(
            [outward[:, :1] * cos, outward[:, :1] * sin, np.repeat(outward[:, 1:], n + 1, 1)], -1
        ).reshape(-1, 3)
        uv = np.stack(np.broadcast_arrays(angle[None] * widest, along[:, None]), -1).reshape(-1, 2)
        faces = _drop_degenerate(vertices, _grid_faces(len(curve), n + 1))
        pieces.append(Mesh(vertices, faces, normals, uv))
    return join(pieces)


def sphere(radius: float, cell: float) -> Mesh:
    """Return a sphere around the origin."""
    n = int(np.clip(np.ceil(np.pi * radius / cell), 10, 90))
    angle = np.linspace(-np.pi / 2, np.pi / 2, n + 1)
    profile = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    mesh = lathe(profile, cell=np.pi * radius / n * 1.01)
    return Mesh(
        mesh.vertices, mesh.faces, mesh.vertices / np.linalg.norm(mesh.vertices, axis=1)[:, None], mesh.uv
    )


def cylinder(
    radius: float, height: float, cell: float, top: float | None = None, segments: int | None = None
) -> Mesh:
    """Return a cylinder, or a truncated cone with ``top`` radius, that stands on z = 0."""
    upper = radius if top is None else top
    return lathe([[0, 0], [radius, 0], [upper, height], [0, height]], cell, smooth=False, segments=segments)


def torus(radius: float, thickness: float, cell: float) -> Mesh:
    """Return a ring in xy: ``radius`` to the middle of a tube of radius ``thickness``."""
    angle = np.linspace(-np.pi, np.pi, 25)
    return lathe(np.stack([radius + thickness * np.cos(angle), thickness * np.sin(angle)], 1), cell)


def disc(radius: float, cell: float, growth: float = 0.0, height: float = 0.0) -> Mesh:
    """Return a disc facing up; rings widen by ``growth`` x radius, so that far ground stays cheap."""
    radii = [0.0]
    while radii[-1] < radius:
        radii.append(radii[-1] + cell + growth * radii[-1])
    rings = np.array(radii) * (radius / radii[-1])
    n = int(np.clip(2 * np.pi * radius / (cell + growth * radius), 24, 360))
    angle = np.linspace(0, 2 * np.pi, n + 1)
    vertices = np.stack(
        [
            rings[:, None] * np.cos(angle),
            rings[:, None] * np.sin(angle),
            np.full((len(rings), n + 1), height),
        ],
        -1,
    ).reshape(-1, 3)
    faces = _drop_degenerate(vertices, _grid_faces(len(rings), n + 1))[:, ::-1]
    return Mesh(vertices, faces, np.tile([0.0, 0, 1], (len(vertices), 1)), vertices[:, :2].copy())


def tube(
    points: Points, radius: float | Sequence[float], cell: float, closed: bool = False, sides: int = 14
) -> Mesh:
    """Return a tube swept along a smooth curve through ``points``; ``radius`` may be given per point."""
    p = np.asarray(points, float)
    radii = np.broadcast_to(np.asarray(radius, float), (len(p),))
    curve4 = _catmull_rom(np.concatenate([p, radii[:, None]], 1), cell, closed)
    if closed:
        curve4 = np.concatenate([curve4, curve4[:1]])
    curve, r = curve4[:, :3], np.maximum(curve4[:, 3], 1e-4)
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    side = np.cross(tangent[0], np.eye(3)[np.argmin(np.abs(tangent[0]))])
    sides_at = []
    for t in tangent:
        side = side - t * (side @ t)
        side /= np.linalg.norm(side)
        sides_at.append(side)
    a = np.array(sides_at)
    b = np.cross(tangent, a)
    angle = np.linspace(0, 2 * np.pi, sides + 1)
    around = a[:, None] * np.cos(angle)[:, None] + b[:, None] * np.sin(angle)[:, None]
    vertices = (curve[:, None] + r[:, None, None] * around).reshape(-1, 3)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    uv = np.stack(np.broadcast_arrays(angle[None] * r.mean(), along[:, None]), -1).reshape(-1, 2)
    body = Mesh(vertices, _grid_faces(len(curve), sides + 1), around.reshape(-1, 3), uv)
    if closed:
        return body
    caps = []
    for end, sign in ((0, -1.0), (len(curve) - 1, 1.0)):
        rim = vertices.reshape(len(curve), sides + 1, 3)[end]
        fan = np.stack([np.zeros(sides, int), np.arange(1, sides + 1), np.arange(2, sides + 2)], 1)
        caps.append(
            Mesh(
                np.concatenate([curve[end : end + 1], rim]),
                fan if sign > 0 else fan[:, ::-1],
                np.tile(sign * tangent[end], (sides + 2, 1)),
                np.tile(uv[end * (sides + 1)], (sides + 2, 1)),
            )
        )
    return join([body, *caps])


def cushion(size: Sequence[float], cell: float, roundness: float = 0.35) -> Mesh:
    """Return a soft box (superellipsoid) that stands on z = 0; ``roundness`` 1 is an ellipsoid, 0 a box."""
    half = np.asarray(size, float) / 2
    n = int(np.clip(np.ceil(max(size) * 2 / cell), 16, 100))
    # A cube's six grids pushed onto the superellipsoid keep the triangles even.
    t = np.linspace(-1, 1, n // 2 + 1)
    pieces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v = np.meshgrid(t, t)
            p = np.empty((u.size, 3))
            p[:, axis], p[:, (axis + 1) % 3], p[:, (axis + 2) % 3] = sign, u.ravel(), v.ravel()
            power = 2 / max(roundness, 0.05)
            p /= (np.abs(p) ** power).sum(1, keepdims=True) ** (1 / power)
            gradient = np.sign(p) * np.abs(p) ** (power - 1) / half
            faces = _grid_faces(len(t), len(t))
            vertices = p * half
            uv = vertices[:, [i for i in range(3) if i != axis]]
            normals = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
            pieces.append(
                Mesh(vertices + [0, 0, half[2]], faces if sign > 0 else faces[:, ::-1], normals, uv)
            )
    return join(pieces)


def blob(radius: float, cell: float, roughness: float = 0.2, seed: int = 0, feature: float = 0.5) -> Mesh:
    """Return a sphere with noisy bumps, for foliage and rocks; ``feature`` is relative to the radius."""
    import trimesh

    levels = int(np.clip(np.ceil(np.log2(1.1 * radius / cell)), 2, 6))
    ball = trimesh.creation.icosphere(subdivisions=levels)
    bump = fbm((ball.vertices / feature + 17.3 * seed).astype(np.float32), octaves=3) - 0.5
    vertices = ball.vertices * (radius * (1 + 2 * roughness * bump[:, None]))
    mesh = trimesh.Trimesh(vertices, ball.faces, process=False)
    normals = np.array(mesh.vertex_normals)
    angle = np.arctan2(ball.vertices[:, 1], ball.vertices[:, 0])
    return Mesh(vertices, np.array(ball.faces), normals, np.stack([angle * radius, vertices[:, 2]], 1))


def wall(length: float, height: float, thickness: float, cell: float, openings: Points = ()) -> Mesh:
    """Return a wall along x from 0, ``thickness`` around y = 0, with ``openings`` [x0, x1, z0, z1]."""
    holes = sorted([float(v) for v in hole] for hole in openings)
    pieces, x = [], 0.0
    for x0, x1, z0, z1 in holes:
        if x0 > x:
            pieces.append((x, x0, 0.0, height))
        if z0 > 0:
            pieces.append((x0, x1, 0.0, z0))
        if z1 < height:
            pieces.append((x0, x1, z1, height))
        x = x1
    if x < length:
        pieces.append((x, length, 0.0, height))
    meshes = []
    for x0, x1, z0, z1 in pieces:
        a = np.array([x0, -thickness / 2, z0])
        X, Y, Z = np.diag([x1 - x0, thickness, z1 - z0])
        sides = [(a + Z, X, Y), (a, Y, X), (a, X, Z), (a + Y, Z, X), (a, Z, Y), (a + X, Y, Z)]
        meshes += [_rect(*side, cell) for side in sides]
    return join(meshes)


def _strip(lower: np.ndarray, upper: np.ndarray, normals: np.ndarray, cell: float) -> Mesh:
    """Return the surface between two curves of N points each; ``normals`` (N, 3) belong to the points."""
    n = max(1, int(np.ceil(np.linalg.norm(upper - lower, axis=1).max() / cell)))
    t = np.linspace(0, 1, n + 1)[:, None, None]
    vertices = (lower + t * (upper - lower)).reshape(-1, 3)
    normal = np.broadcast_to(normals, (n + 1, *normals.shape)).reshape(-1, 3)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lower, axis=0), axis=1))])
    uv = np.stack(
        np.broadcast_arrays(along[None], t[:, :, 0] * np.linalg.norm(upper - lower, axis=1).mean()), -1
    )
    faces = _drop_degenerate(vertices, _grid_faces(n + 1, len(lower)))
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    if np.einsum("ij,ij->", np.cross(b - a, c - a), normal[faces[:, 0]]) < 0:
        faces = faces[:, ::-1]
    return Mesh(vertices, faces, normal, uv.reshape(-1, 2))


def arch(width: float, height: float, thickness: float, radius: float, spring: float, cell: float) -> Mesh:
    """Return a wall panel along x with a round arch in its middle, ``spring`` is where the arch begins."""
    angle = np.linspace(0, np.pi, max(17, int(np.pi * radius / cell) | 1))
    curve = np.stack([radius * np.cos(angle), spring + radius * np.sin(angle)], 1)
    outline = _project_to_frame(curve, angle, width / 2, height, spring)
    legs_x = [(radius, width / 2), (-width / 2, -radius)]
    pieces = []
    for sign in (-1.0, 1.0):
        y = sign * thickness / 2
        normal = np.tile([0, sign, 0], (len(curve), 1))
        front = [np.stack([c[:, 0], np.full(len(c), y), c[:, 1]], 1) for c in (curve, outline)]
        spandrel = _strip(front[0], front[1], normal, cell)
        pieces.append(Mesh(spandrel.vertices, spandrel.faces, spandrel.normals, spandrel.vertices[:, [0, 2]]))
        for x0, x1 in legs_x:
            if sign < 0:
                pieces.append(_rect((x0, y, 0), (x1 - x0, 0, 0), (0, 0, spring), cell))
            else:
                pieces.append(_rect((x0, y, 0), (0, 0, spring), (x1 - x0, 0, 0), cell))
    inner = [
        np.stack([curve[:, 0], np.full(len(curve), y), curve[:, 1]], 1)
        for y in (-thickness / 2, thickness / 2)
    ]
    toward = np.stack([-np.cos(angle), np.zeros_like(angle), -np.sin(angle)], 1)
    pieces.append(_strip(inner[0], inner[1], toward, cell))
    depth, up, t = np.array([0, thickness, 0.0]), np.array([0, 0, float(spring)]), thickness / 2
    pieces.append(_rect((radius, -t, 0), up, depth, cell))
    pieces.append(_rect((-radius, -t, 0), depth, up, cell))
    full = np.array([0, 0, float(height)])
    pieces.append(_rect((width / 2, -t, 0), depth, full, cell))
    pieces.append(_rect((-width / 2, -t, 0), full, depth, cell))
    pieces.append(_rect((-width / 2, -t, height), (width, 0, 0), depth, cell))
    return join(pieces)


def _project_to_frame(
    curve: np.ndarray, angle: np.ndarray, half: float, height: float, spring: float
) -> np.ndarray:
    """Shoot from the arch's centre through each point to the panel's rectangular outline."""
    direction = np.stack([np.cos(angle), np.sin(angle)], 1)
    with np.errstate(divide="ignore"):
        reach = np.minimum(half / np.abs(direction[:, 0]), (height - spring) / np.abs(direction[:, 1]))
    outline = direction * reach[:, None] + [0, spring]
    # The nearest points move into the two corners, so that the outline is exact.
    for corner in ([half, height], [-half, height]):
        outline[np.argmin(np.linalg.norm(outline - corner, axis=1))] = corner
    return outline


def prism(size: Sequence[float], cell: float) -> Mesh:
    """Return a gable roof on z = 0: ridge along x, ``size`` = [x, y, ridge height]."""
    x, y, z = (float(v) for v in size)
    slopes = [
        _rect((-x / 2, -y / 2, 0), (x, 0, 0), (0, y / 2, z), cell),
        _rect((x / 2, y / 2, 0), (-x, 0, 0), (0, -y / 2, z), cell),
    ]
    for mesh in slopes:
        mesh.normals[:] /= np.linalg.norm(mesh.normals[0])
    ends = []
    for sign in (-1.0, 1.0):
        base = np.stack([np.full(9, sign * x / 2), np.linspace(-y / 2, y / 2, 9), np.zeros(9)], 1)
        top = base.copy()
        top[:, 2] = z * (1 - np.abs(base[:, 1]) / (y / 2))
        ends.append(_strip(base, top, np.tile([sign, 0, 0], (9, 1)), cell))
    return join([*slopes, *ends, _rect((-x / 2, -y / 2, 0), (0, y, 0), (x, 0, 0), cell)])


def hills(
    inner: float,
    outer: float,
    height: float,
    cell: float,
    seed: int = 0,
    feature: float = 60.0,
    segments: int = 240,
) -> Mesh:
    """Return a ring of hills from radius ``inner`` (height 0) to ``outer``, facing up and inwards."""
    import trimesh

    angle = np.linspace(0, 2 * np.pi, segments + 1)
    rings = np.linspace(0, 1, 24)
    radius = inner + (outer - inner) * rings[:, None]
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    p = np.stack([x, y, np.full_like(x, 31.7 * seed)], -1).reshape(-1, 3) / feature
    lift = fbm(p.astype(np.float32), octaves=4).reshape(x.shape)
    z = height * np.clip(1.6 * lift - 0.25, 0.03, None) * np.sin(rings * np.pi / 2)[:, None] ** 1.5
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    faces = _grid_faces(len(rings), segments + 1)[:, ::-1]
    normals = np.array(trimesh.Trimesh(vertices, faces, process=False).vertex_normals)
    return Mesh(vertices, faces, normals, vertices[:, :2].copy())


SHAPES: dict[str, Callable[..., Mesh]] = {
    "arch": arch, "blob": blob, "box": box, "cushion": cushion, "cylinder": cylinder, "disc": disc,
    "hills": hills, "lathe": lathe, "plane": plane, "prism": prism, "sphere": sphere, "torus": torus,
    "tube": tube, "wall": wall,
}  # fmt: skip
