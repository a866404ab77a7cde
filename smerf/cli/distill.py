"""``smerf distill``: the second stage of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Device, Positional, Settings, Switch, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Distil the teacher of a run into a student; the same command continues where it was stopped.

    Examples:
      smerf distill runs/tabletop
      smerf distill runs/small --teacher runs/large
      smerf distill runs/flat --set student.partition=3 --overwrite
      torchrun --nproc-per-node 2 -m smerf distill runs/flat
    """

    run: Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder."""
    teacher: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Take the teacher of this run, or this teacher folder, instead of the run's own."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the capture is now, if it has moved."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    set: Settings = ()
    """Change one setting, such as student.steps=4000; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; what the change touches is redone."""


def run(options: Options) -> int:
    """Distil the student and say where it is."""
    from smerf.engine import distributed
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.errors import UsageError
    from smerf.pipeline import stages as pipeline

    folder = RunFolder.open(options.run)
    teacher = options.teacher
    if teacher is not None:
        if not teacher.is_dir():
            raise UsageError(f"--teacher {teacher}: is not a folder")
        teacher = teacher / "teacher" if RunFolder(teacher).exists() else teacher
    device = resolve_device(options.device)
    with catch_signals(), distributed.process_group(device) as share:
        if share.is_first:
            with folder:
                config = pipeline.choose_config(folder, None, options.set, overwrite=options.overwrite)
                job = pipeline.resume_run(folder, config, device, data=options.data, quiet=options.quiet)
                pipeline.distill(job, teacher=teacher)
        else:
            # The first process holds the run's lock; every process distils and writes its own submodels.
            pipeline.follow_distillation(folder, device, data=options.data, teacher=teacher)
    if share.is_first:
        print(f"student: {folder.folder('student')}\nnext:    smerf bake {folder.path}")
    return 0
