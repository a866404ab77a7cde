"""Each stage of a run as a function from a camera to an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from smerf.engine.folder import FOREIGN, RunFolder

if TYPE_CHECKING:
    import numpy as np

    from smerf.capture.types import Camera
    from smerf.scene import BakedScene

    Render = Callable[[Camera], np.ndarray]
    """Renders a camera, float (H, W, 3) in [0, 1]."""

__all__ = ["run_teacher", "scene_renderer", "stage_renderer"]


def stage_renderer(run: RunFolder, stage: str, device: str, *, is_quick: bool = False) -> Render:
    """Return the renderer of a finished stage: ``teacher``, ``student`` or ``baked``.

    With ``is_quick`` small pictures take one ray a pixel too, which may alias.
    """
    folder = run.folder(stage)
    if stage == "teacher":
        render: Render = run_teacher(run, device).render_image
        return render
    if stage == "student":
        from smerf.student import load_student
        from smerf.teacher import load_teacher

        student = load_student(folder)
        student.teacher = load_teacher(folder if (folder / FOREIGN).is_file() else run.folder("teacher"))
        return _on(student, device).render_image
    from smerf.scene import load_scene

    scene = load_scene(folder)
    if is_quick:
        scene.manifest = replace(scene.manifest, pixel_angle=None)
    return scene_renderer(scene, device)


def run_teacher(run: RunFolder, device: str) -> Any:
    """Return the finished teacher of a run, on a device."""
    from smerf.teacher import load_teacher

    return _on(load_teacher(run.folder("teacher")), device)


def scene_renderer(scene: BakedScene, device: str, hide: Sequence[str] = ()) -> Render:
    """Return the renderer of a baked scene, which keeps one submodel in memory.

    Args:
        scene: The scene.
        device: ``cpu`` or ``cuda``.
        hide: Names or ids of objects that are left out.

    Raises:
        UsageError: If one of them is none of the scene's.
    """
    from smerf.render.march import renderer

    scene.cache_size = 1
    if not hide:
        return renderer(scene, device)
    from smerf.scene.objects import choose_objects
    from smerf.scene.view import MarchOptions

    options = MarchOptions(hidden=frozenset(choose_objects(scene.manifest.objects, hide, "--hide")))
    return renderer(scene, device, options)


def _on(model: Any, device: str) -> Any:
    return model if device == "cpu" or not hasattr(model, "to") else model.to(device)
