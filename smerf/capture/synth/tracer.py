"""Ray casting with Embree, shading from baked irradiance, and one glossy bounce."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smerf.capture.synth.assemble import World, light_frame, sun_direction
from smerf.capture.synth.describe import Light, Sky
from smerf.capture.synth.textures import albedo, fbm
from smerf.errors import MissingPartError

__all__ = ["Caster", "Hits", "Shader", "sky_radiance"]


@dataclass(frozen=True)
class Hits:
    """Ray hits, each (N,): ``face`` int32, -1 for a miss; barycentrics ``u``, ``v``; ``distance``.

    ``distance`` counts in lengths of the direction vector; it is infinite for a miss.
    """

    face: np.ndarray
    u: np.ndarray
    v: np.ndarray
    distance: np.ndarray


class Caster:
    """The Embree scene of a world. Safe to use from several threads."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        """Build the search structure from vertices (V, 3) float32 and faces (F, 3) int32."""
        try:
            from embreex import rtcore_scene
            from embreex.mesh_construction import TriangleMesh
        except ImportError as error:
            raise MissingPartError("casting rays at triangles needs embreex: pip install embreex") from error
        self._scene = rtcore_scene.EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(vertices), np.ascontiguousarray(faces))
        self.cast(np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32))

    def cast(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        """Find the nearest surfaces along rays (N, 3) float32; directions need not have unit length."""
        origins = np.ascontiguousarray(np.broadcast_to(origins, directions.shape), np.float32)
        found = self._scene.run(origins, np.ascontiguousarray(directions, np.float32), output=1)
        face = found["primID"]
        return Hits(
            face, found["u"], found["v"], np.where(face >= 0, found["tfar"], np.inf).astype(np.float32)
        )

    def occluded(self, origins: np.ndarray, directions: np.ndarray, reach: float) -> np.ndarray:
        """Say which rays (N, 3) meet a surface before ``reach`` lengths of their direction; (N,) bool."""
        limit = np.full(len(origins), reach, np.float32)
        origins, directions = (np.ascontiguousarray(x, np.float32) for x in (origins, directions))
        return self._scene.run(origins, directions, dists=limit, query="OCCLUDED") >= 0


def sky_radiance(sky: Sky, directions: np.ndarray, sun: np.ndarray | None = None) -> np.ndarray:
    """Return the radiance (N, 3) float32 from beyond all surfaces for unit directions (N, 3).

    ``sun`` (3,) is the unit direction towards the sun: a broad glow surrounds it, without a disc.
    """
    z = directions[:, 2]
    zenith, horizon, ground = (np.asarray(c, np.float32) for c in (sky.zenith, sky.horizon, sky.ground))
    t = np.clip(z, 0, 1)[:, None] ** 0.55
    rgb = horizon * (1 - t) + zenith * t
    if sky.clouds > 0:
        flat = directions / np.maximum(z, 0.0)[:, None].clip(0.06) * np.float32(1.3)
        flat[:, 2] = 3.0
        cover = np.clip((fbm(flat, 4) - 0.62 + 0.25 * sky.clouds) * 4.5, 0, 1) * np.clip(z * 7, 0, 1)
        light = 0.82 + 0.25 * fbm(flat * 2 + 5, 2)
        rgb = rgb + (cover * 0.9)[:, None] * (light[:, None] * np.array([1.0, 0.99, 0.97], np.float32) - rgb)
    if sun is not None:
        glow = np.clip(directions @ sun, 0, 1)
        rgb = rgb + (0.25 * glow**8 + 0.8 * glow**60)[:, None] * np.array([1.0, 0.9, 0.72], np.float32)
    below = np.clip(-z * 12, 0, 1)[:, None]
    return ((rgb * (1 - below) + ground * below) * np.float32(sky.strength)).astype(np.float32)


class Shader:
    """Colour of rays in a world whose diffuse light is already baked."""

    def __init__(
        self, world: World, caster: Caster, irradiance: np.ndarray, sky: Sky, lights: tuple[Light, ...]
    ) -> None:
        """Take ``irradiance`` (V, 3): outgoing diffuse radiance is texture x irradiance."""
        self.world, self.caster, self.sky, self.sun = world, caster, sky, sun_direction(lights)
        self._lights = [light for light in lights if light.kind == "rect" and light.visible]
        # The faces of lights come last, so face numbers are the same without them.
        kept = world.faces[~world.face_light]
        self._without_lights = Caster(world.vertices, kept) if self._lights else caster
        self._attributes = np.concatenate([irradiance, world.normals, world.local, world.uv], 1).astype(
            np.float32
        )
        self._epsilon = np.float32(1e-4 * max(1.0, float(np.abs(world.vertices).max()) / 50))

    def radiance(self, origins: np.ndarray, directions: np.ndarray, wobble: np.ndarray) -> np.ndarray:
        """Return linear radiance (N, 3) along rays; ``wobble`` (N, 3), in the unit ball, jitters bounces."""
        hits = self.caster.cast(origins, directions)
        unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
        color, surface = self._shade(hits, unit)
        if surface is None:
            return color
        index, normal, base, material = surface
        specular = np.array([m.specular for m in self.world.materials], np.float32)[material]
        rough = np.array([m.roughness for m in self.world.materials], np.float32)[material]
        metal = np.array([m.metal for m in self.world.materials])[material]
        glossy = np.flatnonzero((specular > 0) | metal)
        if not len(glossy):
            return color
        ray, normal, rough, metal = index[glossy], normal[glossy], rough[glossy], metal[glossy]
        view = unit[ray]
        cosine = np.clip(-np.einsum("ij,ij->i", view, normal), 0, 1)
        mirrored = _reflect(view, normal)
        bounced = _reflect(view, normal + (rough * rough)[:, None] * wobble[ray])
        # A bent normal may send the ray below the surface: lift it back above.
        bounced -= np.minimum(np.einsum("ij,ij->i", bounced, normal) - 0.02, 0)[:, None] * normal
        bounced /= np.linalg.norm(bounced, axis=1, keepdims=True)
        f0 = np.where(metal[:, None], base[glossy], specular[glossy][:, None])
        grazing = np.maximum(1 - rough[:, None], f0)
        fresnel = f0 + (grazing - f0) * ((1 - cosine) ** 5)[:, None]
        start = origins if origins.ndim == 1 else origins[ray]
        point = start + directions[ray] * hits.distance[ray][:, None] + normal * self._epsilon
        met = self._without_lights.cast(point, bounced)
        reflected, _ = self._shade(met, bounced)
        for light in self._lights:
            fraction = _light_fraction(light, point, mirrored, rough, met.distance)[:, None]
            reflected += fraction * (
                np.asarray(light.color, np.float32) * np.float32(light.strength) - reflected
            )
        color[ray] = np.where(metal[:, None], 0, color[ray] * (1 - fresnel)) + fresnel * reflected
        return color

    def _shade(self, hits: Hits, unit: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return matt and emitted radiance (N, 3), and (ray, normal, texture, material) of the hits."""
        world = self.world
        color = np.zeros((len(unit), 3), np.float32)
        hit = hits.face >= 0
        missed = np.flatnonzero(~hit)
        if len(missed):
            color[missed] = sky_radiance(self.sky, unit[missed], self.sun)
        index = np.flatnonzero(hit)
        if not len(index):
            return color, None
        face = hits.face[index]
        u, v = hits.u[index][:, None], hits.v[index][:, None]
        a, b, c = (self._attributes[world.faces[face, k]] for k in range(3))
        values = a + u * (b - a) + v * (c - a)
        material = world.face_material[face]
        base = np.empty((len(index), 3), np.float32)
        out = np.empty((len(index), 3), np.float32)
        order = np.argsort(material, kind="stable")
        bounds = np.flatnonzero(np.diff(material[order])) + 1
        for group in np.split(order, bounds):
            surface = world.materials[material[group[0]]]
            rgb = albedo(surface.texture, values[group, 6:9], values[group, 9:11])
            base[group] = rgb
            out[group] = rgb * (values[group, 0:3] + np.float32(surface.emission))
        normal = values[:, 3:6]
        normal = normal / np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-9)
        facing = np.einsum("ij,ij->i", normal, unit[index])
        normal = np.where(facing[:, None] > 0, -normal, normal)
        color[index] = out
        return color, (index, normal, base, material)


