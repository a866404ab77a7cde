"""What a training minimises, and the cameras that it refines, which exist only while it trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smerf.capture.types import Frame
from smerf.fields.ray_bank import RayBatch
from smerf.fields.rays import Rays
from smerf.fields.rendering import blurred_interlevel_loss, charbonnier, distance_loss, interlevel_loss
from smerf.teacher.cameras import CameraRefinement
from smerf.teacher.config import TeacherConfig
from smerf.teacher.fused import FusedStep
from smerf.teacher.model import FieldTeacher
from smerf.teacher.row_random import RowRandom
from smerf.teacher.samplers import CacheSampler, Round

__all__ = ["Objective", "StepSettings"]

# Weight of the spread of focal lengths and principal points over the photos (CamP, arXiv 2308.10902).
_INTRINSICS_SPREAD = 0.1


@dataclass(frozen=True)
class StepSettings:
    """What changes over the steps; see ``ProposalSampler.place``."""

    step: int
    mix: float
    anneal: float
    trains_proposals: bool


class Objective(nn.Module):
    """The weighted losses of a batch. Its parameters are those that no finished teacher has."""

    def __init__(self, config: TeacherConfig, frames: Sequence[Frame]) -> None:
        """Prepare for the training photos ``frames``."""
        super().__init__()
        self.config = config
        self.cameras = CameraRefinement(frames) if config.refine_cameras else None

    @property
    def refined(self) -> Callable[[Rays, Tensor], Rays] | None:
        """Return what moves rays as the cameras of photos (R,) were refined, if they are."""
        return None if self.cameras is None else self.cameras.__call__

    def _target(self, batch: RayBatch, random: RowRandom) -> tuple[Tensor, Tensor]:
        """Return the wanted colours (R, 3), and the background (R, 3) that is behind them."""
        like = batch.colours
        if self.config.background == "random":
            background = random.uniform(len(like), 3, like=like)
        else:
            background = torch.full_like(like, 1.0 if self.config.background == "white" else 0.5)
        return batch.colours * batch.alpha + (1.0 - batch.alpha) * background, background

    def _gradient_scale(self, near: float) -> Callable[[Tensor], Tensor] | None:
        """Return what weakens the gradients of samples close to the cameras, or None."""
        reach = self.config.near_gradient * near
        if reach <= 0.0:
            return None
        return lambda edges: (0.5 * (edges[:, 1:] + edges[:, :-1]) / reach).square().clamp_max(1.0)

    def _interlevel(self, s_edges: Tensor, weights: Tensor, rounds: Sequence[Round]) -> Tensor:
        config, total = self.config, s_edges.new_zeros(())
        for each, blur in zip(rounds, (config.coarse_blur, config.blur)[-len(rounds) :]):
            args = s_edges, weights, each.s_edges, each.weights
            is_bound = config.interlevel == "bound"
            total = total + (interlevel_loss(*args) if is_bound else blurred_interlevel_loss(*args, blur))
        return config.interlevel_weight * total

    def forward(
        self,
        model: FieldTeacher,
        batch: RayBatch,
        random: RowRandom,
        settings: StepSettings,
        fused: FusedStep | None = None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted losses of a batch by name, and the squared error (R,) of each ray.

        With a ``fused`` back end the gradients are set already and the losses carry no graph; otherwise the gradients
        are those of the losses' sum.
        """
        rays = batch.rays if self.cameras is None else self.cameras(batch.rays, batch.frames)
        placement = model.sampler.place(
            rays, random, mix=settings.mix, anneal=settings.anneal, trains_proposals=settings.trains_proposals
        )
        if fused:
            return self._fused(batch, placement.s_edges, random, settings.step, fused)
        march = model.march(
            rays,
            placement.s_edges,
            random,
            frames=batch.frames,
            gradient_scale=self._gradient_scale(model.spacing.near),
        )
        rendering = march.rendering
        truth, background = self._target(batch, random)
        colour = rendering.colour + (1.0 - rendering.opacity)[:, None] * background
        if model.exposure is not None:
            colour = colour * model.exposure(batch.frames)
        # A pixel that is not a number teaches nothing.
        error = torch.where(truth.isfinite(), colour - truth.nan_to_num(), 0.0)
        losses = self._named(
            charbonnier(error, self.config.charbonnier),
            rendering.distortion.mean(),
            self._opacity(march.density, march.edges),
            None
            if batch.distances is None
            else distance_loss(march.edges, rendering.weights, batch.distances),
        )
        if placement.rounds and settings.trains_proposals:
            losses["interlevel"] = self._interlevel(placement.s_edges, rendering.weights, placement.rounds)
        if self.cameras is not None:
            losses["cameras"] = _INTRINSICS_SPREAD * self.cameras.spread()
        if isinstance(model.sampler, CacheSampler):
            model.sampler.observe(rays, march.edges, march.density)
        return losses, error.detach().square().mean(-1)

    def _opacity(self, density: Tensor, edges: Tensor) -> Tensor:
        """Return the mean over rays of the sum of their samples' opacities."""
        if self.config.opacity_weight == 0.0:
            return density.new_zeros(())
        return -torch.expm1(-density * edges.diff(dim=-1)).sum(-1).mean()

    def _named(
        self, colour: Tensor, distortion: Tensor, opacity: Tensor, distance: Tensor | None
    ) -> dict[str, Tensor]:
        losses = {"colour": colour, "distortion": self.config.distortion_weight * distortion}
        if self.config.opacity_weight > 0.0:
            losses["opacity"] = self.config.opacity_weight * opacity
        if distance is not None:
            losses["distance"] = self.config.distance_weight * distance
        return losses

    def _fused(
        self, batch: RayBatch, s_edges: Tensor, random: RowRandom, step: int, fused: FusedStep
    ) -> tuple[dict[str, Tensor], Tensor]:
        truth, background = self._target(batch, random)
        rows = fused.losses(batch.rays, s_edges, truth, background, step, batch.distances)
        colour, distortion, _, opacity, distance = rows.mean(0)
        known = None if batch.distances is None else distance
        return self._named(colour, distortion, opacity, known), rows[:, 2]
