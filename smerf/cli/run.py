"""``smerf run``: every stage that is not done yet, to the page and the report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Device, Positional, Preset, RunOutput, Settings, Switch

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
    """Random seed of every stage."""
    set: Settings = ()
    """Change one setting, such as max_side=800 or teacher.steps=4000; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config or capture; what the change touches is redone."""


def run(options: Options) -> int:
    """Run the stages and print the summary."""
    from smerf.pipeline.run import run as run_stages
    from smerf.pipeline.summary import print_summary

    result = run_stages(
        options.data,
        options.output,
        preset=options.preset,
        settings=options.set,
        seed=options.seed,
        device=options.device,
        overwrite=options.overwrite,
        quiet=options.quiet,
        verbose=options.verbose,
    )
    print_summary(result.folder, result.metrics)
    return 0
