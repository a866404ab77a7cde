"""MSN-like scenes: generated meshes with procedural colours, cast with Embree.

Stands in for the published MultiShapeNet, whose models may not be shipped: every object is a random assembly of
boxes, cylinders, cones, capsules, tori and lathe shapes, scaled to a side of 2 units as there, with a pattern of
its own, on a patterned floor below a sky of its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh

from smerf.errors import MissingPartError, UsageError
from smerf.objects.cameras import look_at, view_rays
from smerf.objects.data.scenes import SceneSet

__all__ = ["MESH_RECIPES", "MeshRecipe", "generate_mesh_scenes", "random_object"]

_SKIN = 1e-3
_FAR = 60.0
"""Where the floor ends, in world units."""


@dataclass(frozen=True)
class MeshRecipe:
    """How scenes of meshes are made; lengths in world units, angles in degrees."""

    name: str = "msn"
    """The recipe that the rest began as."""
    objects: tuple[int, int] = (4, 8)
    """Minimum and maximum number of objects."""
    side: float = 2.0
    """Longest side of an object."""
    spread: float = 4.0
    """Objects stand within this distance of the centre along x and y."""
    views: int = 10
    """Views of each scene."""
    size: tuple[int, int] = (128, 128)
    """Height and width of the images."""
    distance: tuple[float, float] = (8.0, 12.0)
    """Cameras lie in this half-shell around the origin, which they look at."""
    lowest: float = 2.0
    """Minimum height of a camera."""
    fov: float = 49.13
    """Horizontal field of view: 35 mm focal length on a 32 mm sensor."""


MESH_RECIPES = {"msn": MeshRecipe()}
"""Recipes of ``smerf objects synth`` that are made of meshes."""


def generate_mesh_scenes(
    recipe: MeshRecipe,
    count: int,
    seed: int = 0,
    *,
    depth: bool = False,
    progress: Callable[..., None] | None = None,
) -> SceneSet:
    """Make scenes of meshes; each scene depends on the seed and its own number alone.

    Args:
        recipe: What they look like.
        count: Number of scenes.
        seed: Random seed.
        depth: Keep the distance along each ray; the sky's is infinite.
        progress: Called as ``progress(done, count)``.

    Raises:
        MissingPartError: If embreex is not installed.
        UsageError: If the objects do not fit.
    """
    parts = []
    for number in range(count):
        parts.append(_scene(recipe, np.random.default_rng([seed, number])))
        if progress:
            progress(number + 1, count)
    rgb, seg, poses, far = (torch.stack(part) for part in zip(*parts))
    fov_x = torch.full(poses.shape[:2], math.radians(recipe.fov))
    source = {"kind": "generated", "seed": seed, "recipe": dataclasses.asdict(recipe)}
    return SceneSet(rgb, seg, poses, fov_x, far.half() if depth else None, source)


def random_object(rng: np.random.Generator, side: float) -> trimesh.Trimesh:
    """Return a random upright assembly of 1 to 4 simple solids, standing on z = 0, longest side ``side``."""
    pieces = []
    height = 0.0
    for _ in range(int(rng.integers(1, 5))):
        piece = _solid(rng)
        piece.apply_scale(rng.uniform(0.5, 1.0, 3))
        piece.apply_translation([*(0.25 * rng.normal(size=2)), height - 0.8 * piece.bounds[0, 2]])
        height = piece.bounds[1, 2] - 0.15 * rng.random()
        pieces.append(piece)
    mesh = trimesh.util.concatenate(pieces)
    mesh.apply_transform(trimesh.transformations.rotation_matrix(rng.uniform(0, 2 * np.pi), [0, 0, 1]))
    mesh.apply_scale(side / mesh.extents.max())
    middle = mesh.bounds.mean(0)
    mesh.apply_translation([-middle[0], -middle[1], -mesh.bounds[0, 2]])
    return mesh


def _solid(rng: np.random.Generator) -> trimesh.Trimesh:
    kind = rng.integers(6)
    if kind == 0:
        return trimesh.creation.box(rng.uniform(0.5, 1.5, 3))
    if kind == 1:
        return trimesh.creation.cylinder(rng.uniform(0.2, 0.7), rng.uniform(0.3, 1.6), sections=24)
    if kind == 2:
        return trimesh.creation.cone(rng.uniform(0.4, 0.8), rng.uniform(0.6, 1.4), sections=24)
    if kind == 3:
        return trimesh.creation.capsule(rng.uniform(0.3, 1.0), rng.uniform(0.2, 0.5), count=[16, 16])
    if kind == 4:
        return trimesh.creation.torus(rng.uniform(0.5, 0.8), rng.uniform(0.1, 0.25), 24, 12)
    heights = np.linspace(0.0, rng.uniform(0.8, 1.6), 8)
    return trimesh.creation.revolve(np.stack([rng.uniform(0.15, 0.7, 8), heights], 1), sections=24)


@dataclass(frozen=True)
class _Pattern:
    """A procedural colour: two colours mixed by a wave in object space."""

    first: np.ndarray
    second: np.ndarray
    wave: np.ndarray
    hardness: float

    def at(self, points: np.ndarray) -> np.ndarray:
        fraction = 0.5 + 0.5 * np.tanh(self.hardness * np.sin(points @ self.wave).prod(-1))
        return self.first + fraction[:, None] * (self.second - self.first)


def _pattern(rng: np.random.Generator, contrast: float) -> _Pattern:
    first = rng.uniform(0.1, 0.95, 3)
    second = np.clip(first + contrast * rng.normal(size=3), 0.05, 1.0)
    return _Pattern(first, second, rng.normal(size=(3, 2)) * 5.0, rng.uniform(1.0, 8.0))


class _Geometry:
    """The meshes of a scene in an Embree tree."""

    def __init__(self, meshes: list[trimesh.Trimesh]) -> None:
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            raise MissingPartError("scenes of meshes need embreex: pip install embreex") from error
        vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32)
        starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes])
        faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts)]).astype(np.int32)
        self.owner = np.concatenate([np.full(len(mesh.faces), i) for i, mesh in enumerate(meshes)])
        self.normals = np.concatenate([mesh.face_normals for mesh in meshes])
        self.middles = np.stack([mesh.bounds.mean(0) for mesh in meshes])
        self._tree = rtcore_scene.EmbreeScene()
        # Embree does not keep the mesh alive.
        self._mesh = TriangleMesh(self._tree, vertices, faces)

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> _Surface:
        """Return what rays (R, 3) float32 meet: an object, the floor z = 0, or the sky."""
        found = self._tree.run(origins, directions, output=1)
        down = np.minimum(directions[:, 2], -1e-9)
        floor_t = np.where(directions[:, 2] < -1e-4, -origins[:, 2] / down, np.inf)
        hit = (found["primID"] >= 0) & (found["tfar"] < floor_t)
        face = np.where(hit, found["primID"], 0)
        t = np.where(hit, found["tfar"], np.where(floor_t < _FAR, floor_t, np.inf))
        point = origins + directions * np.where(np.isfinite(t), t, 0.0)[:, None]
        normal = np.where(hit[:, None], self.normals[face], np.array([0.0, 0.0, 1.0]))
        normal = np.where((normal * directions).sum(-1, keepdims=True) > 0, -normal, normal)
        return _Surface(t, point, normal, np.where(hit, self.owner[face] + 1, 0))

    def is_blocked(self, start: np.ndarray, light: np.ndarray) -> np.ndarray:
        """Return whether a mesh lies between points (N, 3) float32 and the light in direction (3,)."""
        sun = np.broadcast_to(light.astype(np.float32), start.shape)
        return self._tree.run(start, np.ascontiguousarray(sun), query="OCCLUDED") >= 0


@dataclass(frozen=True)
class _Surface:
    """What R rays meet: distance ``t``, infinite for the sky; ``label`` 0 floor or sky, n + 1 object n."""

    t: np.ndarray
    point: np.ndarray
    normal: np.ndarray
    label: np.ndarray


def _scene(recipe: MeshRecipe, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Return one scene: rgb, seg, poses and distances of its views."""
    count = int(rng.integers(recipe.objects[0], recipe.objects[1] + 1))
    meshes = [random_object(rng, recipe.side * rng.uniform(0.6, 1.0)) for _ in range(count)]
    _place(meshes, recipe, rng)
    geometry = _Geometry(meshes)
    patterns = [_pattern(rng, 0.5) for _ in range(count + 1)][:count]
    patterns.append(_pattern(rng, 0.15))
    poses = _cameras(recipe, rng)
    fov = torch.full((recipe.views,), math.radians(recipe.fov))
    origins, directions = (
        np.ascontiguousarray(x.reshape(-1, 3).numpy(), np.float32) for x in view_rays(poses, fov, recipe.size)
    )
    surface = geometry.cast(origins, directions)
    colour = _shade(geometry, surface, directions, patterns, rng)
    shape = (recipe.views, *recipe.size)
    rgb = np.rint(np.clip(colour, 0.0, 1.0) * 255.0).astype(np.uint8).reshape(*shape, 3)
    seg = surface.label.astype(np.uint8).reshape(shape)
    depth = surface.t.astype(np.float32).reshape(shape)
    return torch.from_numpy(rgb), torch.from_numpy(seg), poses, torch.from_numpy(depth)


