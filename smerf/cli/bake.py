"""``smerf bake``: the third stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Positional, Settings, Switch

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Bake the student of a run into 8-bit assets that stream into a viewer.

    Example:
      smerf bake runs/tabletop
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    set: Settings = ()
    """Change one setting of the bake; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; what the change touches is redone."""


def run(options: Options) -> int:
    """Bake the scene and say where it is."""
    from smerf.cli import pipeline
    from smerf.cli.summary import format_bytes
    from smerf.runs.folder import RunFolder
    from smerf.runs.signals import catch_signals

    folder = RunFolder.open(options.run)
    with catch_signals(), folder:
        config = pipeline.choose_config(folder, None, options.set, overwrite=options.overwrite)
        job = pipeline.resume_run(folder, config, "cpu", data=options.data, quiet=options.quiet)
        pipeline.bake(job)
    baked = folder.folder("baked")
    size = sum(path.stat().st_size for path in baked.rglob("*") if path.is_file())
    print(f"scene: {baked} ({format_bytes(size)})\nnext:  smerf export {folder.path} -o site")
    return 0
