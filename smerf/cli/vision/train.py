"""``smerf vision train``: the closed vocabulary of ``smerf label``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from smerf.cli.options import Common, Output, Positional, Settings

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Learn the words that smerf label knows without anyone's model, from things that are drawn at random.

    Rooms, laid tables and yards are rendered, a small network learns the word of every pixel, and the score from which
    a name is accepted is chosen on held-out scenes. The same command continues a training that was stopped.

    Examples:
      smerf vision train names -o runs/names
      smerf vision train names -o runs/names --set scenes=100 --set steps=500
    """

    what: Positional[Annotated[Literal["names"], tyro.conf.arg(metavar="names")]]
    """What to train."""
    output: Output
    """Folder for names.safetensors and record.json; scenes and checkpoints stay there too."""
    set: Settings = ()
    """Change one setting, such as steps=4000; may be repeated."""


def run(options: Options) -> int:
    """Train, and print what the held-out scenes say."""
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
