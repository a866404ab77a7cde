"""The teacher that answers rays from a textured mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from smerf.capture.types import Camera
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays, Spacing
from smerf.teacher.mesh.nearness import free_ends, stretches
from smerf.teacher.mesh.scene import MeshHits, MeshScene
from smerf.teacher.model import TeacherAnswer
from smerf.teacher.placed import PlacedTeacher, Placement

__all__ = ["MeshTeacher", "intervals_around", "render_mesh"]

_CHUNK = 65536
_SUPERSAMPLING = 2
_PITCH = np.sqrt(3.0)
"""Width of a pixel in units of a ray's radius."""
_SIDES = -0.1, 1.5
"""Where a surface begins and ends, in half widths behind what a ray meets: were it in front, rays that graze a
silhouette would cross a lot of it."""
_SHARE = 4
"""One of so many intervals lies inside the surfaces."""
_MIN_GAP = 5e-7


def render_mesh(scene: MeshScene, camera: Camera, near: float) -> np.ndarray:
    """Render a camera of the scene's space: (H, W, 4) float32, colour over black and opacity, 2 x 2 rays a pixel."""
    lens, k = camera.intrinsics, _SUPERSAMPLING
    names = ("width", "height", "fx", "fy", "cx", "cy")
    fine = replace(lens, **{name: k * getattr(lens, name) for name in names})
    rays, parts = camera_rays(replace(camera, intrinsics=fine)), []
    for first in range(0, len(rays), _CHUNK):
        some = rays[first : first + _CHUNK]
        hits = scene.look(*_as_arrays(some), near)
        parts.append(np.concatenate([hits.colour, hits.weights.sum(1, keepdims=True)], 1))
    image = np.concatenate(parts).reshape(lens.height, k, lens.width, k, 4)
    return np.asarray(image.mean((1, 3)), np.float32)


def _as_arrays(rays: Rays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return origins, unit directions and pitch as float64."""
    directions = rays.directions.double().numpy()
    directions = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    return rays.origins.double().numpy(), directions, _PITCH * rays.radii.double().numpy()


def intervals_around(
    hits: MeshHits, near: torch.Tensor, spacing: Spacing, samples: int, half_width: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return intervals that are thin where rays meet something, and dense where they pass close to it.

    A surface has a width, over which its weight is spread evenly: what is thinner than a voxel can't be learnt.

    Args:
        hits: Distances in the units of the spacing.
        near: Whether stretches of equal length of s are near a surface (R, B) bool.
        spacing: Of the intervals.
        samples: Intervals S of each ray.
        half_width: Of a surface, metric.

    Returns:
        Metric interval ends (R, S + 1) and weights (R, S).
    """
    count = len(hits.weights)
    s = torch.zeros(count, samples + 1, dtype=torch.float64)
    weights = torch.zeros(count, samples)
    layers = (hits.weights > 0.0).sum(1)
    for number in np.unique(layers):
        rows = np.flatnonzero(layers == number)
        t = torch.from_numpy(hits.distances[rows, :number])
        half = (1e-4 * t).clamp_min(half_width)
        far = min(spacing.far, 1e4)
        low, high = (spacing.s_from_t((t + side * half).clamp(spacing.near, far)) for side in _SIDES)
        # A surface at an end of the ray has a width all the same.
        low, high = (
            torch.minimum(low, 1.0 - 2.0 * (high - low).clamp_min(1e-4)),
            torch.maximum(high, low + 1e-4),
        )
        ends = _ends(low, high, samples, near[rows])
        s[rows] = ends
        inside = (ends[:, :, None] - low[:, None]) / (high - low)[:, None]
        share = inside.clamp(0.0, 1.0).diff(dim=1)
        weights[rows] = (share * torch.from_numpy(hits.weights[rows, None, :number])).sum(-1).float()
    # Ends that fall together are moved apart by what no weight notices.
    step = _MIN_GAP * torch.arange(samples + 1, dtype=torch.float64)
    s = (s + step) / (1.0 + step[-1])
    return spacing.t_from_s(s).float(), weights


def _ends(low: torch.Tensor, high: torch.Tensor, samples: int, near: torch.Tensor) -> torch.Tensor:
    """Return interval ends (R, S + 1) in s around layers [low, high] (R, L) of s, which may be none."""
    rays, layers = low.shape
    if not layers:
        nothing = torch.ones(rays, dtype=low.dtype)
        return free_ends(near, nothing, nothing, samples + 1)
    inside = max(1, samples // (_SHARE * layers))
    free = free_ends(near, low.amin(1), high.amax(1), samples + 1 - layers * (inside + 1))
    steps = torch.arange(inside + 1, dtype=low.dtype) / inside
    within = (low[..., None] + (high - low)[..., None] * steps).flatten(1)
    return torch.cat([free, within], 1).sort(1).values


class MeshTeacher(PlacedTeacher):
    """A mesh in training space as a teacher."""

    tests_nearby = True

    def __init__(self, scene: MeshScene, near: float, placement: Placement) -> None:
        """Take a mesh in a space of its own, and the distance there at which rays begin."""
        super().__init__(placement)
        self.scene, self.near = scene, near

    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays; on a GPU the answer is computed on the CPU and moved."""
        device, scale = rays.origins.device, self.place.scale * self.scene.radius
        origins, directions, pitch = _as_arrays(rays.to("cpu"))
        parts = []
        for first in range(0, len(origins), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            hits = self.scene.look(
                self._to_scene(origins[chunk]),
                directions[chunk] @ self.place.rotation,
                pitch[chunk],
                self.near,
            )
            hits = MeshHits(hits.distances * scale, hits.weights, hits.colour)
            # Half of a voxel of 256 an axis.
            half_width = 1.0 / (128.0 * self.scene_scale)
            near = self._near_surface(origins[chunk], directions[chunk])
            edges, weights = intervals_around(hits, near, self.spacing, self.samples, half_width)
            parts.append((edges, weights, torch.from_numpy(hits.colour)))
        return TeacherAnswer(*(torch.cat(each).to(device) for each in zip(*parts)))

    def _near_surface(self, origins: np.ndarray, directions: np.ndarray) -> torch.Tensor:
        """Return whether stretches of rays of training space are near a surface (R, B) bool."""
        start = torch.from_numpy(self._to_scene(origins)).float()
        along = torch.from_numpy(directions @ self.place.rotation / (self.place.scale * self.scene.radius))
        t = self.spacing.t_from_s(stretches()).float()
        return self.scene.nearness.along(start, along.float(), t)

    def _to_scene(self, points: np.ndarray) -> np.ndarray:
        """Take points (N, 3) of training space to the scene's."""
        place = self.place
        source = (points - place.translation) @ place.rotation / place.scale
        return np.asarray((source - self.scene.centre) / self.scene.radius)

    def render_image(self, camera: Camera) -> np.ndarray:
        """Render a camera before the background: (H, W, 3) float32 in [0, 1]."""
        pose = camera.world_from_cam
        rotation, eye = self.place.rotation.T @ pose[:, :3], self._to_scene(pose[:, 3][None])
        local = Camera(camera.intrinsics, np.concatenate([rotation, eye.T], 1))
        image = render_mesh(self.scene, local, self.near)
        return np.clip(image[..., :3] + (1.0 - image[..., 3:]) * self.background, 0.0, 1.0)
