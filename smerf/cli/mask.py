"""``smerf mask``: masks of what moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Device, Positional, Switch, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Mask what moved in a capture: write masks beside its photos, and a contact sheet.

    A teacher of the same photos tells what moved by what it can't explain; people are masked where they moved too.
    Masks that are there already are kept and joined.

    Examples:
      smerf mask runs/garden
      smerf mask captures/garden --run runs/garden
      smerf mask captures/street --by people
    """

    what: Positional[Annotated[Path, tyro.conf.arg(metavar="WHAT")]]
    """A posed capture, or a run, whose capture is masked."""
    run: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Run of the same capture, whose teacher is asked."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the run's capture is now, if it has moved."""
    by: Literal["auto", "residual", "people"] = "auto"
    """By the teacher's residual, by people that moved, or by both where they can tell."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    yes: Switch[bool] = False
    """Write masks of more than a tenth of all pixels too."""


def run(options: Options) -> int:
    """Write the masks and the sheet, and say where they are."""
    from smerf.engine.folder import RunFolder
    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.pipeline.mask import mask_capture, open_capture

    folder = RunFolder(options.what)
    if options.run is not None or folder.exists():
        folder = RunFolder.open(options.run or options.what)
    teacher = folder if folder.exists() else None
    root = None if RunFolder(options.what).exists() else options.what
    device = resolve_device(options.device)
    with catch_signals(), Progress("mask", unit="photos", stops=True, quiet=options.quiet) as progress:
        capture = open_capture(root, teacher, options.data)
        done = mask_capture(capture, teacher, device, options.by, yes=options.yes, progress=progress.update)
    print(f"masked:  {done.met} of {done.photos} photos, {100.0 * done.share:.1f} % of all pixels")
    print(f"masks:   {done.folder}\nsheet:   {done.sheet}")
    if done.met:
        print(f"next:    smerf run {done.folder.parent} -o RUN (a new folder)")
    return 0
