"""``smerf synth``: built-in captures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from smerf.cli.options import Common, Output, Positional, Switch, refuse_non_empty

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Render a built-in scene to a capture with exact poses, depth and masks.

    Example:
      smerf synth tabletop -o captures/tabletop
    """

    scene: Positional[Annotated[str, tyro.conf.arg(metavar="SCENE")]]
    """Name of a built-in scene, or the path of a description."""
    output: Output
    """Folder to write."""
    views: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of photos; the scene's own number if not given."""
    width: int = 400
    """Width of the photos in pixels."""
    height: int = 300
    """Height of the photos in pixels."""
    seed: int = 0
    """Seed of the sampling."""
    overwrite: Switch[bool] = False
    """Write into a folder that is not empty."""


def run(options: Options) -> int:
    """Render the capture and say where it is."""
    from smerf.capture.synth import render_capture
    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals

    refuse_non_empty(options.output, options.overwrite, "folder")
    with catch_signals(), Progress("synth", unit="views", stops=True, quiet=options.quiet) as progress:
        render_capture(
            options.scene,
            options.output,
            views=options.views,
            width=options.width,
            height=options.height,
            seed=options.seed,
            progress=progress,
        )
    print(f"capture: {options.output}\nnext:    smerf run {options.output}")
    return 0
