"""``smerf render``: frames or a video of a baked scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from smerf.cli.options import (
    Common,
    Device,
    Output,
    Positional,
    Switch,
    refuse_non_empty,
    resolve_device,
    scene_folder,
)

if TYPE_CHECKING:
    import numpy as np

    from smerf.capture.types import Camera

__all__ = ["Options", "read_camera_path", "run"]

_VIDEO = (".mp4", ".mov", ".mkv")


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Render a baked scene along a camera path, or from the photos' cameras, without a window.

    Examples:
      smerf render runs/tabletop --path orbit.json -o orbit.mp4
      smerf render runs/tabletop --split test -o frames
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder or baked scene."""
    output: Output
    """A video file (.mp4) or a folder for PNG frames."""
    path: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Camera path, as nerfstudio and our viewers save it."""
    split: Annotated[Literal["train", "test"] | None, tyro.conf.arg(metavar="train|test")] = None
    """Render these cameras of the run's capture instead."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    width: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Width in pixels of a path's frames; the path's own if not given."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Frames a second of a video; the path's own if not given."""
    device: Device = "auto"
    """Where to draw; auto takes the GPU if there is one."""
    overwrite: Switch[bool] = False
    """Replace files that exist."""


def run(options: Options) -> int:
    """Render the frames and say where they are."""
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.render.march import renderer
    from smerf.scene import load_scene

    if (options.path is None) == (options.split is None):
        raise UsageError("give either --path FILE or --split test")
    is_video = options.output.suffix.lower() in _VIDEO
    refuse_non_empty(options.output, options.overwrite, "place")
    if not is_video and options.output.is_file():
        raise UsageError(f"{options.output}: is a file; frames need a folder, a video a name ending in .mp4")
    device, scene = resolve_device(options.device), load_scene(scene_folder(options.scene))
    # A path goes from one submodel to the next: one at a time is in memory, and only those that it meets.
    scene.cache_size = 1
    draw = renderer(scene, device)
    if options.path is not None:
        cameras, fps = read_camera_path(options.path, options.width)
        names = [f"{index:05d}" for index in range(len(cameras))]
    else:
        cameras, names = _capture_cameras(options)
        fps = 24.0
    with catch_signals():
        frames = _frames(draw, cameras, options.quiet)
        if is_video:
            _write_video(options.output, frames, options.fps or fps)
        else:
            _write_frames(options.output, names, frames)
    print(f"{'video' if is_video else 'frames'}: {options.output} ({len(cameras)} frames)")
    return 0


def read_camera_path(path: Path, width: int | None = None) -> tuple[list[Camera], float]:
    """Read a camera path in nerfstudio's JSON.

    Args:
        path: File with ``camera_path``: ``camera_to_world`` (16 numbers, rows, OpenGL axes, training space)
            and ``fov`` (vertical, degrees) for each frame; ``render_width``, ``render_height`` and ``fps``.
        width: Width of the frames in pixels in place of the file's; the shape of the frame stays.

    Returns:
        The cameras and the frames a second.

    Raises:
        InvalidDataError: If the file is not such a path; the message names the file and the key.
    """
    import numpy as np

    from smerf.capture.types import Camera, Intrinsics
    from smerf.engine.files import read_json
    from smerf.errors import InvalidDataError

    document = read_json(path)
    try:
        own_width, own_height = int(document["render_width"]), int(document["render_height"])
        frames, fps = document["camera_path"], float(document.get("fps", 24.0))
        columns = width or own_width
        rows = max(1, round(columns * own_height / own_width))
        cameras = []
        for frame in frames:
            pose = np.array(frame["camera_to_world"], np.float64).reshape(4, 4)[:3]
            fov = float(frame["fov"])
            if not (np.isfinite(pose).all() and 0.0 < fov < 180.0):
                raise ValueError(f"frame {len(cameras)} has a pose or a fov that makes no sense")
            focal = 0.5 * rows / np.tan(np.radians(0.5 * fov))
            lens = Intrinsics("PINHOLE", columns, rows, focal, focal, columns / 2, rows / 2)
            cameras.append(Camera(lens, pose))
    except KeyError as error:
        raise InvalidDataError(f"{path}: is not a camera path: {error} is missing") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise InvalidDataError(f"{path}: is not a camera path: {error}") from error
    if not cameras:
        raise InvalidDataError(f"{path}: holds no frames in camera_path")
    return cameras, fps


def _capture_cameras(options: Options) -> tuple[list[Camera], list[str]]:
    from smerf.engine.folder import RunFolder
    from smerf.errors import UsageError
    from smerf.pipeline.config import load_config
    from smerf.pipeline.evaluate import view_file
    from smerf.pipeline.stages import load_run_capture

    folder = RunFolder(options.scene)
    if not folder.exists():
        raise UsageError(
            f"{options.scene}: --split needs a run folder, which knows its photos; or give --path"
        )
    capture, _ = load_run_capture(folder, load_config(folder.config), options.data)
    chosen = capture.split(str(options.split))
    if not chosen:
        raise UsageError(f"{capture.root}: has no {options.split} photos")
    return [frame.camera for frame in chosen], [view_file(frame.name) for frame in chosen]


def _frames(draw: Callable[[Camera], np.ndarray], cameras: list[Camera], quiet: bool) -> Iterable[np.ndarray]:
    """Render the cameras one after the other, uint8 (H, W, 3)."""
    import numpy as np

    from smerf.engine.progress import Progress

    with Progress("render", len(cameras), "frames", stops=True, quiet=quiet) as progress:
        for index, camera in enumerate(cameras):
            yield np.rint(np.clip(draw(camera), 0.0, 1.0) * 255.0).astype(np.uint8)
            progress.update(index + 1)


def _write_frames(folder: Path, names: list[str], frames: Iterable[np.ndarray]) -> None:
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    # The frames come first, so that the last turn lets their generator finish.
    for frame, name in zip(frames, names):
        Image.fromarray(frame).save(folder / f"{name}.png")


def _write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    import imageio.v2 as imageio

    path.parent.mkdir(parents=True, exist_ok=True)
    # The encoder's colour format needs even sides: a last odd row or column is left out.
    with imageio.get_writer(path, fps=fps, codec="libx264", quality=8, macro_block_size=1) as writer:
        for frame in frames:
            height, width = frame.shape[:2]
            writer.append_data(frame[: height - height % 2, : width - width % 2])
