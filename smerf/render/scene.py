"""A baked scene that renders itself: what Python users load."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from smerf.capture.types import Camera
from smerf.render.camera import MarchOptions
from smerf.render.march import render_camera
from smerf.scene import read
from smerf.scene.types import BakedScene

__all__ = ["RenderableScene", "load_scene", "renderable"]


class RenderableScene(BakedScene):
    """A ``BakedScene`` with ``render``."""

    def render(
        self,
        camera: Camera,
        near: float | None = None,
        background: tuple[float, float, float] | None = None,
        options: MarchOptions | None = None,
        k: int | None = None,
    ) -> np.ndarray:
        """Render one camera: (H, W, 3) float32 in [0, 1].

        Arguments are those of ``smerf.render.reference.render_camera``.
        """
        return render_camera(self, camera, near, background, options, k)


def renderable(scene: BakedScene) -> RenderableScene:
    """Return the same scene with ``render``."""
    return RenderableScene(scene.params, scene.mlp, scene.manifest, scene.load, scene.root, scene.cache_size)


def load_scene(path: Path | str, cache_size: int = 3) -> RenderableScene:
    """Open a baked scene for rendering; arguments and errors are those of ``smerf.scene.load_scene``."""
    return renderable(read.load_scene(path, cache_size))
