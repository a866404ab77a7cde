"""The whole model: views to slots, slots and rays to colours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smerf.objects.cameras import patch_directions, view_rays
from smerf.objects.config import ObjectsConfig
from smerf.objects.model.decoders import BroadcastDecoder, Decoded, MixerDecoder, PreparedSlots, SrtDecoder
from smerf.objects.model.encoder import SceneEncoder, SlotAttention
from smerf.objects.model.heads import DataHead, without_heads
from smerf.objects.model.photos import Photos, pack_photos
from smerf.objects.model.volumetric import NerfDecoder

__all__ = ["DECODERS", "Osrt"]

DECODERS = {
    "mixer": MixerDecoder,
    "broadcast": BroadcastDecoder,
    "nerf": NerfDecoder,
    "srt": SrtDecoder,
}
"""The decoder of each ``decoder.kind``."""


class Osrt(nn.Module):
    """An object scene representation transformer (or, without slots, an SRT)."""

    def __init__(self, config: ObjectsConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SceneEncoder(config.encoder, config.rays)
        has_slots = config.slots.count > 0
        self.slots = SlotAttention(config.slots, config.encoder.width) if has_slots else None
        width = config.slots.width if has_slots else config.encoder.width
        self.decoder = DECODERS[config.decoder.kind](config.decoder, config.rays, width)
        if config.heads:
            self.heads = nn.ModuleDict({name: DataHead(config) for name in config.heads})

    def encode(
        self,
        images: Tensor,
        world_from_cam: Tensor | None = None,
        fov_x: Tensor | None = None,
        *,
        starts: Tensor | None = None,
        head: str | None = None,
    ) -> Tensor:
        """Turn views into slots.

        Args:
            images: Colours in [0, 1], (B, V, H, W, 3).
            world_from_cam: Camera poses (B, V, 3, 4), in the frame that the model was trained in.
            fov_x: Horizontal fields of view in radians, (B, V).
            starts: Where slots start, (B, K, D), from ``slots.begin``; its defaults if not given.
            head: Data set whose head to use, of a model with heads.

        Returns:
            Slots (B, K, D); without slot attention the tokens (B, T, C). A pose-free model needs no cameras.
        """
        tokens = self.encoder(images, *self._rays(images, world_from_cam, fov_x))
        if self.slots is None:
            return tokens
        return self.slots(tokens, self._begin(len(tokens), starts, head))[0]

    def encode_photos(
        self,
        groups: Sequence[Photos],
        *,
        starts: Tensor | None = None,
        keep: Sequence[Tensor] | None = None,
        head: str | None = None,
    ) -> Tensor:
        """Turn photos of several sizes into slots (B, K, D); a scene's photos may differ in size as well.

        Args:
            groups: The photos of each size; poses are in the frame that the model was trained in.
            starts: As for ``encode``.
            keep: For each scene the tokens to keep, for training alone; all if not given.
            head: As for ``encode``.

        Raises:
            ValueError: If the model can't take photos of any size: that needs patches, rays, slots and no learned
                positions.
        """
        self.config.require_any_size()
        assert self.slots is not None
        tokens, is_there = self.encoder.encode_rows(pack_photos(groups, self.config.encoder, keep))
        begun = self._begin(len(tokens), starts, head)
        return self.slots(tokens, begun, None if bool(is_there.all()) else is_there)[0]

    def attention_meters(
        self, images: Tensor, world_from_cam: Tensor | None = None, fov_x: Tensor | None = None
    ) -> list[tuple[float, float]]:
        """Return the largest logit and the mean entropy in nats of every layer of the encoder; views as ``encode``."""
        with torch.no_grad():
            x = self.encoder.embed(images, *self._rays(images, world_from_cam, fov_x))
        return self.encoder.meters(x)

    def _rays(
        self, images: Tensor, world_from_cam: Tensor | None, fov_x: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None]:
        encoder = self.config.encoder
        if not encoder.posed:
            return None, None
        if world_from_cam is None or fov_x is None:
            raise ValueError("world_from_cam, fov_x: this model needs the cameras of its input")
        size = (images.shape[2], images.shape[3])
        if encoder.patch and encoder.patch_ray == "centre":
            flat = patch_directions(world_from_cam.flatten(0, 1), fov_x.flatten(), size, encoder.patch)
            return world_from_cam[..., 3], flat.unflatten(0, fov_x.shape)
        return world_from_cam[..., 3], view_rays(world_from_cam, fov_x, size)[1]

    def _begin(self, scenes: int, starts: Tensor | None, head: str | None) -> Tensor:
        assert self.slots is not None
        starts = self.slots.begin(scenes) if starts is None else starts
        return starts if head is None else self.head(head).begin(starts)

    def head(self, name: str) -> DataHead:
        """Return the head of a data set."""
        found = self.heads[name]
        assert isinstance(found, DataHead)
        return found

    def with_head(self, name: str) -> Osrt:
        """Return a model without heads that does what this one does for a data set."""
        with torch.device("meta"):
            model = Osrt(without_heads(self.config))
        weights = {key: value.detach().clone() for key, value in self.state_dict().items()}
        model.load_state_dict(self.head(name).fold(weights), assign=True)
        return model.eval().requires_grad_(False)

    def prepare(
        self, slots: Tensor, visible: Tensor | None = None, group: Tensor | None = None
    ) -> PreparedSlots:
        """Do, once for a scene, the decoder's work that does not depend on rays."""
        return self.decoder.prepare(slots, visible, group)

    def toned(self, prepared: PreparedSlots, head: str | None) -> PreparedSlots:
        """Return prepared slots that any decoder colours in the tone of a data set."""
        return prepared if head is None else dataclasses.replace(prepared, tone=self.head(head).tone)

    def decode(
        self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, *, layers: bool = False
    ) -> Decoded:
        """Colour rays.

        Args:
            prepared: What ``prepare`` returned.
            origins: (B, R, 3), or (B, G, R, 3) where slots look along G groups of rays.
            directions: The same shape, of unit length.
            layers: Whether to render each slot alone as well.
        """
        if origins.ndim == 3:
            origins, directions = origins[:, None], directions[:, None]
        return self.decoder(prepared, origins, directions, layers=layers)

    def count_parameters(self) -> dict[str, int]:
        """Return the number of parameters of each part, and their ``total``."""
        parts = {"encoder": self.encoder, "slots": self.slots, "decoder": self.decoder}
        counts = {
            name: sum(p.numel() for p in part.parameters())
            for name, part in parts.items()
            if part is not None
        }
        return counts | {"total": sum(counts.values())}
