"""Diffuse light baked to the vertices: area lights, sun, sky and several bounces, once per scene.

Diffuse light does not depend on the camera, so it is computed once with many rays per vertex and looked up by
every view: no noise from frame to frame, soft shadows and colour bleeding at no cost per frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import sparse

from smerf.capture.synth.assemble import World, light_frame, sun_direction
from smerf.capture.synth.describe import Light, SceneSpec
from smerf.capture.synth.textures import albedo
from smerf.capture.synth.tracer import Caster, sky_radiance

__all__ = ["bake_irradiance"]

CHUNK = 4096


def bake_irradiance(
    spec: SceneSpec, world: World, caster: Caster, seed: int, rays: int = 100, workers: int = 2
) -> np.ndarray:
    """Return the irradiance over pi (V, 3) float32 at every vertex, the radiance of a white surface there.

    ``rays`` (a square number) is spent on the hemisphere of each vertex, and 16 on each light. Vertices
    inside other objects are recognised by the back faces around them and take the light of their neighbours.
    """
    side = round(rays**0.5)
    points = _inset_vertices(world)
    epsilon = 2e-4 * max(1.0, float(np.abs(world.vertices).max()) / 50)
    points += world.normals * np.float32(epsilon)
    corners = world.vertices[world.faces]
    face_normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).astype(np.float32)
    sun = sun_direction(spec.lights)
    count = len(points)
    direct, sky = np.zeros((count, 3), np.float32), np.zeros((count, 3), np.float32)
    seen = np.full((count, side * side), -1, np.int32)
    buried = np.zeros(count, bool)

    def work(start: int) -> None:
        rng = np.random.default_rng([seed, start])
        part = slice(start, min(start + CHUNK, count))
        position, normal = points[part], world.normals[part]
        for light in spec.lights:
            direct[part] += _direct(light, caster, position, normal, rng)
        directions = _hemisphere(normal, side, rng)
        origins = np.repeat(position, side * side, 0)
        hits = caster.cast(origins, directions)
        missed = np.flatnonzero(hits.face < 0)
        if len(missed):
            radiance = np.zeros((len(directions), 3), np.float32)
            radiance[missed] = sky_radiance(spec.sky, directions[missed], sun)
            sky[part] = radiance.reshape(-1, side * side, 3).mean(1)
        seen[part] = hits.face.reshape(-1, side * side)
        behind = (np.einsum("ij,ij->i", face_normal[hits.face], directions) > 0) & (hits.face >= 0)
        behind &= ~world.face_light[hits.face]
        buried[part] = behind.reshape(-1, side * side).mean(1) > 0.3

    _parallel(work, range(0, count, CHUNK), workers)
    neighbours = _adjacency(world)
    direct = _fill(direct, buried, neighbours)
    color, emitted = _vertex_colors(world)
    indirect = np.zeros_like(direct)
    for _ in range(spec.bounces):
        radiosity = color * (direct + indirect) + emitted
        leaving = radiosity[world.faces].mean(1)
        leaving[world.face_light] = 0  # sampled as lights already
        leaving = np.concatenate(
            [leaving, np.zeros((1, 3), np.float32)]
        )  # the last row serves misses, face -1
        gathered = np.empty_like(direct)

        def gather(start: int, leaving: np.ndarray = leaving, gathered: np.ndarray = gathered) -> None:
            part = slice(start, start + CHUNK)
            gathered[part] = sky[part] + leaving[seen[part]].mean(1)

        _parallel(gather, range(0, count, CHUNK), workers)
        indirect = _smooth(_fill(gathered, buried, neighbours), neighbours, passes=3)
    return _smooth(direct, neighbours, passes=1) + indirect


def _parallel(work: Callable[[int], None], items: Iterable[int], workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, items))


def _inset_vertices(world: World) -> np.ndarray:
    """Move vertices a quarter of the way to the middle of their faces, off their edges."""
    centroid = world.vertices[world.faces].mean(1)
    total = np.zeros((len(world.vertices), 3), np.float64)
    count = np.zeros(len(world.vertices))
    for k in range(3):
        np.add.at(total, world.faces[:, k], centroid)
        np.add.at(count, world.faces[:, k], 1)
    middle = total / np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, 0.75 * world.vertices + 0.25 * middle, world.vertices).astype(
        np.float32
    )


def _basis(normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    helper = np.where(np.abs(normal[:, :1]) < 0.6, [[1.0, 0, 0]], [[0, 1.0, 0]]).astype(np.float32)
    tangent = np.cross(helper, normal)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return tangent, np.cross(normal, tangent)


def _strata(side: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return ``side``^2 stratified points of the unit square for ``count`` places; two (count, side^2)."""
    i, j = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    jitter = rng.random((2, count, side * side), dtype=np.float32)
    return (i.ravel() + jitter[0]) / np.float32(side), (j.ravel() + jitter[1]) / np.float32(side)


