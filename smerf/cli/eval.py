"""``smerf eval``: the measurements of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Device, Json, Positional, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Compare the stages of a run with its held-out photos; write metrics.json and report.html.

    Examples:
      smerf eval runs/tabletop
      smerf eval runs/tabletop --stage baked --json
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    stage: Annotated[Literal["teacher", "student", "baked"] | None, tyro.conf.arg(metavar="STAGE")] = None
    """Measure one stage only: teacher, student or baked."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    json: Json = False
    """Print metrics.json instead of a table."""


def run(options: Options) -> int:
    """Measure, write the files and print the figures."""
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import job
    from smerf.pipeline.evaluate import evaluate
    from smerf.pipeline.summary import print_metrics

    folder = RunFolder.open(options.run)
    device = resolve_device(options.device)
    with catch_signals(), folder:
        config = job.choose_config(folder)
        work = job.resume_run(
            folder, config, device, data=options.data, quiet=options.quiet, verbose=options.verbose
        )
        stages = evaluate(work, (options.stage,) if options.stage else ())
    if options.json:
        print(folder.metrics.read_text(), end="")
    else:
        print_metrics(stages)
        print(f"report: {folder.report}")
    return 0
