"""A baked scene that renders itself: what Python users load."""

from __future__ import annotations

from pathlib import Path

from smerf.render.march import render_camera
from smerf.scene import read
from smerf.scene.types import BakedScene

__all__ = ["RenderableScene", "load_scene", "renderable"]


class RenderableScene(BakedScene):
    """A ``BakedScene`` that renders cameras: ``scene.render(camera)`` is ``render_camera(scene, camera)``."""

    render = render_camera


def renderable(scene: BakedScene) -> RenderableScene:
    """Return the same scene with ``render``."""
    return RenderableScene(scene.params, scene.mlp, scene.manifest, scene.load, scene.root, scene.cache_size)


def load_scene(path: Path | str, cache_size: int = 3) -> RenderableScene:
    """Open a baked scene for rendering; arguments and errors are those of ``smerf.scene.load_scene``."""
    return renderable(read.load_scene(path, cache_size))
