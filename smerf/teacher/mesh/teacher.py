"""The teacher that answers rays from a textured mesh."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from smerf.capture.types import Camera
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays
from smerf.kernels.surface_intervals import surface_intervals
from smerf.teacher.mesh.scene import MeshScene
from smerf.teacher.model import TeacherAnswer
from smerf.teacher.placed import PlacedTeacher, Placement

__all__ = ["MeshTeacher", "render_mesh"]

_CHUNK = 65536
_SUPERSAMPLING = 2
_PITCH = np.sqrt(3.0)
"""Width of a pixel in units of a ray's radius."""


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


def _as_floats(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))


class MeshTeacher(PlacedTeacher):
    """A mesh in training space as a teacher."""

    tests_nearby = True

    def __init__(self, scene: MeshScene, near: float, placement: Placement) -> None:
        """Take a mesh in a space of its own, and the distance there at which rays begin."""
        super().__init__(placement)
        self.scene, self.near = scene, near
        place = self.place
        self._turn = place.rotation / (place.scale * scene.radius)
        self._shift = -place.translation @ self._turn - scene.centre / scene.radius

    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays; on a GPU the answer is computed on the CPU and moved."""
        device, scale = rays.origins.device, self.place.scale * self.scene.radius
        origins, directions, pitch = _as_arrays(rays.to("cpu"))
        # Half of a voxel of 256 an axis.
        half_width, parts = 1.0 / (128.0 * self.scene_scale), []
        for first in range(0, len(origins), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            start, along = self._to_scene(origins[chunk]), directions[chunk] @ self.place.rotation
            hits = self.scene.look(start, along, pitch[chunk], self.near)
            edges, weights = surface_intervals(
                self.scene.near_cells,
                _as_floats(start),
                _as_floats(along / scale),
                _as_floats(hits.distances * scale),
                torch.from_numpy(hits.weights),
                self.spacing,
                self.samples,
                half_width,
            )
            parts.append((edges, weights, torch.from_numpy(hits.colour)))
        joined = parts[0] if len(parts) == 1 else [torch.cat(each) for each in zip(*parts)]
        return TeacherAnswer(*(each.to(device) for each in joined))

    def _to_scene(self, points: np.ndarray) -> np.ndarray:
        """Take points (N, 3) of training space to the scene's."""
        return np.asarray(points @ self._turn + self._shift)

    def render_image(self, camera: Camera) -> np.ndarray:
        """Render a camera before the background: (H, W, 3) float32 in [0, 1]."""
        pose = camera.world_from_cam
        rotation, eye = self.place.rotation.T @ pose[:, :3], self._to_scene(pose[:, 3][None])
        local = Camera(camera.intrinsics, np.concatenate([rotation, eye.T], 1))
        image = render_mesh(self.scene, local, self.near)
        return np.clip(image[..., :3] + (1.0 - image[..., 3:]) * self.background, 0.0, 1.0)
