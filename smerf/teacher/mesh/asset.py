"""A mesh file as an asset: where it is, which way is up, its probe and its teacher."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Camera
from smerf.errors import InvalidDataError
from smerf.teacher.asset_options import AssetOptions
from smerf.teacher.mesh.scene import MeshScene
from smerf.teacher.mesh.surface import Surface, points_on
from smerf.teacher.mesh.teacher import MeshTeacher, render_mesh
from smerf.teacher.placed import Placement
from smerf.teacher.splat.cameras import Content, Probe, content_of

__all__ = ["MeshAsset"]

_NEAR = 0.02
_POINTS = 20_000
_WHOLE = 1.5
"""The whole mesh counts as content unless stray parts make it so many times larger."""


class MeshAsset:
    """A mesh of a file, in its own space: a ``smerf.teacher.asset.Asset``."""

    has_sides = True

    def __init__(self, path: Path, surface: Surface, options: AssetOptions) -> None:
        """Take a surface as read from ``path``, with what the user says about it."""
        self.path, self.kind, self.options, self.surface = path, f"{surface.kind} mesh", options, surface
        self.focal = options.focal or 0.0
        self.is_lit = options.light or not surface.has_colour
        if not self.content().radius > 0.0:
            raise InvalidDataError(f"{path}: its triangles have no extent")

    def facts(self) -> dict[str, Any]:
        """Return what is known of it, as JSON values."""
        content, materials = self.content(), self.surface.materials
        textures = {id(m.texture.pixels): m.texture.pixels.shape for m in materials if m.texture}
        return {
            "kind": self.kind,
            "triangles": len(self.surface.faces),
            "textures": [f"{width}x{height}" for height, width, _ in textures.values()],
            "transparent": any(m.alpha != "opaque" for m in materials),
            "light": "from above and from the eye" if self.is_lit else "none: its colours as they are",
            "up": [round(float(x), 4) for x in content.rotation[2]],
            "up_from": f"{self.up_from}; --up overrules it",
            "radius": content.radius,
            "left_out": {"damaged": self.surface.removed},
            "comments": list(self.surface.comments),
        }

    def content(self) -> Content:
        """Return where something is, and which way is up."""
        return self._content

    @cached_property
    def _content(self) -> Content:
        surface = self.surface
        up = np.array(self.options.up or surface.up)
        content = content_of(points_on(surface, _POINTS), np.ones(_POINTS), up)
        used = surface.vertices[np.unique(surface.faces)] @ content.rotation.T
        whole = Content(content.rotation, used.min(0), content.middle, used.max(0))
        return whole if whole.radius <= _WHOLE * content.radius else content

    @property
    def up_from(self) -> str:
        """Return what the up direction was decided from."""
        return "as asked for" if self.options.up else "as its format has it"

    def near(self) -> float:
        """Return the distance in front of an eye within which nothing counts."""
        return _NEAR * self._content.radius

    @cached_property
    def _scene(self) -> MeshScene:
        content = self._content
        return MeshScene(
            self.surface, content.centre, content.radius, content.rotation[2] if self.is_lit else None
        )

    def _to_scene(self, points: np.ndarray) -> np.ndarray:
        return np.asarray((points - self._scene.centre) / self._scene.radius)

    def probe(self) -> Probe:
        """Return a function from rays to what they meet; faces seen from behind, as inside a solid, don't count."""

        def look(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            distance, is_back = self._scene.first(self._to_scene(origins.astype(np.float64)), directions)
            is_met = np.isfinite(distance) & ~is_back
            return is_met.astype(np.float32), np.where(is_met, distance, 0.0) * self._scene.radius

        return look

    def render(self, camera: Camera) -> np.ndarray:
        """Render a camera in the file's space: (H, W, 4) float32, colour over black and opacity."""
        pose = camera.world_from_cam.copy()
        pose[:, 3] = self._to_scene(pose[:, 3])
        return render_mesh(self._scene, Camera(camera.intrinsics, pose), _NEAR)

    def teacher(self, placement: Placement) -> MeshTeacher:
        """Return the teacher in training space."""
        return MeshTeacher(self._scene, _NEAR, placement)
