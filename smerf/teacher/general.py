"""The teacher in full: one or two proposal rounds, multisampled encoding, appearance vectors.

Source: Zip-NeRF (arXiv 2304.06706). Letters: R rays, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from smerf.capture.types import Camera
from smerf.engine.memory import require_memory
from smerf.fields import accelerators
from smerf.fields.grid_field import GridField
from smerf.fields.rays import Rays, Spacing, power_ladder
from smerf.kernels import Frustums, Rendering, importance_sample, volume_render
from smerf.teacher.appearance import AppearanceVectors, ExposureScales, relative_exposures
from smerf.teacher.config import FieldConfig, TeacherConfig
from smerf.teacher.draws import RowDraws
from smerf.teacher.images import render_image
from smerf.teacher.model import HashTeacher, TeacherAnswer

__all__ = ["GeneralTeacher", "Round", "Trace", "build_teacher", "require_table_memory"]


@dataclass(frozen=True)
class Round:
    """A proposal round: edges (R, N + 1) in s, and the weights (R, N) found there."""

    s_edges: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Trace:
    """What rays met: the proposal rounds in order, then the radiance field's edges in s and in metric distance."""

    rounds: tuple[Round, ...]
    s_edges: Tensor
    edges: Tensor
    rendering: Rendering


class GeneralTeacher(nn.Module):
    """The built-in teacher with every part that ``TeacherConfig`` can switch on."""

    def __init__(
        self,
        config: TeacherConfig,
        spacing: Spacing,
        background: float,
        frames: int = 0,
        exposures: Sequence[float | None] = (),
    ) -> None:
        """Build an untrained teacher.

        Args:
            config: Sizes and switches; ``multisamples`` is not 0.
            spacing: Of samples along rays.
            background: Grey level behind the scene when rendering.
            frames: Training photos, each with an appearance vector if the config asks for them.
            exposures: Of the training photos (shutter seconds x ISO / 1000), if the config asks for factors.

        Raises:
            InvalidDataError: If an exposure that is asked for is not known.
        """
        super().__init__()
        self.config, self.spacing, self.background, self.frames = config, spacing, background, frames
        self.samples, self.scene_scale = config.samples, config.scene_scale or 1.0
        generator = torch.Generator().manual_seed(config.seed)
        shapes = [config.proposal] if config.coarse is None else [config.coarse, config.proposal]
        self.proposals = nn.ModuleList(self._grid_field(shape, 0, generator) for shape in shapes)
        self.field = self._grid_field(config.field, config.field.colour_width, generator)
        self.appearance = None
        if config.appearance:
            self.appearance = AppearanceVectors(frames, config.appearance, config.field.geometry, generator)
        self.exposure, self.exposures = None, tuple(exposures) if config.exposure != "off" else ()
        if config.exposure != "off":
            self.exposure = ExposureScales(relative_exposures(self.exposures), config.exposure)

    def _grid_field(self, shape: FieldConfig, colour_width: int, generator: torch.Generator) -> GridField:
        return GridField(
            shape.grid,
            shape.width,
            shape.geometry,
            colour_width,
            shape.colour_layers,
            directions=shape.directions,
            colour_skip=shape.colour_skip,
            scale_features=self.config.scale_features,
            backend=self.config.backend,
            generator=generator,
        )

    @property
    def grid_fields(self) -> list[GridField]:
        """Return all fields, the radiance field first."""
        return [self.field, *self.proposals]

    @property
    def counts(self) -> list[int]:
        """Return the intervals of each proposal round."""
        config = self.config
        return (
            [config.proposal_samples]
            if config.coarse is None
            else [config.coarse_samples, config.proposal_samples]
        )

    def update_scales(self) -> None:
        """Bring the scale features up to date with the tables."""
        for field in self.grid_fields:
            field.update_scales()

    def _frustums(self, draws: RowDraws | None) -> Frustums:
        config = self.config
        if draws is None:
            return Frustums(self.scene_scale, config.multisamples, config.contraction)
        return Frustums(
            self.scene_scale, config.multisamples, config.contraction, draws.seed(), draws.first_row
        )

    def _draw(
        self, s_edges: Tensor, weights: Tensor, samples: int, draws: RowDraws | None, mix: float
    ) -> Tensor:
        """Draw the next round's edges from a round's weights, without gradient."""
        weights = weights.detach()
        if self.config.sampler == "nerfacc":
            return accelerators.nerfacc_sample(s_edges, weights, samples, draws is not None, mix)
        jitter = None if draws is None else draws.uniform(len(weights), like=weights) - 0.5
        return importance_sample(s_edges, weights, samples, jitter, mix)

    def trace(
        self,
        rays: Rays,
        draws: RowDraws | None = None,
        *,
        mix: float = 0.0,
        anneal: float = 1.0,
        learns_proposals: bool = True,
        frames: Tensor | None = None,
        gradient_scale=None,
    ) -> Trace:
        """Place samples round by round and render.

        Args:
            rays: The rays; only the radiance field passes gradients on to them.
            draws: Random jitter and patterns; None repeats the same ones.
            mix: Share of samples spread evenly.
            anneal: Power of the proposal weights before they place samples.
            learns_proposals: Whether the rounds' weights carry gradients.
            frames: Photos (R,) whose appearance is used; None for the scene's own.
            gradient_scale: Called with metric edges; returns a factor (R, S) of each sample's gradient, or None.
        """
        fixed = Rays(rays.origins.detach(), rays.directions.detach(), rays.radii)
        s_edges = torch.tensor([0.0, 1.0], device=rays.origins.device).expand(len(rays), 2).contiguous()
        weights = s_edges.new_ones(len(rays), 1)
        rounds = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns_proposals):
            for field, count in zip(self.proposals, self.counts):
                s_edges = self._draw(s_edges, weights, count, draws, mix)
                edges = self.spacing.t_from_s(s_edges)
                density = field.density(fixed, edges, self._frustums(draws))
                weights = volume_render(density, edges).weights
                rounds.append(Round(s_edges, weights))
                if anneal != 1.0:
                    weights = (weights.detach() + 1e-9) ** anneal
        s_edges = self._draw(s_edges, weights, self.samples, draws, mix)
        edges = self.spacing.t_from_s(s_edges)
        affine = None if self.appearance is None else self.appearance(frames, len(rays))
        density, colour = self.field(rays, edges, self._frustums(draws), affine)
        scale = None if gradient_scale is None else gradient_scale(edges)
        if scale is not None and density.requires_grad:
            density.register_hook(lambda grad: grad * scale)
            colour.register_hook(lambda grad: grad * scale[..., None])
        config = self.config
        coordinates = power_ladder(edges, config.distortion_power, config.distortion_scale)
        return Trace(tuple(rounds), s_edges, edges, volume_render(density, edges, colour, coordinates))

    @torch.no_grad()
    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays without randomness or gradient."""
        trace = self.trace(rays, mix=self.config.mix_end)
        return TeacherAnswer(trace.edges, trace.rendering.weights, trace.rendering.colour, trace.s_edges)

    def _at(self, points: Tensor, directions: Tensor | None = None) -> tuple[Rays, Tensor, Frustums]:
        """Return rays that begin at points (N, 3), intervals without length, and one point for each."""
        rays = Rays(
            points,
            torch.zeros_like(points) if directions is None else directions,
            points.new_zeros(len(points)),
        )
        return rays, points.new_zeros(len(points), 2), Frustums(self.scene_scale, 1, self.config.contraction)

    @torch.no_grad()
    def density(self, points: Tensor) -> Tensor:
        """Return densities (N,) at points (N, 3) in training space, without fading any level."""
        return self.field.density(*self._at(points))[:, 0]

    @torch.no_grad()
    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """Return colours (N, 3) at points (N, 3) seen along unit directions (N, 3)."""
        affine = None if self.appearance is None else self.appearance(None, len(points))
        return self.field(*self._at(points, directions), affine)[1][:, 0]

    def render_image(self, camera: Camera, chunk: int = 4096) -> np.ndarray:
        """Render a camera: (H, W, 3) float32 in [0, 1]."""
        return render_image(self, camera, chunk, self.field.level_scales.device)


def require_table_memory(config: TeacherConfig, copies: int, device: str = "cpu") -> None:
    """Refuse hash tables that don't fit into memory, before they are made.

    Args:
        config: Sizes of the fields.
        copies: Copies of each table: 4 in training (values, gradients, two moments), 1 otherwise.
        device: Where they will lie.

    Raises:
        UsageError: If they don't fit; the message says which setting to lower.
    """
    shapes = {"field": config.field, "proposal": config.proposal, "coarse": config.coarse}
    bytes_of = {
        name: 4 * copies * shape.grid.entry_count * shape.grid.features
        for name, shape in shapes.items()
        if shape
    }
    largest = max(bytes_of, key=lambda name: bytes_of[name])
    mend = f"lower teacher.{largest}.grid.log2_size ({shapes[largest].grid.log2_size})"
    require_memory(sum(bytes_of.values()), "the teacher's hash tables", mend, device)


def build_teacher(
    config: TeacherConfig,
    spacing: Spacing,
    background: float,
    frames: int = 0,
    exposures: Sequence[float | None] = (),
) -> HashTeacher | GeneralTeacher:
    """Return the untrained teacher that a config describes; arguments are those of ``GeneralTeacher``."""
    if config.multisamples:
        return GeneralTeacher(config, spacing, background, frames, exposures)
    return HashTeacher(config, spacing, background)
