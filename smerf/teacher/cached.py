"""Training a teacher whose samples are placed by a density cache, by native passes or by autograd."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from smerf.fields.ray_bank import RayBank, RayBatch
from smerf.fields.rendering import charbonnier, distortion_loss
from smerf.kernels import native, sparse_adam_
from smerf.kernels.density_cache import cache_raise_
from smerf.teacher.fused import FusedTrainer, fused_field
from smerf.teacher.importance import ErrorSampler

if TYPE_CHECKING:
    from smerf.teacher.model import HashTeacher

__all__ = ["CachedTraining", "distortion_distance"]

_DECAY_EVERY = 16
_REDRAW_EVERY = 32
# Cells asked at random per 2048 rays, on average; they are asked some steps at a time.
_REFRESHED_CELLS = 2048
_REFRESH_EVERY = 8


def distortion_distance(t: Tensor) -> Tensor:
    """Compress distances before the distortion loss, so that haze far away costs little: 5/3 (1 - (0.8 t + 1)^-1.5)."""
    return 5.0 / 3.0 * (1.0 - (0.8 * t + 1.0) ** -1.5)


class CachedTraining:
    """One optimiser step after another, and the upkeep of the cache."""

    def __init__(
        self, model: HashTeacher, bank: RayBank, adam: torch.optim.Adam, moments: tuple[Tensor, Tensor]
    ) -> None:
        """Train ``model`` on ``bank``; ``adam`` moves its networks, ``moments`` are those of its table."""
        self.model, self.config, self.bank = model, model.config, bank
        self._adam, self._moments = adam, moments
        self.sampler = ErrorSampler(len(bank), model.config.even_rays)
        self.mean_square = 1.0
        self._square = torch.ones(())
        self.fused: FusedTrainer | None = None
        config = model.config
        if fused_field(model.field, model.spacing, model.scene_scale, config.samples):
            self.fused = FusedTrainer(
                model.field, model.spacing, model.scene_scale, config.rays, config.samples, model.cache
            )
        for tensor in moments:
            native.use_large_pages(tensor)

    def losses(self, batch: RayBatch, generator: torch.Generator, step: int, mix: float) -> dict[str, Tensor]:
        """Return the weighted losses of a batch.

        With native passes the gradients are filled in already; otherwise the losses carry their graph.
        """
        config, model, rays = self.config, self.model, batch.rays
        shift, jitter = torch.rand(2, len(rays), generator=generator) - 0.5
        background = torch.rand(len(rays), 3, generator=generator)
        truth = batch.colours * batch.alpha + (1.0 - batch.alpha) * background
        s_edges = model.place(rays, mix, shift, jitter)
        # An object on its own has no one close to a camera to keep away.
        near = 0.0 if model.background == 1.0 else config.near_gradient * model.spacing.near
        if self.fused:
            rows = self.fused.losses(
                rays, s_edges, truth, background, distortion_weight=config.distortion_weight,
                opacity_weight=config.opacity_weight, near_distance=near, charbonnier=config.charbonnier, draw=step,
            )  # fmt: skip
            self._square = rows[:, 2]
            mean = rows.mean(0)
            return {
                "colour": mean[0],
                "distortion": config.distortion_weight * mean[1],
                "opacity": config.opacity_weight * mean[3],
            }
        scale = None
        if near > 0.0:
            middle = model.spacing.t_from_s(0.5 * (s_edges[:, 1:] + s_edges[:, :-1]))
            scale = (middle / near).square().clamp_max(1.0)
        edges, weights, colour, depth = model.march(rays, s_edges, scale)
        error = colour + (1.0 - weights.sum(-1, keepdim=True)) * background - truth
        self._square = error.detach().square().mean(-1)
        losses = {"colour": charbonnier(error, config.charbonnier)}
        losses["distortion"] = config.distortion_weight * distortion_loss(distortion_distance(edges), weights)
        losses["opacity"] = config.opacity_weight * -torch.expm1(-depth).sum(-1).mean()
        return losses

    def advance(self, generator: torch.Generator, step: int, mix: float, rate: float) -> dict[str, float]:
        """Take one optimiser step, number ``step`` from 0, at ``rate`` times the learning rates; return the losses."""
        config, field = self.config, self.model.field
        index = self.sampler.draw(config.rays, generator)
        for parameter in self.model.parameters():
            parameter.grad = None
        losses = self.losses(self.bank.gather(index), generator, step, mix)
        self.sampler.observe(index, self._square)
        self.mean_square = float(self._square.mean())
        if not self.fused:
            sum(losses.values()).backward()
        for group in self._adam.param_groups:
            group["lr"] = rate * config.network_lr
        for parameter in (field.density_network, field.colour_network):
            parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
        self._adam.step()
        sparse_adam_(
            field.table.data, field.table.grad, *self._moments, step=step + 1, lr=rate * config.table_lr,
            decay=config.hash_decay, half=self.fused.half_table if self.fused else None,
        )  # fmt: skip
        self._refresh(step + 1, generator)
        return {name: float(value.detach()) for name, value in losses.items()}

    def restored(self, tensors: dict[str, Tensor]) -> None:
        """Follow a model that was restored, and continue from the saved ``sampler.*`` tensors."""
        part = "sampler."
        self.sampler.restore({k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)})
        if self.fused:
            self.fused.restored()

    @torch.no_grad()
    def _refresh(self, step: int, generator: torch.Generator) -> None:
        """Let the cache forget a little now and then, and ask the field about random cells."""
        cache = self.model.cache
        if step % _DECAY_EVERY == 0:
            cache.mul_(self.config.cache_decay)
        if step % _REDRAW_EVERY == 0:
            self.sampler.refresh()
        if step % _REFRESH_EVERY == 0:
            x = torch.rand(
                _REFRESHED_CELLS * _REFRESH_EVERY * self.config.rays // 2048, 3, generator=generator
            )
            cache_raise_(cache, x, self.model.field.density(x))
