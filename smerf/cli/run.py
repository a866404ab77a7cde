"""``smerf run``: every stage that is not done yet, to the page and the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import (
    Common,
    Device,
    Positional,
    Preset,
    RunOutput,
    Settings,
    Switch,
    default_run,
    require_capture,
    resolve_device,
)

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Turn a capture into a page: train, distill, bake, export, measure.

    Stages that are done are skipped, so the same command continues a run that was stopped.

    Examples:
      smerf run captures/tabletop -o runs/tabletop
      smerf run ~/flat --preset standard --device cuda --set teacher.steps=30000
    """

    data: Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """Folder of a posed capture (nerfstudio, COLMAP, Blender or LLFF layout)."""
    output: RunOutput = None
    """Run folder; runs/NAME if not given."""
    preset: Preset = None
    """How much work: preview (a laptop), standard (a GPU), paper. New runs: preview."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Seed of every stage."""
    set: Settings = ()
    """Change one setting, such as max_side=800 or teacher.steps=4000; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config or capture; what the change touches is redone."""


def run(options: Options) -> int:
    """Run the stages and print the summary."""
    from smerf.engine.files import read_json
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import stages as pipeline
    from smerf.pipeline.evaluate import evaluate, is_current
    from smerf.pipeline.summary import print_summary

    require_capture(options.data)
    device = resolve_device(options.device)
    folder = RunFolder(options.output or default_run(options.data))
    with catch_signals(), folder:
        config = pipeline.choose_config(
            folder, options.preset, options.set, options.seed, overwrite=options.overwrite
        )
        job = pipeline.start_run(
            folder, options.data, config, device, overwrite=options.overwrite, quiet=options.quiet
        )
        pipeline.train(job, (1, 5))
        pipeline.distill(job, (2, 5))
        pipeline.bake(job, (3, 5))
        pipeline.export(job, (4, 5))
        if not job.capture.split("test"):
            stages = {}
        elif is_current(folder):
            stages = read_json(folder.metrics)["stages"]
        else:
            stages = evaluate(job, number=(5, 5))
        print_summary(folder, stages)
    return 0
