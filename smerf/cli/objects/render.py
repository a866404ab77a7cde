"""``smerf objects render``: images of slots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from smerf.cli.options import (
    Common,
    Device,
    Output,
    Positional,
    Switch,
    refuse_non_empty,
    resolve_device,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Options", "run"]

_VIDEO = (".mp4", ".mov", ".mkv")


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Render a scene of slots: novel views with instance masks into a folder, or a turntable as a video.

    Cameras stand on the circle of the first input view around the vertical axis. Edits that the file holds are
    applied. In the masks, the same colour is the same slot in every view.

    Examples:
      smerf objects render slots.safetensors -o images --views 6 --layers
      smerf objects render slots.safetensors -o turn.mp4 --views 72
    """

    slots: Positional[Annotated[Path, tyro.conf.arg(metavar="SLOTS")]]
    """File that encode or edit wrote."""
    output: Output
    """A folder for PNG files, or a video file (.mp4)."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Run folder or model file, where it is not where the slots say."""
    views: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of views; 4 for a folder and 72 for a video if not given."""
    arc: Annotated[float | None, tyro.conf.arg(metavar="DEGREES")] = None
    """Keep the cameras within this angle of the x axis, where a model has only seen scenes from one side."""
    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Longer side of the images; 128 if not given. Any size works."""
    inputs: Switch[bool] = False
    """Render the input views themselves instead of new ones."""
    layers: Switch[bool] = False
    """Write every slot alone as well, with its weight as alpha (mixer and broadcast decoders)."""
    fps: float = 24.0
    """Frames a second of a video."""
    device: Device = "auto"
    """Where to compute."""
    overwrite: Switch[bool] = False
    """Replace files that exist."""


def run(options: Options) -> int:
    """Render the images and print where they are."""
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.objects.editing.rendering import SlotRenderer, arc_cameras, turntable
    from smerf.pipeline.objects import load_with_model

    is_video = options.output.suffix.lower() in _VIDEO
    refuse_non_empty(options.output, options.overwrite, "place")
    if not is_video and options.output.is_file():
        raise UsageError(f"{options.output}: is a file; give a folder, or a name ending in .mp4")
    for name in ("views", "size"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: give 1 or more")
    saved, model, _ = load_with_model(options.slots, options.model, resolve_device(options.device))
    renderer = SlotRenderer(model, saved, options.slots.parent)
    count = options.views or (72 if is_video else 4)
    if options.inputs:
        cameras = list(saved.cameras)
    elif options.arc is not None:
        cameras = list(arc_cameras(saved, count, options.arc, returns=is_video))
    else:
        cameras = list(turntable(saved, count))
    side, (height, width) = options.size or 128, saved.size
    size = (
        max(1, round(side * height / max(height, width))),
        max(1, round(side * width / max(height, width))),
    )
    with catch_signals():
        if is_video:
            _write_video(options, renderer, cameras, size)
        else:
            _write_images(options, renderer, cameras, size)
    kind = "video" if is_video else "images"
    print(f"{kind}: {options.output} ({len(cameras)} views of {len(renderer.scene.numbers)} slots)")
    return 0


def _write_images(options: Options, renderer: Any, cameras: list[Any], size: tuple[int, int]) -> None:
    import numpy as np
    import torch
    from PIL import Image

    from smerf.engine.progress import Progress
    from smerf.objects.editing.rendering import background_slot, paint_masks

    folder, numbers = options.output, renderer.scene.numbers
    folder.mkdir(parents=True, exist_ok=True)
    rendered = []
    with Progress("render", len(cameras), "views", stops=True, quiet=options.quiet) as progress:
        for camera in cameras:
            rendered.append(renderer.render(camera, size, layers=options.layers))
            progress.update(len(rendered))
    background = background_slot(torch.stack([view.weights for view in rendered]))
    for index, view in enumerate(rendered):
        Image.fromarray(_bytes(view.colour.numpy())).save(folder / f"view_{index:02d}.png")
        Image.fromarray(paint_masks(view, numbers, background)).save(folder / f"mask_{index:02d}.png")
        if view.layers is not None:
            for place, number in enumerate(numbers):
                rgba = np.concatenate(
                    [view.layers[:, :, place].numpy(), view.weights[:, :, place, None].numpy()], -1
                )
                Image.fromarray(_bytes(rgba), "RGBA").save(folder / f"view_{index:02d}_slot_{number}.png")
    fractions = torch.stack([view.weights for view in rendered]).mean((0, 1, 2))
    for place, number in enumerate(numbers):
        note = " (background)" if place == background else ""
        print(f"slot {number}: {float(fractions[place]):6.1%} of the pixels{note}")


def _write_video(options: Options, renderer: Any, cameras: list[Any], size: tuple[int, int]) -> None:
    import imageio.v2 as imageio

    from smerf.engine.progress import Progress

    options.output.parent.mkdir(parents=True, exist_ok=True)
    # The encoder's colour format needs even sides.
    size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    with (
        Progress("render", len(cameras), "frames", stops=True, quiet=options.quiet) as progress,
        imageio.get_writer(
            options.output, fps=options.fps, codec="libx264", quality=8, macro_block_size=1
        ) as writer,
    ):
        for index, camera in enumerate(cameras):
            writer.append_data(_bytes(renderer.render(camera, size).colour.numpy()))
            progress.update(index + 1)


def _bytes(values: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
