"""``smerf render``: frames or a video of a baked scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import (
    Common,
    Device,
    Positional,
    Switch,
    refuse_non_empty,
    resolve_device,
    scene_folder,
)

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Render a baked scene along a camera path, or from the photos' cameras, without a window.

    --capture writes a posed capture, which other programs can train on.

    Examples:
      smerf render runs/tabletop --path orbit.json -o orbit.mp4
      smerf render runs/tabletop --split test -o frames
      smerf render runs/tabletop --path orbit.json --hide vase,teapot -o orbit.mp4
      smerf render runs/tabletop --split all --capture captures/again
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder or baked scene."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """A video (.mp4, .mov, .mkv, .webm, .gif) or a folder for PNG frames."""
    capture: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Write a posed capture (transforms.json and images) from the scene's own cameras instead; needs --split."""
    path: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Camera path, as nerfstudio and our viewers save it."""
    split: Annotated[Literal["train", "test", "all"] | None, tyro.conf.arg(metavar="train|test|all")] = None
    """Render these cameras of the run's capture instead; all of them with --capture."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    width: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Width in pixels of a path's frames; the path's own if not given."""
    fps: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    """Frames a second of a video; the path's own if not given."""
    hide: Annotated[str, tyro.conf.arg(metavar="NAME,...")] = ""
    """Objects of the scene that are left out, by names or ids; smerf info lists them."""
    device: Device = "auto"
    """Where to render; auto takes the GPU if there is one."""
    overwrite: Switch[bool] = False
    """Replace files that exist."""


def run(options: Options) -> int:
    """Render the frames and print their location."""
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.pipeline.render import render, split_cameras
    from smerf.render.camera_path import read_camera_path
    from smerf.render.video import is_video

    if (options.path is None) == (options.split is None):
        raise UsageError("give either --path FILE or --split test")
    if (options.output is None) == (options.capture is None):
        raise UsageError("say where the frames go with -o, or the capture with --capture")
    if options.capture is not None:
        return _write_capture(options, options.capture)
    assert options.output is not None
    if options.split == "all":
        raise UsageError("--split all: is for --capture; give train or test")
    if options.fps is not None and not 0.0 < options.fps <= 1000.0:
        raise UsageError(f"--fps {options.fps:g}: must lie between 0 and 1000")
    if options.width is not None and not 0 < options.width <= 16384:
        raise UsageError(f"--width {options.width}: must lie between 1 and 16384 pixels")
    kind = "video" if is_video(options.output) else "frames"
    refuse_non_empty(options.output, options.overwrite, "place")
    scene = scene_folder(options.scene)
    if options.path is not None:
        cameras, fps = read_camera_path(options.path, options.width)
        names = [f"{index:05d}" for index in range(len(cameras))]
    else:
        cameras, names = split_cameras(options.scene, str(options.split), options.data)
        fps = 24.0
    device = resolve_device(options.device)
    fps = options.fps or fps
    with catch_signals():
        render(
            scene,
            options.output,
            cameras,
            names,
            fps,
            device=device,
            hide=_hidden(options),
            quiet=options.quiet,
        )
    print(f"{kind}: {options.output} ({len(cameras)} frames)")
    return 0


def _hidden(options: Options) -> tuple[str, ...]:
    return tuple(word.strip() for word in options.hide.split(",") if word.strip())


def _write_capture(options: Options, output: Path) -> int:
    """Write a posed capture and print its location."""
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.pipeline.render import render_capture

    if options.split is None or options.width is not None or options.fps is not None:
        raise UsageError("--capture: takes --split train, test or all, and neither --path, --width nor --fps")
    refuse_non_empty(output, options.overwrite, "place")
    scene, device = scene_folder(options.scene), resolve_device(options.device)
    with catch_signals():
        count = render_capture(
            scene, output, options.split, device=device, hide=_hidden(options), quiet=options.quiet
        )
    print(f"capture: {output} ({count} photos)\nnext:    smerf run {output}")
    return 0
