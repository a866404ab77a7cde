"""``smerf objects eval``: figures on held-out scenes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Device, Json, Positional, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Measure a model on scenes: PSNR and SSIM of novel views, FG-ARI, ARI with background, mIoU.

    Give scenes that the model has not been trained on, such as those of another seed.

    Examples:
      smerf objects synth easy -o scenes/test --scenes 64 --seed 99
      smerf objects eval scenes/test
      smerf objects eval scenes/test --model runs/clevr --json
    """

    scenes: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENES")]]
    """Folder of scenes."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Run folder or model file; the small model that comes along if not given."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Use only the first scenes."""
    device: Device = "auto"
    """Where to compute."""
    json: Json = False
    """Print JSON."""


def run(options: Options) -> int:
    """Print the figures."""
    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.errors import InvalidDataError, UsageError
    from smerf.objects.data.readers import open_scenes
    from smerf.objects.model.store import load_model
    from smerf.objects.training.evaluate import PROTOCOL, evaluate_scenes
    from smerf.pipeline.objects import find_model
    from smerf.pipeline.summary import format_table

    where = find_model(options.model)
    model, record = load_model(where, resolve_device(options.device))
    scenes = open_scenes(options.scenes, limit=options.limit)
    if not model.config.takes(scenes.size):
        raise UsageError(
            f"{options.scenes}: has images of {scenes.size[1]}x{scenes.size[0]} pixels, the model expects "
            f"{model.config.image[1]}x{model.config.image[0]}"
        )
    views = model.config.training.input_views
    if scenes.views <= views:
        raise InvalidDataError(
            f"{options.scenes}: has {scenes.views} views, {views} are given and none is left"
        )
    with catch_signals(), Progress("eval", unit="scenes", stops=True, quiet=options.quiet) as progress:
        scores = evaluate_scenes(model, scenes, views, images=min(scenes.size) >= 11, progress=progress)
    scores = {name: round(value, 4) for name, value in scores.items()}
    if options.json:
        facts = {"model": str(where), "scenes": len(scenes), "input_views": views, "scores": scores}
        print(json.dumps(facts | {"protocol": PROTOCOL, "trained": record.get("steps")}, indent=2))
    else:
        print(
            f"model:  {where}\nscenes: {options.scenes} ({len(scenes)}, {views} of {scenes.views} views given)"
        )
        print(format_table(["figure", "value"], [[name, f"{value:.4g}"] for name, value in scores.items()]))
    return 0
