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

    Examples:
      smerf bake runs/tabletop
      smerf bake runs/tabletop --max-mb 20
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    max_mb: Annotated[float | None, tyro.conf.arg(metavar="N")] = None
    """Largest size in MB: what contributes least to the views goes. The run remembers it."""
    set: Settings = ()
    """Change one setting of the bake; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; what the change touches is redone."""


def run(options: Options) -> int:
    """Bake the scene and print its location and size."""
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import job, stages
    from smerf.pipeline.summary import print_baked

    folder = RunFolder.open(options.run)
    with catch_signals(), folder:
        config = job.choose_config(folder, settings=options.set, overwrite=options.overwrite)
        if options.max_mb is not None:
            # A size that is asked for by its own name changes nothing but the bake.
            config = job.with_max_mb(config, options.max_mb)
        stages.bake(
            job.resume_run(
                folder, config, "cpu", data=options.data, quiet=options.quiet, verbose=options.verbose
            )
        )
    print_baked(folder)
    return 0
