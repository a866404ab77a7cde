"""Training a teacher whose samples are placed by a density cache, by native passes or by autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smerf.fields.ray_bank import RayBatch
from smerf.fields.rendering import charbonnier, distortion_loss
from smerf.kernels.density_cache import cache_raise_
from smerf.teacher.config import TeacherConfig
from smerf.teacher.fused import FusedTrainer, fused_field

if TYPE_CHECKING:
    from smerf.teacher.model import HashTeacher

__all__ = ["CachedTraining", "distortion_distance"]

_DECAY_EVERY = 16
_REFRESH_EVERY = 8
_REFRESHED_CELLS = 16384


def distortion_distance(t: Tensor) -> Tensor:
    """Compress distances before the distortion loss, so that haze far away costs little: 5/3 (1 - (0.8 t + 1)^-1.5)."""
    return 5.0 / 3.0 * (1.0 - (0.8 * t + 1.0) ** -1.5)


class CachedTraining:
    """The losses of a batch, and the upkeep of the cache."""

    def __init__(self, model: HashTeacher, config: TeacherConfig) -> None:
        self.model, self.config = model, config
        self.fused: FusedTrainer | None = None
        if fused_field(model.field, model.spacing, model.scene_scale, config.samples):
            self.fused = FusedTrainer(
                model.field, model.spacing, model.scene_scale, config.rays, config.samples, model.cache
            )

    def losses(
        self, batch: RayBatch, generator: torch.Generator, step: int, mix: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted losses of a batch and its mean squared error.

        With native passes the gradients are filled in already; otherwise the losses carry their graph.
        """
        config, model, rays = self.config, self.model, batch.rays
        shift, jitter = torch.rand(2, len(rays), generator=generator) - 0.5
        background = torch.rand(len(rays), 3, generator=generator)
        truth = batch.colours * batch.alpha + (1.0 - batch.alpha) * background
        s_edges = model.place(rays, mix, shift, jitter)
        near = 0.0 if model.spacing.linear else config.near_gradient * model.spacing.near
        if self.fused:
            rows = self.fused.losses(
                rays, s_edges, truth, background,
                distortion_weight=config.distortion_weight, near_distance=near,
            ).mean(0)  # fmt: skip
            return {"colour": rows[0], "distortion": config.distortion_weight * rows[1]}, rows[2]
        scale = None
        if near > 0.0:
            middle = model.spacing.t_from_s(0.5 * (s_edges[:, 1:] + s_edges[:, :-1]))
            scale = (middle / near).square().clamp_max(1.0)
        edges, weights, colour = model.march(rays, s_edges, scale)
        error = colour + (1.0 - weights.sum(-1, keepdim=True)) * background - truth
        losses = {"colour": charbonnier(error)}
        losses["distortion"] = config.distortion_weight * distortion_loss(distortion_distance(edges), weights)
        return losses, error.detach().square().mean()

    @torch.no_grad()
    def refresh(self, step: int, generator: torch.Generator) -> None:
        """Let the cache forget a little now and then, and ask the field about random cells."""
        cache, n = self.model.cache, self.config.cache_resolution
        if step % _DECAY_EVERY == 0:
            cache.mul_(self.config.cache_decay)
        if step % _REFRESH_EVERY == 0:
            x = torch.rand(_REFRESHED_CELLS, 3, generator=generator)
            cache_raise_(cache, x, self.model.field.density(x))
