"""One view of a lit scene: anti-aliased colour, depth and instance ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smerf.capture.synth.assemble import World, build_world
from smerf.capture.synth.describe import SceneSpec
from smerf.capture.synth.lighting import bake_irradiance
from smerf.capture.synth.tracer import Caster, Shader

__all__ = ["Lens", "LitScene", "View", "light_scene", "relight_scene", "render_view"]


@dataclass(frozen=True)
class Lens:
    """A pinhole camera: size, focal length and centre in pixels."""

    width: int
    height: int
    focal: float

    @classmethod
    def from_fov(cls, width: int, height: int, fov: float) -> Lens:
        """Make a lens from the vertical field of view in degrees."""
        return cls(width, height, 0.5 * height / float(np.tan(np.radians(fov) / 2)))

    def directions(self, pose: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return world directions (N, 3) float32 through image points; a length of 1 is 1 m of depth."""
        camera = np.stack(
            [(x - 0.5 * self.width) / self.focal, -(y - 0.5 * self.height) / self.focal, -np.ones_like(x)], 1
        )
        return (camera @ pose[:3, :3].T).astype(np.float32)


@dataclass(frozen=True)
class LitScene:
    """A scene ready to be rendered from anywhere, by several threads at once."""

    spec: SceneSpec
    world: World
    caster: Caster
    irradiance: np.ndarray
    shader: Shader


@dataclass(frozen=True)
class View:
    """``rgb`` (H, W, 3) uint8 sRGB, ``depth`` (H, W) float32 metres along the optical axis, 0 for the sky.

    ``instances`` (H, W) uint8. Depth and instances belong to the pixel's centre.
    """

    rgb: np.ndarray
    depth: np.ndarray
    instances: np.ndarray


def light_scene(
    spec: SceneSpec, seed: int = 0, workers: int = 2, rays: int = 100, cell_scale: float = 1.0
) -> LitScene:
    """Mesh a scene and bake its light; see :func:`bake_irradiance` for ``rays``."""
    world = build_world(spec, cell_scale)
    caster = Caster(world.vertices, world.faces)
    irradiance = bake_irradiance(spec, world, caster, seed, rays=rays, workers=workers)
    return _lit(spec, world, caster, irradiance)


def relight_scene(spec: SceneSpec, irradiance: np.ndarray, cell_scale: float = 1.0) -> LitScene:
    """Put together again what :func:`light_scene` made, from its ``irradiance`` (V, 3)."""
    world = build_world(spec, cell_scale)
    return _lit(spec, world, Caster(world.vertices, world.faces), irradiance)


def _lit(spec: SceneSpec, world: World, caster: Caster, irradiance: np.ndarray) -> LitScene:
    return LitScene(spec, world, caster, irradiance, Shader(world, caster, irradiance, spec.sky, spec.lights))


def render_view(
    scene: LitScene, pose: np.ndarray, lens: Lens, rng: np.random.Generator, samples: int = 2
) -> View:
    """Render one camera with ``samples`` x ``samples`` stratified rays per pixel; ``pose`` is 4x4 OpenGL."""
    width, height = lens.width, lens.height
    y, x = (grid.ravel().astype(np.float64) for grid in np.mgrid[0:height, 0:width])
    origin = pose[:3, 3].astype(np.float32)
    total = np.zeros((height * width, 3), np.float32)
    strata = samples * samples
    for k in range(strata):
        jitter = rng.random((4, len(x)))
        dx, dy = (k % samples + jitter[0]) / samples, (k // samples + jitter[1]) / samples
        directions = lens.directions(pose, x + dx, y + dy)
        angle, radius = (
            2 * np.pi * (k + jitter[2]) / strata,
            np.sqrt(((3 * k + 1) % strata + jitter[3]) / strata),
        )
        wobble = np.stack([radius * np.cos(angle), radius * np.sin(angle), jitter[2] - 0.5], 1).astype(
            np.float32
        )
        total += tone_curve(
            scene.shader.radiance(origin, directions, wobble) * np.float32(scene.spec.exposure)
        )
    rgb = encode_srgb(total / strata).reshape(height, width, 3)
    hits = scene.caster.cast(origin, lens.directions(pose, x + 0.5, y + 0.5))
    hit = hits.face >= 0
    depth = np.where(hit, hits.distance, 0).reshape(height, width)
    instances = np.where(hit, scene.world.face_instance[hits.face], 0).reshape(height, width)
    return View(rgb, depth.astype(np.float32), instances.astype(np.uint8))


def tone_curve(linear: np.ndarray, knee: float = 0.55) -> np.ndarray:
    """Leave values below ``knee`` alone and roll brighter ones off towards 1."""
    room = np.float32(1 - knee)
    return np.where(linear < knee, linear, knee + room * (1 - np.exp(-np.maximum(linear - knee, 0) / room)))


def encode_srgb(linear: np.ndarray) -> np.ndarray:
    """Encode linear values in [0, 1] as 8-bit sRGB."""
    linear = np.clip(linear, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)
