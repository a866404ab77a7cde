"""What data sets don't share: a head for each, trained beside one model for all of them (CoFT, arXiv 2207.03807)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from smerf.objects.config import ObjectsConfig

__all__ = ["DataHead", "colour_of", "without_heads"]


class DataHead(nn.Module):
    """Exposure and white balance of a data set's photos, and what its background slot starts from.

    Both begin as no change. The tone is a gain and a shift of each channel before the sigmoid, so that it can be folded
    into a decoder's last layer.
    """

    def __init__(self, config: ObjectsConfig) -> None:
        super().__init__()
        self.tone = nn.Parameter(torch.zeros(2, 3))
        has_background = config.slots.shared_background
        self.background = nn.Parameter(torch.zeros(config.slots.width)) if has_background else None

    def begin(self, starts: Tensor) -> Tensor:
        """Return where the slots of this data set start, for the starts (B, K, D) that all share."""
        if self.background is None:
            return starts
        return torch.cat([starts[:, :1] + self.background.to(starts.dtype), starts[:, 1:]], 1)

    @torch.no_grad()
    def fold(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the weights of a model without heads that does what its model does with this one."""
        plain = {name: value for name, value in weights.items() if not name.startswith("heads.")}
        if self.background is not None:
            starts = plain["slots.starts"].clone()
            starts[0] += self.background
            plain["slots.starts"] = starts
        last = max(int(name.split(".")[-2]) for name in plain if name.startswith("decoder.render."))
        gain, shift = self.tone[0].exp(), self.tone[1]
        for kind in ("weight", "bias"):
            name = f"decoder.render.{last}.{kind}"
            value = plain[name].clone()
            # The last three outputs are the colour; before them some decoders have a logit or a density.
            value[-3:] *= gain[:, None] if kind == "weight" else gain
            if kind == "bias":
                value[-3:] += shift
            plain[name] = value
        return plain


def colour_of(logits: Tensor, tone: Tensor | None) -> Tensor:
    """Return colours (..., 3) of a decoder's outputs, in a data set's ``tone`` (2, 3) if given."""
    logits = logits.float()
    return torch.sigmoid(logits if tone is None else logits * tone[0].exp() + tone[1])


def without_heads(config: ObjectsConfig) -> ObjectsConfig:
    """Return the config of a model into which a head is folded."""
    training = dataclasses.replace(config.training, quotas=())
    return dataclasses.replace(config, heads=(), training=training)
