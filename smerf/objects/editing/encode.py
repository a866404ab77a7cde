"""From the views of a scene to its slots."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from smerf.errors import InvalidDataError, UsageError
from smerf.objects.cameras import to_reference_frame
from smerf.objects.data.scenes import SceneSet
from smerf.objects.editing.slots import SavedSlots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.photos import Photos
from smerf.objects.model.store import model_digest

__all__ = ["encode_photos", "encode_views"]


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
    starts = _starts(model, where, count, seed)
    if views.views < inputs:
        raise InvalidDataError(f"the scene has {views.views} views, {inputs} are needed")
    given = slice(0, inputs)
    device = next(model.parameters()).device
    inside = views.in_frame(model.config.frame)
    slots = model.encode(
        views.images(given).to(device),
        inside.world_from_cam[:, given].to(device),
        views.fov_x[:, given].to(device),
        starts=starts,
    )[0]
    cameras = tuple(views.camera(0, view) for view in range(inputs))
    return SavedSlots(slots.cpu(), cameras, model_digest(model), where)


@torch.no_grad()
def encode_photos(
    model: Osrt, photos: Sequence[SceneSet], *, where: str, count: int | None = None, seed: int = 0
) -> SavedSlots:
    """Encode photos of one scene that keep their own shapes, each a set of one view; else as ``encode_views``."""
    starts = _starts(model, where, count, seed)
    device = next(model.parameters()).device
    poses = torch.cat([each.world_from_cam for each in photos], 1)
    if model.config.frame == "reference":
        poses = to_reference_frame(poses)
    first = torch.zeros(1, dtype=torch.int64, device=device)
    groups = [
        Photos(each.images()[0].to(device), pose.to(device), each.fov_x[0].to(device), first)
        for each, pose in zip(photos, poses[0].split(1))
    ]
    slots = model.encode_photos(groups, starts=starts)[0]
    cameras = tuple(each.camera(0, 0) for each in photos)
    return SavedSlots(slots.cpu(), cameras, model_digest(model), where)


def _starts(model: Osrt, where: str, count: int | None, seed: int) -> Tensor:
    if model.slots is None:
        raise UsageError(f"{where}: is an SRT without slots; encode needs a model with slots")
    config = model.config.slots
    if count is not None and config.start == "learned" and count != config.count:
        raise UsageError(f"--slots {count}: this model has {config.count} learned starts; leave it out")
    return model.slots.begin(1, torch.Generator().manual_seed(seed), count)
