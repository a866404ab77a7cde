"""What the general path minimises, and the cameras that it refines, which exist only while it trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from smerf.capture.types import Frame
from smerf.fields.ray_bank import RayBatch
from smerf.fields.rendering import blurred_interlevel_loss, charbonnier, interlevel_loss
from smerf.teacher.cameras import CameraRefinement
from smerf.teacher.draws import RowDraws
from smerf.teacher.general import GeneralTeacher, Round, Trace

__all__ = ["GeneralObjective"]

# Weight of the spread of focal lengths and principal points over the photos (CamP, arXiv 2308.10902).
_LENS_SPREAD = 0.1


class GeneralObjective(nn.Module):
    """The losses of a batch. Its parameters are those that no finished teacher has."""

    def __init__(self, model: GeneralTeacher, frames: Sequence[Frame], white: bool) -> None:
        """Prepare for training photos ``frames``; ``white`` scenes have content before nothing."""
        super().__init__()
        config = model.config
        self.config, self.white = config, white
        self.cameras = None
        if config.refine_cameras:
            self.cameras = CameraRefinement(frames)

    def _background(self, rays: int, draws: RowDraws, like: Tensor) -> Tensor:
        if self.config.background == "random":
            return draws.uniform(rays, 3, like=like)
        return torch.full((rays, 3), 1.0 if self.config.background == "white" else 0.5).to(like)

    def _gradient_scale(self, model: GeneralTeacher):
        """Return what weakens the gradients of samples close to the cameras, or None."""
        reach = self.config.near_gradient * model.spacing.near
        if self.white or reach <= 0.0:
            return None
        return lambda edges: (0.5 * (edges[:, 1:] + edges[:, :-1]) / reach).square().clamp_max(1.0)

    def _interlevel(self, trace: Trace, rounds: Sequence[tuple[Round, float]]) -> Tensor:
        total = trace.s_edges.new_zeros(())
        for each, blur in rounds:
            args = trace.s_edges, trace.rendering.weights, each.s_edges, each.weights
            is_bound = self.config.interlevel == "bound"
            total = total + (interlevel_loss(*args) if is_bound else blurred_interlevel_loss(*args, blur))
        return total

    def forward(
        self,
        model: GeneralTeacher,
        batch: RayBatch,
        draws: RowDraws,
        *,
        mix: float,
        anneal: float,
        learns_proposals: bool,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted losses of a batch, and the mean squared error of its colours."""
        config = self.config
        rays = batch.rays if self.cameras is None else self.cameras(batch.rays, batch.frames)
        trace = model.trace(
            rays,
            draws,
            mix=mix,
            anneal=anneal,
            learns_proposals=learns_proposals,
            frames=batch.frames,
            gradient_scale=self._gradient_scale(model),
        )
        seen = trace.rendering
        background = self._background(len(rays), draws, seen.colour)
        truth = batch.colours * batch.alpha + (1.0 - batch.alpha) * background
        colour = seen.colour + (1.0 - seen.opacity)[:, None] * background
        if model.exposure is not None:
            colour = colour * model.exposure(batch.frames)
        # A pixel that is not a number says nothing.
        error = torch.where(truth.isfinite(), colour - truth.nan_to_num(), 0.0)
        losses = {"colour": charbonnier(error)}
        losses["distortion"] = config.distortion_weight * seen.distortion.mean()
        if learns_proposals:
            blurs = (config.coarse_blur, config.blur)[-len(trace.rounds) :]
            losses["interlevel"] = config.interlevel_weight * self._interlevel(
                trace, tuple(zip(trace.rounds, blurs))
            )
        if self.cameras is not None:
            losses["cameras"] = _LENS_SPREAD * self.cameras.spread()
        return losses, error.detach().square().mean()
