"""``smerf vision train``: the model that finds what moves in a video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Output, Positional, Settings

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train the model behind smerf mask --by motion on rendered clips; the same command continues.

    With your own videos or folders of frames it is trained on both at once, with a head for each; yours are labelled
    where the people segmenter and what differs from the frames around agree, and unknown where only one of them does.

    Examples:
      smerf vision train walkers -o runs/walkers
      smerf vision train walkers -o runs/mine --start shipped --own hall.mp4 --set steps=300 --set rooms=40
    """

    what: Positional[Annotated[Literal["walkers"], tyro.conf.arg(metavar="walkers")]]
    """What to train."""
    output: Output
    """Folder of the clips, checkpoints, walkers.safetensors and record.json."""
    own: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="VIDEO|FRAMES")] = ()
    """Your videos, or folders of frames in order."""
    start: Annotated[str | None, tyro.conf.arg(metavar="FILE|shipped")] = None
    """Go on from a model; it is kept if recall on rendered clips falls by more than 2 points."""
    set: Settings = ()
    """Change one setting, such as steps=500 or quotas=[[rooms,3],[own,1]]; may be repeated."""


def run(options: Options) -> int:
    """Train the model and say what it finds."""
    import shlex
    import sys

    from smerf.engine.lock import FolderLock
    from smerf.engine.progress import Progress
    from smerf.engine.settings import apply_overrides
    from smerf.engine.signals import catch_signals
    from smerf.pipeline.video_frames import own_clips
    from smerf.vision.motion import choose_model
    from smerf.vision.walkers import MODEL_FILE
    from smerf.vision.walkers_train import OWN, ROOMS, WalkersTraining, train_walkers

    quotas = ((ROOMS, 3), (OWN, 1)) if options.own else ((ROOMS, 1),)
    config = apply_overrides(WalkersTraining(quotas=quotas), options.set)
    start = None if options.start is None else choose_model(options.start)

    def progress(name: str, unit: str, total: float | None) -> Progress:
        return Progress(f"walkers: {name}", total, unit, stops=True, quiet=options.quiet)

    options.output.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(options.output / ".lock")
    lock.acquire()
    try:
        with catch_signals():
            own = own_clips(options.own, progress) if options.own else None
            command = shlex.join(["smerf", *sys.argv[1:]])
            record = train_walkers(options.output, config, own, start, command, progress=progress)
    finally:
        lock.release()
    held_out = record["held_out"]
    print(
        f"found:  {100 * held_out['recall']:.0f} % of what moves where 1 % of the rest is marked, "
        f"{100 * held_out['recall_of_input']:.0f} % by its input alone, in {held_out['clips']} rendered clips"
    )
    if not record.get("trained_weights_kept", True):
        print("kept:   the model that it began with, as it finds more")
    model = options.output / MODEL_FILE
    print(f"model:  {model}\nnext:   smerf mask VIDEO --by motion --model {model}")
    return 0
