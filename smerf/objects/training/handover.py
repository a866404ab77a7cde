"""From a first decoder to the final one: Spatial Broadcast teaches the Slot Mixer its shares, and what edits do.

Spatial Broadcast separates objects more surely, as no slot sees another; for the same reason its picture of an edited
scene is right without ever having been trained. A mixer draws a ray several times faster. So slots are learned with
the first, rest, and the mixer learns from photos, from the shares of the first and from the pictures that the first
draws of edited scenes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.objects.data.scenes import RayBatch
from smerf.objects.model.decoders import BroadcastDecoder, Decoded, PreparedSlots
from smerf.objects.model.osrt import Osrt

__all__ = ["RandomEdit", "favour_objects", "random_edit", "share_loss", "taught_loss"]

_REACH = 1.2


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


def random_edit(batch: RayBatch, count: int, first: int, generator: torch.Generator) -> RandomEdit:
    """Draw an edit.

    Args:
        batch: Scenes and rays.
        count: Number of slots K.
        first: Slots before this one are left alone.
        generator: Source of the draws, on the CPU.
    """
    scenes, device = len(batch.origins), batch.origins.device
    missing = torch.randint(first, count, (scenes, 1), generator=generator)
    is_whole = torch.rand(scenes, 1, generator=generator) < 0.5
    visible = (torch.arange(count) != missing) | is_whole
    moved = int(torch.randint(first, count, (), generator=generator))
    shift = _REACH * (2.0 * torch.rand(scenes, 1, 3, generator=generator) - 1.0)
    shift[..., 2] = 0.0
    return RandomEdit(
        visible.to(device),
        (torch.arange(count) == moved).long().to(device),
        torch.stack([batch.origins, batch.origins - shift.to(device)], 1),
        torch.stack([batch.directions, batch.directions], 1),
    )


def favour_objects(shares: Tensor, margin: float) -> Tensor:
    """Return the shares (B, R, K) with the logit of the first slot, the background, lowered by ``margin``."""
    lowered = torch.cat([shares[..., :1] * math.exp(-margin), shares[..., 1:]], -1)
    return lowered / lowered.sum(-1, keepdim=True).clamp_min(1e-8)


def share_loss(shares: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean cross entropy of ``shares`` against ``wanted``, both (B, R, K) with sum 1."""
    return -(wanted * shares.clamp_min(1e-8).log()).sum(-1).mean()


def taught_loss(
    model: Osrt,
    teacher: BroadcastDecoder,
    slots: Tensor,
    batch: RayBatch,
    weight: float,
    edit: RandomEdit | None = None,
    margin: float = 0.0,
) -> Tensor:
    """Return the loss of the model's decoder: squared error of colours, and ``weight`` times that of its shares.

    Without an edit colours come from the photos, with one from the teacher.

    Args:
        model: Its decoder learns.
        teacher: The decoder that the slots were learned with.
        slots: (B, K, D), without gradients.
        batch: Rays and their colours.
        weight: Of the cross entropy of shares.
        edit: Of these scenes.
        margin: See ``favour_objects``; 0 where the background is no slot in particular.
    """

    def drawn(decoder: torch.nn.Module) -> Decoded:
        if edit is None:
            prepared: PreparedSlots = decoder.prepare(slots)
            return decoder(prepared, batch.origins[:, None], batch.directions[:, None])
        return decoder(decoder.prepare(slots, edit.visible, edit.group), edit.origins, edit.directions)

    with torch.no_grad():
        wanted = drawn(teacher)
    decoded = drawn(model.decoder)
    colours = batch.colours if edit is None else wanted.colour
    shares = favour_objects(wanted.weights, margin)
    return (decoded.colour - colours).square().mean() + weight * share_loss(decoded.weights, shares)
