"""``smerf vision train``: the models that come with the package, and your own in their place."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Output, Positional, Settings
from smerf.errors import UsageError

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train the model behind smerf label's own words (names) or smerf mask --by motion (walkers).

    names: rooms, laid tables and yards are rendered, a small network learns the word of every pixel, and the score from
    which a name is accepted is chosen on held-out scenes.

    walkers: figures walk through rendered rooms. With your own videos or folders of frames it is trained on both at
    once, with a head for each; yours are labelled where the people segmenter and what differs from the frames around
    agree, and unknown where only one of them does.

    The same command continues a training that was stopped.

    Examples:
      smerf vision train names -o runs/names --set scenes=100 --set steps=500
      smerf vision train walkers -o runs/walkers
      smerf vision train walkers -o runs/mine --start shipped --own hall.mp4 --set steps=300 --set rooms=40
    """

    what: Positional[Annotated[Literal["names", "walkers"], tyro.conf.arg(metavar="names|walkers")]]
    """What to train."""
    output: Output
    """Folder of the model and record.json; scenes, clips and checkpoints stay there too."""
    own: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="VIDEO|FRAMES")] = ()
    """Walkers: your videos, or folders of frames in order."""
    start: Annotated[str | None, tyro.conf.arg(metavar="FILE|shipped")] = None
    """Walkers: go on from a model; it is kept if recall on rendered clips falls by more than 2 points."""
    set: Settings = ()
    """Change one setting, such as steps=500 or quotas=[[rooms,3],[own,1]]; may be repeated."""


def run(options: Options) -> int:
    """Train a model, and print what held-out scenes or clips say of it."""
    if options.what == "walkers":
        return _train_walkers(options)
    if options.own or options.start is not None:
        raise UsageError("--own and --start: are of walkers; names are learnt from rendered scenes alone")
    return _train_names(options)


def _train_names(options: Options) -> int:
    from smerf.engine.settings import apply_overrides
    from smerf.engine.signals import catch_signals
    from smerf.pipeline.names import train_names
    from smerf.vision.names.train import TrainConfig

    config = apply_overrides(TrainConfig(), tuple(options.set))
    command = ["smerf", "vision", "train", options.what, "-o", options.output.name]
    command += [word for each in options.set for word in ("--set", each)]
    with catch_signals():
        record = train_names(options.output, config, command, quiet=options.quiet)
    for kind, figures in record["held_out"].items():
        print(
            f"{kind}: {figures['right']} of {figures['named']} names right, "
            f"{figures['found']} of {figures['true']} things found, from a score of {record['least']}"
        )
    model = options.output / "names.safetensors"
    print(f"model:  {model}\nnext:   smerf label RUN --model {model}")
    return 0


def _train_walkers(options: Options) -> int:
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