def _shade(
    geometry: _Geometry,
    surface: _Surface,
    directions: np.ndarray,
    patterns: list[_Pattern],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the colours (R, 3) under a random sun and sky; ``patterns`` are those of the objects, then the floor's."""
    light = rng.normal(size=3) * [0.6, 0.6, 0.0] + [0.0, 0.0, 1.0]
    light /= np.linalg.norm(light)
    horizon, zenith = rng.uniform(0.5, 0.95, 3), rng.uniform(0.3, 0.9, 3)
    up = np.clip(directions[:, 2:], 0.0, 1.0)
    colour = horizon * (1.0 - up) + zenith * up
    met = np.flatnonzero(np.isfinite(surface.t))
    point, normal, label = surface.point[met], surface.normal[met], surface.label[met]
    blocked = geometry.is_blocked((surface.point + _SKIN * surface.normal)[met].astype(np.float32), light)
    facing = np.clip(normal @ light, 0.0, 1.0) * ~blocked
    albedo = patterns[-1].at(point)
    for index, (pattern, middle) in enumerate(zip(patterns, geometry.middles)):
        mine = label == index + 1
        albedo[mine] = pattern.at(point[mine] - middle)
    colour[met] = albedo * (0.4 + 0.65 * facing)[:, None]
    # Far floor fades into the sky, which hides its edge.
    floor = met[label == 0]
    fade = np.clip(surface.t[floor] / _FAR, 0.0, 1.0)[:, None] ** 2
    colour[floor] = colour[floor] * (1.0 - fade) + horizon * fade
    return colour


def _place(meshes: list[trimesh.Trimesh], recipe: MeshRecipe, rng: np.random.Generator) -> None:
    """Move meshes apart on the floor, in place."""
    radii = [np.linalg.norm(mesh.vertices[:, :2], axis=1).max() for mesh in meshes]
    for _ in range(50):
        places: list[np.ndarray] = []
        for radius in radii:
            for _ in range(100):
                place = rng.uniform(-recipe.spread, recipe.spread, 2)
                if all(np.linalg.norm(place - p) > radius + r for p, r in zip(places, radii)):
                    places.append(place)
                    break
        if len(places) == len(meshes):
            for mesh, place in zip(meshes, places):
                mesh.apply_translation([*place, 0.0])
            return
    raise UsageError(
        f"recipe {recipe.name}: {len(meshes)} objects do not fit within {recipe.spread} of the centre"
    )


def _cameras(recipe: MeshRecipe, rng: np.random.Generator) -> torch.Tensor:
    """Return poses (views, 3, 4) that look at the origin."""
    centres: list[np.ndarray] = []
    while len(centres) < recipe.views:
        centre = rng.uniform(-recipe.distance[1], recipe.distance[1], 3)
        radius = np.linalg.norm(centre)
        # Not from right above: a level camera cannot look down.
        if recipe.distance[0] <= radius <= recipe.distance[1] and recipe.lowest <= centre[2] < 0.95 * radius:
            centres.append(centre)
    return look_at(torch.from_numpy(np.stack(centres).astype(np.float32)))
