"""Frames of a baked scene along a camera path or from the photos' cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from smerf.capture.types import Camera, Capture, Frame, Similarity
from smerf.engine.folder import RunFolder
from smerf.engine.progress import Progress
from smerf.errors import UsageError
from smerf.pipeline.config import load_config
from smerf.pipeline.evaluate import view_files
from smerf.pipeline.job import load_run_capture
from smerf.pipeline.renderers import scene_renderer
from smerf.render.video import is_video, write_frames, write_video
from smerf.scene import load_scene

if TYPE_CHECKING:
    from smerf.pipeline.renderers import Render

__all__ = ["render", "render_capture", "split_cameras"]


def render(
    scene: Path,
    output: Path,
    cameras: list[Camera],
    names: list[str],
    fps: float,
    *,
    device: str = "cpu",
    hide: Sequence[str] = (),
    quiet: bool = False,
) -> None:
    """Render a baked scene to a video or a folder of frames.

    Args:
        scene: Baked scene.
        output: A video if its name is one, else a folder.
        cameras: One a frame.
        names: Names of the frames in a folder, without suffix.
        fps: Frames a second of a video.
        device: ``cpu`` or ``cuda``.
        hide: Names or ids of objects that are left out.
        quiet: Show no progress.

    Raises:
        UsageError: If ``output`` is a file that we do not write, or the scene has no such object.
    """
    has_video = is_video(output)
    if not has_video and output.is_file():
        raise UsageError(f"{output}: is a file; frames need a folder, a video a name ending in .mp4")
    frames = _frames(scene, cameras, device, hide, quiet)
    if has_video:
        write_video(output, frames, fps)
    else:
        write_frames(output, names, frames)


def render_capture(
    scene: Path,
    output: Path,
    split: str,
    *,
    device: str = "cpu",
    hide: Sequence[str] = (),
    quiet: bool = False,
) -> int:
    """Render a baked scene from the cameras that it was made with, as a posed capture in the space it came from.

    Args:
        scene: Baked scene.
        output: Gets ``images/`` and ``transforms.json``.
        split: ``train``, ``test`` or ``all``.
        device: ``cpu`` or ``cuda``.
        hide: Names or ids of objects that are left out.
        quiet: Show no progress.

    Returns:
        How many photos it has.

    Raises:
        UsageError: If the scene knows no such cameras or objects.
    """
    manifest = load_scene(scene).manifest
    views = [view for view in manifest.cameras if split in ("all", view.split)]
    if not views:
        raise UsageError(f"{scene}: knows no {split} cameras; render it along a --path instead")
    files = view_files([view.name for view in views])
    names = [f"{index:05d}_{files[view.name]}" for index, view in enumerate(views)]
    images = output / "images"
    write_frames(images, names, _frames(scene, [view.camera for view in views], device, hide, quiet))
    frames = tuple(
        Frame(f"{name}.png", images / f"{name}.png", view.camera, view.split)
        for name, view in zip(names, views)
    )
    near = manifest.near or 0.0
    place = manifest.training_from_source or Similarity()
    none = np.zeros((0, 3))
    capture = Capture(output, "rendered", frames, place, near, float("inf"), False, None, none)
    from smerf.capture import save_transforms

    save_transforms(capture, output / "transforms.json")
    return len(frames)


def split_cameras(run: Path, split: str, data: Path | None = None) -> tuple[list[Camera], list[str]]:
    """Return the cameras of a run's training or test photos, and names for their frames.

    Raises:
        UsageError: If ``run`` is no run folder or has no such photos.
    """
    folder = RunFolder(run)
    if not folder.exists():
        raise UsageError(f"{run}: --split needs a run folder, which knows its photos; or give --path")
    capture = load_run_capture(folder, load_config(folder), data)
    chosen = capture.split(split)
    if not chosen:
        raise UsageError(f"{capture.root}: has no {split} photos")
    return [frame.camera for frame in chosen], list(view_files([frame.name for frame in chosen]).values())


def _frames(
    scene: Path, cameras: list[Camera], device: str, hide: Sequence[str], quiet: bool
) -> Iterator[np.ndarray]:
    """Return the cameras' pictures, rendered one after the other, uint8 (H, W, 3)."""
    return _rendered(scene_renderer(load_scene(scene), device, hide), cameras, quiet)


def _rendered(renderer: Render, cameras: list[Camera], quiet: bool) -> Iterator[np.ndarray]:
    with Progress("render", len(cameras), "frames", stops=True, quiet=quiet) as progress:
        for index, camera in enumerate(cameras):
            yield np.rint(np.clip(renderer(camera), 0.0, 1.0) * 255.0).astype(np.uint8)
            progress.update(index + 1)
