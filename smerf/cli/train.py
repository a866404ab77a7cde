"""``smerf train``: the first stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from smerf.engine.folder import RunFolder

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train the teacher of a run on a capture; the same command continues a training that was stopped.

    Example:
      smerf train captures/tabletop -o runs/tabletop --preset preview
      torchrun --nproc-per-node 4 -m smerf train captures/flat -o runs/flat --preset paper
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
    """Train the teacher and say where it is."""
    from smerf.engine import distributed
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import stages as pipeline

    require_capture(options.data)
    device = resolve_device(options.device)
    folder = RunFolder(options.output or default_run(options.data))
    with catch_signals(), distributed.process_group(device) as share:
        if share.is_first:
            _lead(options, folder, device)
        else:
            # The first process holds the run's lock and writes; the others only compute.
            distributed.barrier()
            pipeline.follow_training(folder, options.data, device)
    if share.is_first:
        print(f"teacher: {folder.folder('teacher')}\nnext:    smerf distill {folder.path}")
    return 0


def _lead(options: Options, folder: RunFolder, device: str) -> None:
    """Train as the process that writes the run."""
    from smerf.engine import distributed
    from smerf.pipeline import stages as pipeline

    with folder:
        config = pipeline.choose_config(
            folder, options.preset, options.set, options.seed, overwrite=options.overwrite
        )
        job = pipeline.start_run(
            folder, options.data, config, device, overwrite=options.overwrite, quiet=options.quiet
        )
        distributed.barrier()
        pipeline.train(job)
