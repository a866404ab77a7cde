"""``smerf distill``: the second stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smerf.cli.options import Common, Device, Minutes, Positional, Settings, Switch, resolve_device

if TYPE_CHECKING:
    from smerf.teacher.asset_options import AssetOptions

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Distil the teacher of a run into a student; the same command continues where it was stopped.

    Examples:
      smerf distill runs/tabletop
      smerf distill runs/tabletop --minutes 20 --overwrite
      smerf distill runs/small --teacher runs/large
      smerf distill runs/flat --teacher flat.ply
      smerf distill runs/flat --set student.partition=3 --overwrite
      torchrun --nproc-per-node 2 -m smerf distill runs/flat
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    teacher: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Take the teacher of this run, this teacher folder, or this splat or mesh file in the capture's space."""
    focal: Annotated[float | None, tyro.conf.arg(metavar="PX")] = None
    """Of a splat file: focal length in pixels of the photos that it was trained on; 1200 if not known."""
    splat_mode: Annotated[str | None, tyro.conf.arg(metavar="default|antialiased|3d")] = None
    """Of a splat file: how it was trained to be filtered, if the file does not say."""
    keep_all: Switch[bool] = False
    """Of a splat file: keep large faint splats and stray ones."""
    light: Switch[bool] = False
    """Of a mesh: let a plain light fall on it, instead of showing its colours as they are."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    minutes: Minutes = None
    """Time for the distillation, 1 to 600: steps, grids and submodels are chosen to fit, and it ends then."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    set: Settings = ()
    """Change one setting, such as student.steps=4000; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; what the change touches is redone."""


def run(options: Options) -> int:
    """Distil the student and print its location."""
    from smerf.engine import distributed
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.pipeline import grant, job, stages

    folder = RunFolder.open(options.run)
    start = grant.Start.now()
    teacher = stages.find_teacher(options.teacher) if options.teacher is not None else None
    device = resolve_device(options.device)
    with catch_signals(), distributed.process_group(device) as process:
        if not process.is_first:
            # The first process holds the run's lock; every process distils and writes its own submodels.
            stages.follow_distillation(folder, device, data=options.data, teacher=teacher)
            return 0
        grant.require_alone(options.minutes, process.world_size)
        with folder:
            config = job.choose_config(folder, settings=options.set, overwrite=options.overwrite)
            work = job.resume_run(
                folder, config, device, data=options.data, quiet=options.quiet, verbose=options.verbose
            )
            minutes = grant.choose_stage_minutes(options.minutes)
            if minutes is not None and config.student.minutes != minutes:
                work = grant.grant_distillation(
                    work, teacher, minutes, start, options.set, overwrite=options.overwrite
                )
            stages.distill(work, teacher, _source_options(options))
    print(f"student: {folder.folder('student')}\nnext:    smerf bake {folder.path}")
    return 0


def _source_options(options: Options) -> AssetOptions | None:
    """Return what the command line says of a file that is the teacher, None if nothing."""
    if (options.focal, options.splat_mode, options.keep_all, options.light) == (None, None, False, False):
        return None
    from smerf.teacher.asset_options import AssetOptions

    return AssetOptions(options.focal, options.splat_mode, keep_all=options.keep_all, light=options.light)
