"""Distillation of a first decoder, Spatial Broadcast, into the Slot Mixer.

Spatial Broadcast separates objects more reliably, as no slot sees another; for the same reason its image of an edited
scene is right without training on edits. A mixer renders a ray several times faster. So slots are trained with the
first and frozen, and the mixer is trained on the photos, on the slot weights of the first and on its images of edited
scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.engine.distributed import Process
from smerf.objects.data.batches import TargetRays
from smerf.objects.model.decoders import BroadcastDecoder, Decoded, PreparedSlots
from smerf.objects.model.osrt import Osrt

__all__ = ["RandomEdit", "distillation_loss", "favour_objects", "random_edit", "weight_loss"]

_ALONE = Process()
_REACH = 1.2
"""Maximum shift of a slot along x and y, in world units."""


@dataclass(frozen=True)
class RandomEdit:
    """An edit of scenes: in some a slot is missing, and one slot is moved along the floor.

    ``visible`` (B, K) bool; ``group`` (K,) int64; ``origins`` and ``directions`` (B, 2, R, 3): the rays at rest, and
    those that the moved slot looks along.
    """

    visible: Tensor
    group: Tensor
    origins: Tensor
    directions: Tensor


def random_edit(
    batch: TargetRays, count: int, first: int, generator: torch.Generator, process: Process = _ALONE
) -> RandomEdit:
    """Sample an edit.

    Args:
        batch: This process's scenes and rays.
        count: Number of slots K.
        first: Slots before this one are left alone.
        generator: On the CPU. It moves on by the batches of all processes.
        process: Which part of the whole batch this is.
    """
    device = batch.origins.device
    scenes = len(batch.origins) * process.world_size
    rows = process.rows(scenes)
    missing = torch.randint(first, count, (scenes, 1), generator=generator)
    is_whole = torch.rand(scenes, 1, generator=generator) < 0.5
    visible = (torch.arange(count) != missing) | is_whole
    moved = int(torch.randint(first, count, (), generator=generator))
    shift = _REACH * (2.0 * torch.rand(scenes, 1, 3, generator=generator) - 1.0)
    shift[..., 2] = 0.0
    return RandomEdit(
        visible[rows].to(device),
        (torch.arange(count) == moved).long().to(device),
        torch.stack([batch.origins, batch.origins - shift[rows].to(device)], 1),
        torch.stack([batch.directions, batch.directions], 1),
    )


def favour_objects(weights: Tensor, margin: float) -> Tensor:
    """Return slot weights (B, R, K) with the logit of the first slot, the background, lowered by ``margin``."""
    lowered = torch.cat([weights[..., :1] * math.exp(-margin), weights[..., 1:]], -1)
    return lowered / lowered.sum(-1, keepdim=True).clamp_min(1e-8)


def weight_loss(weights: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean cross entropy of slot weights against ``wanted``, both (B, R, K) with sum 1."""
    return -(wanted * weights.clamp_min(1e-8).log()).sum(-1).mean()


def distillation_loss(
    model: Osrt,
    teacher: BroadcastDecoder,
    slots: Tensor,
    batch: TargetRays,
    weight: float,
    edit: RandomEdit | None = None,
    margin: float = 0.0,
    head: str | None = None,
) -> Tensor:
    """Return the loss of the model's decoder: squared error of colours, and ``weight`` times the cross entropy of
    its slot weights.

    Without an edit colours come from the photos, with one from the teacher.

    Args:
        model: Its decoder is trained.
        teacher: The decoder that the slots were trained with.
        slots: (B, K, D), without gradients.
        batch: Rays and their colours.
        weight: Of the cross entropy.
        edit: Of these scenes.
        head: Data set whose tone the images have.
        margin: See ``favour_objects``; 0 where the background is no slot in particular.
    """

    def render(decoder: torch.nn.Module) -> Decoded:
        if edit is None:
            prepared: PreparedSlots = model.toned(decoder.prepare(slots), head)
            return decoder(prepared, batch.origins[:, None], batch.directions[:, None])
        prepared = model.toned(decoder.prepare(slots, edit.visible, edit.group), head)
        return decoder(prepared, edit.origins, edit.directions)

    with torch.no_grad():
        wanted = render(teacher)
    decoded = render(model.decoder)
    colours = batch.colours if edit is None else wanted.colour
    target = favour_objects(wanted.weights, margin)
    return (decoded.colour - colours).square().mean() + weight * weight_loss(decoded.weights, target)
