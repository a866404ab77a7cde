"""From the views of a scene to its slots."""

from __future__ import annotations

import torch

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.data.scenes import SceneSet
from smerf.objects.editing.slots import SavedSlots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import model_digest

__all__ = ["encode_views"]


@torch.no_grad()
def encode_views(
    model: Osrt, views: SceneSet, inputs: int, *, where: str, count: int | None = None, seed: int = 0
) -> SavedSlots:
    """Encode the first views of a scene.

    Args:
        model: A model with slots.
        views: One scene; its images have the size that the model expects.
        inputs: How many views to encode.
        where: The model's path, by which the slots name it.
        count: Number of slots, for models with random starts.
        seed: Random seed of random starts.

    Raises:
        UsageError: If the model has no slots, or another number than ``count`` of learned starts.
        InvalidDataError: If there are fewer views.
    """
    if model.slots is None:
        raise UsageError(f"{where}: is an SRT without slots; encode needs a model with slots")
    config = model.config.slots
    if count is not None and config.start == "learned" and count != config.count:
        raise UsageError(f"--slots {count}: this model has {config.count} learned starts; leave it out")
    if views.views < inputs:
        raise InvalidDataError(f"the scene has {views.views} views, {inputs} are needed")
    given = slice(0, inputs)
    device = next(model.parameters()).device
    inside = views.in_frame(model.config.frame)
    slots = model.encode(
        views.images(given).to(device),
        inside.world_from_cam[:, given].to(device),
        views.fov_x[:, given].to(device),
        starts=model.slots.begin(1, torch.Generator().manual_seed(seed), count),
    )[0]
    cameras = tuple(views.camera(0, view) for view in range(inputs))
    return SavedSlots(slots.cpu(), cameras, model_digest(model), where)
