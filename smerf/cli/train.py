"""``smerf train``: the first stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import (
    Common,
    Device,
    Minutes,
    Positional,
    Preset,
    RunOutput,
    Settings,
    Switch,
    resolve_device,
)

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train the teacher of a run on a capture; the same command continues a training that was stopped.

    Example:
      smerf train captures/tabletop -o runs/tabletop --preset preview
      smerf train captures/tabletop -o runs/tabletop --minutes 5
      torchrun --nproc-per-node 4 -m smerf train captures/flat -o runs/flat --preset paper
    """

    data: Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """Folder of a posed capture (nerfstudio, COLMAP, Blender or LLFF layout)."""
    output: RunOutput = None
    """Run folder; runs/NAME if not given."""
    minutes: Minutes = None
    """Time for the training, 1 to 600: picture size and steps are chosen to fit, and it ends then."""
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
    """Train the teacher and print its location."""
    from smerf.engine import distributed
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import grant, job, stages
    from smerf.pipeline.run import default_output, require_capture

    require_capture(options.data)
    start = grant.Start.now()
    device = resolve_device(options.device)
    folder = RunFolder(options.output or default_output(options.data))
    with catch_signals(), distributed.process_group(device) as process:
        if not process.is_first:
            # The first process holds the run's lock and writes; the others only compute.
            stages.follow_training(folder, options.data, device)
            return 0
        grant.require_alone(options.minutes, process.world_size)
        with folder:
            config = job.choose_config(
                folder, options.preset, options.set, options.seed, overwrite=options.overwrite
            )
            minutes = grant.choose_stage_minutes(options.minutes, options.preset)
            if minutes is not None and config.teacher.minutes != minutes:
                config, plan = grant.plan_training(
                    options.data, minutes, start, device, options.set, options.seed
                )
                job.require_same(folder, config, overwrite=options.overwrite)
                if not options.quiet:
                    grant.say(plan, "train")
            stages.train(
                job.start_run(
                    folder, options.data, config, device,
                    overwrite=options.overwrite, quiet=options.quiet, verbose=options.verbose,
                )
            )  # fmt: skip
    print(f"teacher: {folder.folder('teacher')}\nnext:    smerf distill {folder.path}")
    return 0
