"""``smerf mask``: masks of what moved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Device, Positional, Switch, resolve_device
from smerf.errors import UsageError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Mask what moved in a capture: write masks beside its photos, and a contact sheet.

    A teacher of the same photos tells what moved by what it can't explain; people are masked where they moved too.
    Masks that are there already are kept and joined.

    The frames of a video, before there are any poses, are compared with those around them (--by motion): what moves
    against the room is masked, for smerf prepare.

    Examples:
      smerf mask runs/garden
      smerf mask captures/garden --run runs/garden
      smerf mask captures/street --by people
      smerf mask hall.mp4 --by motion -o hall-masks
    """

    what: Positional[Annotated[Path, tyro.conf.arg(metavar="WHAT")]]
    """A posed capture, or a run, whose capture is masked; or a video or a folder of its frames, in order."""
    run: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Run of the same capture, whose teacher is asked."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Where the run's capture is now, if it has moved."""
    by: Literal["auto", "residual", "people", "motion"] = "auto"
    """By the teacher's residual, by people that moved, or both where they can tell; by motion: auto for a video."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """Where the masks of a video go; NAME-masks beside it if not given."""
    model: Annotated[str | None, tyro.conf.arg(metavar="FILE|shipped|none")] = None
    """For --by motion: a model of smerf vision train walkers, or none for what differs between frames alone."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    yes: Switch[bool] = False
    """Write masks of more than a tenth of all pixels too."""


def run(options: Options) -> int:
    """Write the masks and the sheet, and say where they are."""
    from smerf.capture.readers import has_poses
    from smerf.engine.folder import RunFolder
    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.pipeline.mask import SIDE, mask_capture, open_capture
    from smerf.pipeline.video_frames import is_video, open_frames
    from smerf.vision.motion import choose_model

    folder = RunFolder(options.what)
    if options.run is not None or folder.exists():
        folder = RunFolder.open(options.run or options.what)
    teacher = folder if folder.exists() else None
    root = None if RunFolder(options.what).exists() else options.what
    device = resolve_device(options.device)
    # What is a video can only be masked so.
    by = "motion" if options.by == "auto" and is_video(options.what) else options.by
    has_no_poses = teacher is None and not has_poses(options.what)
    if options.model is not None and by != "motion":
        raise UsageError(f"--model {options.model}: is for --by motion")
    if options.output is not None and not has_no_poses:
        raise UsageError(
            "--output: is for videos and their frames; masks of a posed capture lie beside its photos"
        )
    choices = {"yes": options.yes, "model": choose_model(options.model) if by == "motion" else None}
    with catch_signals(), Progress("mask", unit="photos", stops=True, quiet=options.quiet) as progress:
        if has_no_poses:
            output = options.output or _folder_of(options.what)
            with open_frames(options.what, output, SIDE) as (capture, step):
                done = mask_capture(capture, None, device, by, progress=progress.update, step=step, **choices)
        else:
            capture = open_capture(root, teacher, options.data)
            done = mask_capture(capture, teacher, device, by, progress=progress.update, **choices)
    print(f"masked:  {done.met} of {done.photos} photos, {100.0 * done.share:.1f} % of all pixels")
    print(f"masks:   {done.folder}\nsheet:   {done.sheet}")
    if done.met and not done.has_poses:
        print(f"next:    smerf prepare {options.what} --masks {done.folder} -o CAPTURE")
    elif done.met:
        print(f"next:    smerf run {done.folder.parent} -o RUN (a new folder)")
    return 0


def _folder_of(what: Path) -> Path:
    return what if what.is_dir() else what.with_name(f"{what.stem}-masks")
