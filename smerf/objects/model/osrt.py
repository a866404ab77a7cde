"""The whole model: views to slots, slots and rays to colours."""

from __future__ import annotations

from torch import Tensor, nn

from smerf.objects.cameras import view_rays
from smerf.objects.config import ObjectsConfig
from smerf.objects.model.decoders import BroadcastDecoder, Decoded, MixerDecoder, PreparedSlots, SrtDecoder
from smerf.objects.model.encoder import SceneEncoder, SlotAttention
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

    def encode(
        self,
        images: Tensor,
        world_from_cam: Tensor | None = None,
        fov_x: Tensor | None = None,
        *,
        starts: Tensor | None = None,
    ) -> Tensor:
        """Turn views into slots.

        Args:
            images: Colours in [0, 1], (B, V, H, W, 3).
            world_from_cam: Camera poses (B, V, 3, 4), in the frame that the model was trained in.
            fov_x: Horizontal fields of view in radians, (B, V).
            starts: Where slots start, (B, K, D), from ``slots.begin``; its defaults if not given.

        Returns:
            Slots (B, K, D); without slot attention the tokens (B, T, C). A pose-free model needs no cameras.
        """
        origins = directions = None
        if self.config.encoder.posed:
            if world_from_cam is None or fov_x is None:
                raise ValueError("world_from_cam, fov_x: this model needs the cameras of its input")
            origins = world_from_cam[..., 3]
            directions = view_rays(world_from_cam, fov_x, (images.shape[2], images.shape[3]))[1]
        tokens = self.encoder(images, origins, directions)
        if self.slots is None:
            return tokens
        return self.slots(tokens, self.slots.begin(len(tokens)) if starts is None else starts)[0]

    def prepare(
        self, slots: Tensor, visible: Tensor | None = None, group: Tensor | None = None
    ) -> PreparedSlots:
        """Do, once for a scene, the decoder's work that does not depend on rays."""
        return self.decoder.prepare(slots, visible, group)

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
