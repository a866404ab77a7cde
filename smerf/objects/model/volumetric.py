"""The volumetric decoder: each slot is a small radiance field, and their densities add up along the ray."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.objects.config import DecoderConfig, RayCode
from smerf.objects.model.decoders import Decoded, PlainSlots, PreparedSlots, render_mlp
from smerf.objects.model.heads import colour_of
from smerf.objects.model.ray_code import frequency_code

__all__ = ["NerfDecoder", "composite"]


def composite(
    density: Tensor, colour: Tensor, t: Tensor, far: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Composite the fields of slots along rays.

    Args:
        density: Non-negative, (B, K, R, S).
        colour: In [0, 1], (B, K, R, S, 3).
        t: Ascending distances of the samples, (B, R, S).
        far: Where the last interval ends.

    Returns:
        Colour (B, R, 3), the weight of each slot (B, R, K), depth (B, R) and sample weights (B, R, S). Those of
        slots sum to the opacity of the ray.
    """
    total = density.sum(1)
    fraction = density / (total[:, None] + 1e-8)
    mean_colour = (fraction[..., None] * colour).sum(1)
    ends = torch.cat([t[..., 1:], torch.full_like(t[..., :1], far)], -1)
    optical = total * (ends - t).clamp_min(0.0)
    before = optical.cumsum(-1) - optical
    weights = torch.exp(-before) * -torch.expm1(-optical)
    return (
        (weights[..., None] * mean_colour).sum(-2),
        (weights[:, None] * fraction).sum(-1).mT,
        (weights * t).sum(-1),
        weights,
    )


class NerfDecoder(PlainSlots):
    """Slots as radiance fields, with coarse and fine samples from one network; white where nothing is hit."""

    def __init__(self, config: DecoderConfig, code: RayCode, slot_width: int) -> None:
        super().__init__()
        self.config, self.code = config, code
        self.render = render_mlp(slot_width + code.point_size, config, 4)

    def forward(
        self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, *, layers: bool = False
    ) -> Decoded:
        """Colour rays (B, G, R, 3). Samples are jittered while training and midway otherwise."""
        config = self.config
        count = prepared.slots.shape[1]
        group = prepared.group
        origins = origins.expand(-1, count, -1, -1) if group is None else origins[:, group]
        directions = directions.expand(-1, count, -1, -1) if group is None else directions[:, group]
        shape = (origins.shape[0], origins.shape[2], config.samples)
        jitter = (
            torch.rand(shape, device=origins.device) if self.training else torch.full(shape, 0.5).to(origins)
        )
        steps = torch.arange(config.samples, device=origins.device)
        t = config.near + (config.far - config.near) * (steps + jitter) / config.samples
        coarse = composite(*self._field(prepared, origins, directions, t), t, config.far)
        fine = coarse
        if config.fine_samples:
            more = _resample(t, coarse[3].detach(), config.fine_samples, self.training)
            t = torch.cat([t, more], -1).sort(-1).values
            fine = composite(*self._field(prepared, origins, directions, t), t, config.far)
        colour, slot_weights, depth, _ = fine
        sky = 1.0 - slot_weights.sum(-1, keepdim=True)
        coarse_colour = coarse[0] + 1.0 - coarse[1].sum(-1, keepdim=True)
        return Decoded(
            colour + sky, slot_weights, None, depth, coarse_colour if config.fine_samples else None
        )

    def _field(
        self, prepared: PreparedSlots, origins: Tensor, directions: Tensor, t: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return density (B, K, R, S) and colour (B, K, R, S, 3) of every slot at the samples."""
        points = origins[..., None, :] + directions[..., None, :] * t[:, None, :, :, None]
        code = self.code
        where = frequency_code(points, code.origin_octaves, code.origin_start)
        view = frequency_code(directions, code.direction_octaves, code.direction_start)
        view = view[..., None, :].expand(*where.shape[:-1], -1)
        slots = prepared.slots[:, :, None, None].expand(*where.shape[:-1], -1)
        outputs = self.render(torch.cat([slots, where.to(slots.dtype), view.to(slots.dtype)], -1)).float()
        density = torch.nn.functional.softplus(outputs[..., 0] - 1.0)
        if prepared.visible is not None:
            density = density * prepared.visible[:, :, None, None]
        return density, colour_of(outputs[..., 1:], prepared.tone)


def _resample(t: Tensor, weights: Tensor, count: int, is_random: bool) -> Tensor:
    """Sample ``count`` distances in proportion to the weights (B, R, S) of samples t."""
    padded = weights[..., :-1] + 1e-5
    cdf = torch.cat([torch.zeros_like(padded[..., :1]), padded.cumsum(-1)], -1)
    cdf = cdf / cdf[..., -1:]
    shape = (*t.shape[:-1], count)
    jitter = torch.rand(shape, device=t.device) if is_random else torch.full(shape, 0.5, device=t.device)
    u = (torch.arange(count, device=t.device) + jitter) / count
    upper = torch.searchsorted(cdf.contiguous(), u.contiguous(), right=True).clamp(1, t.shape[-1] - 1)
    low, high = cdf.gather(-1, upper - 1), cdf.gather(-1, upper)
    fraction = (u - low) / (high - low).clamp_min(1e-8)
    start, end = t.gather(-1, upper - 1), t.gather(-1, upper)
    return start + fraction.clamp(0.0, 1.0) * (end - start)
