"""``smerf objects encode``: from a few posed views to slots."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from smerf.cli.options import Common, Device, Output, Positional, Switch, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Turn a few posed views of a scene into slots, one latent vector per object.

    VIEWS is a set of scenes (one of which --scene picks), or a capture of photos with poses. Photos are moved so
    that their cameras look at the origin from the distance that the model was trained on.

    Examples:
      smerf objects encode scenes/easy -o slots.safetensors --scene 3
      smerf objects encode captures/desk --model runs/clevr -o desk.safetensors
    """

    views: Positional[Annotated[Path, tyro.conf.arg(metavar="VIEWS")]]
    """Set of scenes, or a posed capture."""
    output: Output
    """File of slots to write (.safetensors)."""
    model: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Run folder or model file; the small model that comes along if not given."""
    scene: Annotated[int, tyro.conf.arg(metavar="INT")] = 0
    """Which scene of a set."""
    inputs: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of views to encode; as many as the model was trained with if not given."""
    slots: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """Number of slots, for models with random starts."""
    seed: int = 0
    """Random seed of random starts."""
    device: Device = "auto"
    """Where to compute."""
    overwrite: Switch[bool] = False
    """Replace a file that exists."""


def run(options: Options) -> int:
    """Encode the views and print where the slots are."""
    from smerf.cli.objects.parts import refuse_existing
    from smerf.errors import UsageError
    from smerf.objects.data.photos import photos_as_shot
    from smerf.objects.data.readers import is_scene_set, open_views
    from smerf.objects.editing.encode import encode_photos, encode_views
    from smerf.objects.editing.slots import save_slots
    from smerf.objects.model.store import load_model
    from smerf.pipeline.objects import SHIPPED, find_model

    refuse_existing(options.output, options.overwrite)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"{options.output}: give a name ending in .safetensors")
    for name in ("inputs", "slots"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} {value}: give 1 or more")
    where = find_model(options.model)
    model, record = load_model(where, resolve_device(options.device))
    count = options.inputs or model.config.training.input_views
    config, name = model.config, str(where) if options.model else SHIPPED
    if config.takes_any_size and not is_scene_set(options.views):
        photos = photos_as_shot(options.views, count, config.image, config.encoder.patch)
        saved = encode_photos(model, photos, where=name, count=options.slots, seed=options.seed)
        source = photos[0].source
    else:
        views = open_views(options.views, options.scene, count, config.image, config.takes)
        saved = encode_views(model, views, count, where=name, count=options.slots, seed=options.seed)
        source = views.source
    _note_other_data(record.get("data", {}), source)
    save_slots(saved, options.output)
    print(
        f"slots: {options.output} ({len(saved.slots)} of width {saved.slots.shape[1]}, from {count} "
        f"view{'s' * (count > 1)})\nnext:  smerf objects render {options.output} -o images"
    )
    return 0


def _note_other_data(trained: dict[str, Any], source: dict[str, Any]) -> None:
    """Say so where a model of generated scenes gets others."""
    if trained.get("kind") == "generated" and source.get("kind") != "generated":
        recipe = trained.get("recipe", {}).get("name", "unknown")
        print(
            f"note: this model was trained on generated scenes of the recipe {recipe} alone; expect nothing of others",
            file=sys.stderr,
        )
