"""``smerf objects encode``: from a few posed views to slots."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Device, Output, Positional, Switch, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Turn a few posed views of a scene into slots, one latent vector per object.

    VIEWS is a set of scenes (one of which --scene picks), or a capture of photos with poses. Photos are moved so
    that their cameras look at the origin from the distance that the model knows.

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
    """Number of views to look at; as many as the model was trained with if not given."""
    slots: Annotated[int | None, tyro.conf.arg(metavar="K")] = None
    """Number of slots, for models with random starts."""
    seed: int = 0
    """Seed of random starts."""
    device: Device = "auto"
    """Where to compute."""
    overwrite: Switch[bool] = False
    """Replace a file that exists."""


def run(options: Options) -> int:
    """Encode the views and say where the slots are."""
    import torch

    from smerf.cli.objects.parts import SHIPPED, find_model, refuse_existing
    from smerf.errors import InvalidDataError, UsageError
    from smerf.objects.data.readers import open_views
    from smerf.objects.editing.store import SavedSlots, load_model, model_digest, save_slots

    refuse_existing(options.output, options.overwrite)
    if options.output.suffix != ".safetensors":
        raise UsageError(f"{options.output}: give a name ending in .safetensors")
    where = find_model(options.model)
    model, record = load_model(where, resolve_device(options.device))
    config = model.config
    if model.slots is None:
        raise UsageError(f"{where}: is an SRT without slots; encode needs a model with slots")
    if options.slots is not None and config.slots.start == "learned" and options.slots != config.slots.count:
        raise UsageError(
            f"--slots {options.slots}: this model has {config.slots.count} learned starts; leave it out"
        )
    count = options.inputs or config.training.input_views
    views = open_views(options.views, options.scene, count, config.image)
    if views.views < count:
        raise InvalidDataError(f"{options.views}: has {views.views} views, {count} are asked for")
    given = slice(0, count)
    inside = views.in_frame(config.frame)
    device = next(model.parameters()).device
    with torch.no_grad():
        slots = model.encode(
            views.images(given).to(device),
            inside.cam_pos[:, given].to(device),
            inside.cam_R[:, given].to(device),
            views.fov_x[:, given].to(device),
            count=options.slots,
            generator=torch.Generator().manual_seed(options.seed),
        )[0]
    learned = record.get("data", {})
    if learned.get("kind") == "generated" and views.source.get("kind") != "generated":
        name = learned.get("recipe", {}).get("name", "unknown")
        print(
            f"note: this model knows generated scenes of the recipe {name} alone; expect nothing of others",
            file=sys.stderr,
        )
    saved = SavedSlots(
        slots.cpu(), views.cam_pos[0, given], views.cam_R[0, given], views.fov_x[0, given],
        views.size, model_digest(model), str(where) if options.model else SHIPPED,
    )  # fmt: skip
    save_slots(saved, options.output)
    print(
        f"slots: {options.output} ({len(slots)} of width {slots.shape[1]}, from {count} "
        f"view{'s' * (count > 1)})\nnext:  smerf objects render {options.output} -o pictures"
    )
    return 0
