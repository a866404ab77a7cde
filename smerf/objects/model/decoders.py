"""From slots and rays to colours: Slot Mixer, Spatial Broadcast and the improved SRT decoder.

All decoders share one call. ``prepare`` does, once for each scene, what depends on the slots alone; the decoder
then takes rays in any number. Rays never see each other, so images may be rendered in pieces.

A scene may have several *ray groups* (G): slot k looks along the rays of group ``group[k]``. That is how a slot
is moved by a rigid motion: it looks along the rays moved the opposite way.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.objects.config import DecoderConfig, RayCode
from smerf.objects.model.heads import colour_of
from smerf.objects.model.layers import attention_layer, mlp, projection
from smerf.objects.model.ray_code import encode_rays

__all__ = [
    "BroadcastDecoder",
    "Decoded",
    "MixerDecoder",
    "PlainSlots",
    "PreparedSlots",
    "SrtDecoder",
    "take_groups",
]


@dataclass(frozen=True)
class PreparedSlots:
    """The slots of scenes and what a decoder computes from them alone.

    ``slots`` (B, K, D); ``keys_values`` of each cross-attention layer; ``mixing_keys`` (B, K, inner);
    ``visible`` (B, K) bool, or ``None`` if all are; ``group`` (K,) int64, the ray group of each slot, or
    ``None`` with one group. ``shown`` (K,) bool, or ``None`` if all are: a mixer gives slots that are not shown no
    weight, but its allocation still sees them, so rays in which they had no weight stay as they were. ``tone`` (2, 3)
    is that of a data set's head, or ``None``.
    """

    slots: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...] = ()
    mixing_keys: Tensor | None = None
    visible: Tensor | None = None
    group: Tensor | None = None
    shown: Tensor | None = None
    tone: Tensor | None = None


@dataclass(frozen=True)
class Decoded:
    """What rays see: ``colour`` (B, R, 3) in [0, 1]; ``weights`` (B, R, K) of the slots.

    ``layers`` (B, R, K, 3) are the colours of the single slots, where asked for; ``depth`` (B, R) the distance
    along the ray and ``coarse`` (B, R, 3) the colour of the coarse samples, from the volumetric decoder alone.
    """

    colour: Tensor
    weights: Tensor
    layers: Tensor | None = None
    depth: Tensor | None = None
    coarse: Tensor | None = None


def take_groups(values: Tensor, group: Tensor | None) -> Tensor:
    """Pick, for each slot, the values of its ray group: (B, G, R, K) to (B, R, K)."""
    if group is None:
        return values[:, 0]
    slots = torch.arange(len(group), device=values.device)
    return values.permute(1, 3, 0, 2)[group, slots].permute(1, 2, 0)


def hide(logits: Tensor, visible: Tensor | None) -> Tensor:
    """Set the logits (B, R, K) of hidden slots to minus infinity."""
    return logits if visible is None else logits.masked_fill(~visible[:, None, :], -torch.inf)


def render_mlp(inputs: int, config: DecoderConfig, outputs: int) -> nn.Sequential:
    """Return the MLP that ends every decoder."""
    return mlp([inputs, *[config.render_width] * config.render_layers, outputs], nn.LeakyReLU)


class _CrossAttention(nn.Module):
    """Rays that look at slots or tokens: an MLP on the ray code and cross-attention layers."""

    def __init__(self, config: DecoderConfig, code: RayCode, key_width: int) -> None:
        super().__init__()
        self.code = code
        self.ray_mlp = mlp([code.size, 2 * code.size, code.size])
        self.layers = nn.ModuleList(
            attention_layer(code.size, config.inner, config.heads, config.hidden, key_width)
            for _ in range(config.layers)
        )

    def keys_values(self, z: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        return tuple(layer.attention.keys_values(z) for layer in self.layers)

    def forward(self, origins: Tensor, directions: Tensor, prepared: PreparedSlots) -> tuple[Tensor, Tensor]:
        """Return ray features and what the layers make of them, each (B, N, code.size)."""
        rays = self.ray_mlp(encode_rays(origins, directions, self.code))
        x = rays
        for layer, kept in zip(self.layers, prepared.keys_values):
            x = layer(x, kept, prepared.visible)
        return rays, x


class MixerDecoder(nn.Module):
    """The Slot Mixer: one rendering MLP a ray, on the average of the slots that the ray chooses.

    The allocation transformer sees all slots, but only its choice of weights reaches the colour.
    """

    def __init__(self, config: DecoderConfig, code: RayCode, slot_width: int) -> None:
        super().__init__()
        self.allocation = _CrossAttention(config, code, slot_width)
        self.query = projection(code.size, config.inner)
        self.key = projection(slot_width, config.inner)
        self.scale = config.inner**-0.5
        self.render = render_mlp(slot_width + code.size, config, 3)

    def prepare(
        self, slots: Tensor, visible: Tensor | None = None, group: Tensor | None = None
    ) -> PreparedSlots:
        """Project slots (B, K, D) to the keys and values of every layer, once for a scene."""
        return PreparedSlots(slots, self.allocation.keys_values(slots), self.key(slots), visible, group)

    def forward(
        self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, *, layers: bool = False
    ) -> Decoded:
        """Colour rays (B, G, R, 3)."""
        groups = origins.shape[1]
        assert prepared.mixing_keys is not None
        rays, x = self.allocation(origins.flatten(1, 2), directions.flatten(1, 2), prepared)
        logits = (self.query(x) @ prepared.mixing_keys.mT).float() * self.scale
        logits = take_groups(logits.unflatten(1, (groups, -1)), prepared.group)
        logits = hide(logits, prepared.visible)
        logits = hide(logits, None if prepared.shown is None else prepared.shown[None])
        weights = torch.softmax(logits, -1)
        rays = self._own_rays(rays.unflatten(1, (groups, -1)), weights, prepared.group)
        # A matrix product: the products weight x slot of all rays, held at once, would fill any memory.
        mixed = weights.to(prepared.slots.dtype) @ prepared.slots
        colour = colour_of(self.render(torch.cat([mixed, rays.to(mixed.dtype)], -1)), prepared.tone)
        return Decoded(colour, weights, self._layers(prepared, rays) if layers else None)

    def _own_rays(self, rays: Tensor, weights: Tensor, group: Tensor | None) -> Tensor:
        """Average the features (B, G, R, C) of the ray groups by the weight of the slots that look along them."""
        if group is None:
            return rays[:, 0]
        totals = weights.new_zeros(*weights.shape[:2], rays.shape[1]).index_add(2, group, weights)
        return torch.einsum("brg,bgrc->brc", totals.to(rays.dtype), rays)

    def _layers(self, prepared: PreparedSlots, rays: Tensor) -> Tensor:
        colours = [
            colour_of(
                self.render(torch.cat([slot[:, None].expand(-1, rays.shape[1], -1), rays], -1)), prepared.tone
            )
            for slot in prepared.slots.unbind(1)
        ]
        return torch.stack(colours, 2)


class PlainSlots(nn.Module):
    """The part of decoders that have nothing to compute from the slots alone."""

    def prepare(
        self, slots: Tensor, visible: Tensor | None = None, group: Tensor | None = None
    ) -> PreparedSlots:
        """Keep slots (B, K, D) as they are."""
        return PreparedSlots(slots, visible=visible, group=group)


class BroadcastDecoder(PlainSlots):
    """Spatial Broadcast: every slot renders the ray by itself, and a softmax over their logits chooses."""

    def __init__(self, config: DecoderConfig, code: RayCode, slot_width: int) -> None:
        super().__init__()
        self.code = code
        self.render = render_mlp(slot_width + code.size, config, 4)

    def forward(
        self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, *, layers: bool = False
    ) -> Decoded:
        """Colour rays (B, G, R, 3)."""
        slots, group = prepared.slots, prepared.group
        rays = encode_rays(origins, directions, self.code).to(slots.dtype)
        # The first layer is linear, so what it makes of rays and of slots is computed apart and added.
        first, *rest = self.render
        of_rays, of_slots = first.weight.split([rays.shape[-1], slots.shape[-1]], 1)
        hidden = functional.linear(rays, of_rays)
        hidden = hidden if group is None else hidden[:, group]
        hidden = hidden + functional.linear(slots, of_slots, first.bias)[:, :, None]
        for part in rest:
            hidden = part(hidden)
        outputs = hidden.float()
        weights = torch.softmax(hide(outputs[..., 0].mT, prepared.visible), -1)
        colours = colour_of(outputs[..., 1:], prepared.tone)
        # Not as a matrix product, which autocast would round to half precision.
        colour = (weights.mT[..., None] * colours).sum(1)
        return Decoded(colour, weights, colours.transpose(1, 2) if layers else None)


class SrtDecoder(nn.Module):
    """The improved SRT decoder, for comparison: rays blend what they like from tokens or slots.

    Its weights are the attention of the last layer, averaged over heads, which nothing trains to be a partition.
    """

    def __init__(self, config: DecoderConfig, code: RayCode, key_width: int) -> None:
        super().__init__()
        self.attend = _CrossAttention(config, code, key_width)
        self.render = render_mlp(code.size, config, 3)

    def prepare(
        self, slots: Tensor, visible: Tensor | None = None, group: Tensor | None = None
    ) -> PreparedSlots:
        """Project slots or tokens (B, K, D) to the keys and values of every layer.

        Raises:
            ValueError: If slots are moved, which this decoder cannot do.
        """
        if group is not None:
            raise ValueError("group: the srt decoder cannot move single slots; use mixer or broadcast")
        return PreparedSlots(slots, self.attend.keys_values(slots), visible=visible)

    def forward(
        self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, *, layers: bool = False
    ) -> Decoded:
        """Colour rays (B, 1, R, 3); there are no colours of single slots."""
        last = self.attend.layers[-1]
        before = PreparedSlots(prepared.slots, prepared.keys_values[:-1], visible=prepared.visible)
        _, x = self.attend(origins[:, 0], directions[:, 0], before)
        keys, values = prepared.keys_values[-1]
        with torch.no_grad():
            queries = last.attention.query(last.attention_norm(x)).unflatten(-1, (last.attention.heads, -1))
            logits = torch.einsum("brhc,bhkc->bhrk", queries, keys).float() * keys.shape[-1] ** -0.5
            if prepared.visible is not None:
                logits = logits.masked_fill(~prepared.visible[:, None, None, :], -torch.inf)
            weights = torch.softmax(logits, -1).mean(1)
        x = last(x, (keys, values), prepared.visible)
        return Decoded(colour_of(self.render(x), prepared.tone), weights)