def _reflect(view: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Mirror unit directions (N, 3) at normals (N, 3) of any length."""
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    return view - 2 * np.einsum("ij,ij->i", view, normal)[:, None] * normal


def _light_fraction(
    light: Light, point: np.ndarray, mirrored: np.ndarray, rough: np.ndarray, distance: np.ndarray
) -> np.ndarray:
    """Return the fraction (N,) of a glossy lobe that a light fills, 0 where a surface at ``distance`` hides it.

    Bright lights reflected by random rays would sparkle; their blurred outline in closed form does not.
    """
    right, up, facing = (axis.astype(np.float32) for axis in light_frame(light))
    offset = np.asarray(light.center, np.float32) - point
    slope = mirrored @ facing
    reach = np.einsum("ij,j->i", offset, facing) / np.where(slope < -1e-4, slope, np.inf)
    # Frames right in front of a light would cut its blurred outline into sparkles: let it shine past them.
    seen = (reach > 0) & (distance > np.float32(0.92) * reach)
    where = mirrored * reach[:, None] - offset
    blur = np.maximum(2 * rough * rough, 0.004) * reach + 1e-6
    fraction = seen.astype(np.float32)
    for axis, size in ((right, light.size[0]), (up, light.size[1])):
        t = np.clip(0.5 + (0.5 * size - np.abs(where @ axis)) / (2 * blur), 0, 1)
        fraction = fraction * (t * t * (3 - 2 * t))
    return fraction.astype(np.float32)
