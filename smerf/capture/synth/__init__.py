"""Built-in captures: small scenes described in YAML and rendered here, with exact poses, depth and masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

__all__ = ["built_in_scenes", "render_capture"]


def built_in_scenes() -> tuple[str, ...]:
    """Return the names of the scenes that come with smerf."""
    from smerf.capture.synth import describe

    return describe.built_in_scenes()


def render_capture(
    scene: str | Path,
    output: Path,
    *,
    views: int | None = None,
    width: int = 400,
    height: int = 300,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render a scene to a capture folder and return ``output``.

    Writes ``transforms.json`` (nerfstudio, PINHOLE, OpenGL camera-to-world, z up, metres), ``images/``,
    ``depth/`` (16-bit, millimetres along the optical axis, 0 unknown), ``instances/`` (8-bit ids, 0 the
    background) and ``paths/*.json``. The same arguments give the same bytes. ``transforms.json`` comes last,
    so a folder that has one is complete. Pictures below 10,000 pixels are rendered from a coarser mesh.

    Args:
        scene: A built-in name (``tabletop``, ``courtyard``, ``flat``) or the path of a YAML description.
        output: Folder to write; made if needed.
        views: Number of photos, at least 2; the scene's own default if None.
        width: Image width in pixels.
        height: Image height in pixels.
        seed: Seeds all sampling.
        progress: Called as ``progress(done, total)`` from the calling thread, first with ``(0, total)`` when
            the light is ready.

    Raises:
        InvalidDataError: If the scene is unknown or its description malformed.
        UsageError: If the sizes make no sense.
        MissingPartError: If embreex is not installed.
    """
    from smerf.capture.synth import describe, render, rigs, worker, write
    from smerf.errors import UsageError

    spec = describe.load_scene_spec(scene)
    count = spec.rig.views if views is None else views
    if count < 2:
        raise UsageError(f"--views {count}: a capture needs at least 2 views, one to train and one to test")
    if width < 8 or height < 8:
        raise UsageError(f"--width {width} --height {height}: images need at least 8 x 8 pixels")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    (output / "transforms.json").unlink(missing_ok=True)
    lit = worker.render_job(worker.Job(str(scene), str(output), count, width, height, seed), progress)
    lens = render.Lens.from_fov(width, height, spec.rig.fov)
    write.write_transforms(output, spec, lit.world.instances, rigs.rig_poses(spec.rig, count), lens, seed)
    return output
