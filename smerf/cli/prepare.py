"""``smerf prepare``: photos or a video to a posed capture."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Json, Output, Positional, Switch

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Find the camera of every photo, and write a capture that smerf run takes.

    Photos that cannot work are refused with the reason and what to photograph next; prepare/report.html shows it.
    Work that is done is kept, so the same command continues one that was stopped.

    Examples:
      smerf prepare ~/photos/flat -o captures/flat
      smerf prepare walk.mp4 -o captures/walk --frames 150
    """

    input: Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PHOTOS|VIDEO")]]
    """A folder of photos, a video, or several of either."""
    output: Output
    """Folder of the capture."""
    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """About how many frames to take from a video; 60 to 300 by motion if not given."""
    spacing: float = 0.04
    """Motion between two frames of a video, as a fraction of the longest side."""
    max_side: int = 1600
    """Longest side of the written images in pixels."""
    masks: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Folder of masks, named like the photos (NAME.png): black is ignored."""
    order: Literal["auto", "sequence", "none"] = "auto"
    """Whether photos that follow each other were taken after each other."""
    camera: Literal["auto", "one", "each"] = "auto"
    """Which photos share intrinsics: those of one camera and focal length, all, or none."""
    mapper: Literal["auto", "incremental", "global"] = "auto"
    """Which mapper poses the photos; auto runs both and keeps the larger model that passes."""
    min_link: int = 30
    """Points that two photos must share to count as joined."""
    scale_from: Literal["gps", "none"] = "gps"
    """Where the unit comes from, if the photos say."""
    threads: int = 1
    """Threads: 1 gives the same poses every time, 0 takes all cores (poses differ by about 0.01 degrees)."""
    seed: int = 0
    """Random seed."""
    undistort: Switch[bool] = False
    """Also write images without distortion and their COLMAP model, for other tools."""
    keep_database: Switch[bool] = False
    """Leave COLMAP's databases and all models in prepare/work."""
    overwrite: Switch[bool] = False
    """Replace a capture of other photos or settings."""
    json: Json = False
    """Print the verdict as JSON."""


def run(options: Options) -> int:
    """Prepare the capture and say what came of it."""
    from dataclasses import asdict, fields

    from smerf.engine.progress import Progress
    from smerf.engine.settings import from_dict
    from smerf.engine.signals import catch_signals
    from smerf.errors import InvalidDataError, UsageError
    from smerf.prepare import PrepareConfig, prepare

    values = {field.name: getattr(options, field.name) for field in fields(PrepareConfig)}
    try:
        config = from_dict(PrepareConfig, values)
    except InvalidDataError as error:
        raise UsageError(f"--{str(error).removeprefix('config: ').replace('_', '-')}") from error

    def progress(name: str, unit: str, total: float | None) -> Progress:
        return Progress(f"prepare: {name}", total, unit, stops=True, quiet=options.quiet)

    with catch_signals():
        prepared = prepare(
            options.input,
            options.output,
            config,
            masks=options.masks,
            overwrite=options.overwrite,
            keep_database=options.keep_database,
            undistort=options.undistort,
            progress=progress,
        )
    if options.json:
        print(json.dumps(asdict(prepared.verdict), indent=2))
        return 0
    print(f"capture: {prepared.folder} ({prepared.verdict.summary})")
    print(f"report:  {prepared.report}\nnext:    smerf run {prepared.folder}")
    return 0
