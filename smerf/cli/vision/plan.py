"""``smerf vision plan``: what a transformer of a given size would take."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated

import tyro

from smerf.cli.options import Common, Json

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Count the parameters, FLOPs, memory, GPUs and time of a vision transformer, without making it.

    Examples:
      smerf vision plan --preset vit-22b
      smerf vision plan --preset vit-22b --gpus 64
    """

    preset: Annotated[str, tyro.conf.arg(metavar="tiny|cpu|base|vit-22b")] = "vit-22b"
    """Size."""
    gpus: Annotated[int, tyro.conf.arg(metavar="N")] = 1
    """How many GPUs to share the work out among."""
    json: Json = False
    """Print JSON."""


def run(options: Options) -> int:
    """Print the plan."""
    from smerf.engine.settings import nearest
    from smerf.errors import UsageError
    from smerf.pipeline.summary import format_table
    from smerf.vision.plan import GPUS, PRESETS, plan

    if options.preset not in PRESETS:
        known = f"is not one of {', '.join(PRESETS)}{nearest(options.preset, PRESETS)}"
        raise UsageError(f"--preset {options.preset}: {known}")
    if options.gpus < 1:
        raise UsageError(f"--gpus {options.gpus}: give 1 or more")
    config = PRESETS[options.preset]
    found = plan(config)
    days = None if found.gpu_days is None else found.gpu_days / options.gpus
    if options.json:
        print(json.dumps(found.to_json() | {"gpus": options.gpus, "days": days}, indent=1))
        return 0
    plain, recomputed = found.activation_gib
    print(
        f"{options.preset}: {found.parameters:,} parameters, {found.block_matrices:,} of them in the blocks' matrices"
    )
    print(
        f"{config.tokens} tokens an image, {found.forward_flops / 1e9:,.0f} GFLOP forward, three times that to train"
    )
    print(f"activations of an image: {plain:.2f} GiB, {recomputed:.2f} GiB with recomputation of each block")
    kinds = list(GPUS)
    rows = [
        [state, f"{found.gib(state):,.1f}", *(str(found.gpus(state, kind)) for kind in kinds)]
        for state in found.states
    ]
    print(format_table(["state", "GiB", *(f"GPUs of {kind}" for kind in kinds)], rows))
    if found.training_flops is not None and days is not None:
        schedule = config.schedule
        assert schedule is not None
        print(
            f"published schedule, {schedule.steps:,} steps of {schedule.batch:,} images: "
            f"{found.training_flops:.2g} FLOP, about {days:,.0f} days of {options.gpus} H100 at 40 % of their peak"
        )
    return 0