def _hemisphere(normal: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Return cosine-weighted directions around each normal: (N * side^2, 3) float32."""
    s, t = _strata(side, len(normal), rng)
    radius, angle = np.sqrt(s), np.float32(2 * np.pi) * t
    tangent, bitangent = _basis(normal)
    directions = (
        (radius * np.cos(angle))[..., None] * tangent[:, None]
        + (radius * np.sin(angle))[..., None] * bitangent[:, None]
        + np.sqrt(np.maximum(1 - s, 1e-4))[..., None] * normal[:, None]
    )
    return directions.reshape(-1, 3).astype(np.float32)


def _direct(
    light: Light,
    caster: Caster,
    position: np.ndarray,
    normal: np.ndarray,
    rng: np.random.Generator,
    side: int = 4,
) -> np.ndarray:
    """Return the direct irradiance over pi (N, 3) from one light with ``side``^2 shadow rays per place."""
    s, t = _strata(side, len(position), rng)
    if light.kind == "sun":
        toward = np.asarray(light.direction, np.float32)
        toward = toward / np.linalg.norm(toward)
        tangent, bitangent = _basis(toward[None])
        radius, angle = np.sqrt(s) * np.float32(np.tan(np.radians(light.angle))), np.float32(2 * np.pi) * t
        rays = (
            toward
            + (radius * np.cos(angle))[..., None] * tangent
            + (radius * np.sin(angle))[..., None] * bitangent
        )
        weight = np.clip(np.einsum("nki,ni->nk", rays, normal), 0, None)
        reach = 1e5
    else:
        right, up, facing = (axis.astype(np.float32) for axis in light_frame(light))
        target = (
            np.asarray(light.center, np.float32) + facing * np.float32(2e-3)
            + ((s - 0.5) * light.size[0])[..., None] * right + ((t - 0.5) * light.size[1])[..., None] * up
        ).astype(np.float32)  # fmt: skip
        rays = target - position[:, None]
        square = np.maximum(np.einsum("nki,nki->nk", rays, rays), 1e-4)
        cosines = np.clip(np.einsum("nki,ni->nk", rays, normal), 0, None) * np.clip(-(rays @ facing), 0, None)
        weight = cosines / (square * square) * np.float32(light.size[0] * light.size[1] / np.pi)
        reach = 0.999
    weight = weight.astype(np.float32)
    weight[weight.max(1) * light.strength < 1e-3] = 0
    # Four spread rays first: a light that none of them reaches counts as hidden. Indoors most lights are.
    probe = np.zeros(side * side, bool)
    probe[[1, side + 3, 2 * side, 3 * side + 2]] = True
    _hide_blocked(weight, rays, position, probe, caster, reach)
    weight[~(weight[:, probe] > 0).any(1)] = 0
    _hide_blocked(weight, rays, position, ~probe, caster, reach)
    amount = weight.reshape(-1, side * side).mean(1)
    return amount[:, None] * (np.asarray(light.color, np.float32) * np.float32(light.strength))


def _hide_blocked(
    weight: np.ndarray,
    rays: np.ndarray,
    position: np.ndarray,
    columns: np.ndarray,
    caster: Caster,
    reach: float,
) -> None:
    """Set to 0 the ``weight`` (N, K) of those rays (N, K, 3) in ``columns`` (K,) that meet a surface."""
    row, column = np.nonzero((weight > 0) & columns)
    if len(row):
        blocked = caster.occluded(position[row], rays[row, column], reach)
        weight[row[blocked], column[blocked]] = 0


def _adjacency(world: World) -> sparse.csr_matrix:
    """Return the row-normalised matrix (V, V) that averages each vertex with its neighbours."""
    f = world.faces
    rows = np.concatenate([f[:, 0], f[:, 1], f[:, 2], f[:, 1], f[:, 2], f[:, 0]])
    cols = np.concatenate([f[:, 1], f[:, 2], f[:, 0], f[:, 0], f[:, 1], f[:, 2]])
    n = len(world.vertices)
    graph = sparse.coo_matrix((np.ones(len(rows), np.float32), (rows, cols)), (n, n)).tocsr()
    graph.data[:] = 1
    return graph


def _smooth(values: np.ndarray, graph: sparse.csr_matrix, passes: int) -> np.ndarray:
    degree = np.asarray(graph.sum(1)) + 1
    for _ in range(passes):
        values = (values + graph @ values) / degree
    return values.astype(np.float32)


def _fill(values: np.ndarray, buried: np.ndarray, graph: sparse.csr_matrix) -> np.ndarray:
    """Give buried vertices the mean of their lit neighbours, ring by ring."""
    values = np.where(buried[:, None], 0, values).astype(np.float32)
    known = ~buried
    for _ in range(40):
        weight = graph @ known.astype(np.float32)
        ready = ~known & (weight > 0)
        if not ready.any():
            break
        values[ready] = (graph[ready] @ (values * known[:, None])) / weight[ready, None]
        known = known | ready
    return values


def _vertex_colors(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Return texture and emitted radiance at the vertices, two (V, 3) float32."""
    material = np.zeros(len(world.vertices), np.int32)
    for k in range(3):
        material[world.faces[:, k]] = world.face_material
    color = np.zeros((len(material), 3), np.float32)
    emitted = np.zeros_like(color)
    for number, surface in enumerate(world.materials):
        group = np.flatnonzero(material == number)
        if len(group):
            color[group] = albedo(surface.texture, world.local[group], world.uv[group])
            emitted[group] = color[group] * surface.emission
            if surface.metal:
                color[group] *= 0.7
    return color, emitted
