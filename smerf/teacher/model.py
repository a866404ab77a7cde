"""The teacher: a radiance field with a sampler, and the interface that distillation queries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from smerf.capture.types import Camera
from smerf.engine.memory import require_memory
from smerf.fields.grid_field import GridField
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays, Spacing, power_ladder
from smerf.kernels import Frustums, Rendering, volume_render
from smerf.teacher import fused
from smerf.teacher.appearance import AppearanceVectors, ExposureScales, relative_exposures
from smerf.teacher.config import TeacherConfig
from smerf.teacher.row_random import RowRandom
from smerf.teacher.samplers import CacheSampler, frustums, make_sampler

__all__ = ["FieldTeacher", "March", "PointTeacher", "Teacher", "TeacherAnswer", "require_table_memory"]


@dataclass(frozen=True)
class TeacherAnswer:
    """What a ray looks like to the teacher.

    ``edges`` (R, S + 1) are metric distances, ``weights`` (R, S) sum to the opacity, and ``colour`` (R, 3) is
    composited over black. ``s_edges`` (R, S + 1) are the edges in s, where the teacher knows them.
    """

    edges: Tensor
    weights: Tensor
    colour: Tensor
    s_edges: Tensor | None = None


class Teacher(Protocol):
    """Anything that can be distilled.

    One that also is a ``PointTeacher`` starts the student's grids; others start them by their rays.
    """

    samples: int
    spacing: Spacing
    scene_scale: float
    background: float

    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays without randomness or gradient."""


@runtime_checkable
class PointTeacher(Protocol):
    """A teacher that also knows what is at a point."""

    def density(self, points: Tensor) -> Tensor:
        """Return densities (N,) at points (N, 3) in training space."""

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """Return colours (N, 3) in [0, 1] at points seen along unit directions (N, 3)."""


@dataclass(frozen=True)
class March:
    """What rays met: metric edges (R, S + 1), densities (R, S), and what is rendered from them."""

    edges: Tensor
    density: Tensor
    rendering: Rendering


class FieldTeacher(nn.Module):
    """The built-in teacher (Zip-NeRF, arXiv 2304.06706, in full): what it has is what its config says."""

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
            config: Sizes and switches, resolved (``smerf.teacher.plan.resolve_config``).
            spacing: Of samples along rays.
            background: Grey level behind the scene when rendering.
            frames: Training photos, each with an appearance vector if the config asks for them.
            exposures: Of the training photos (shutter seconds x ISO / 1000), if the config asks for factors.

        Raises:
            ValueError: If the config is not resolved.
            InvalidDataError: If an exposure that is asked for is not known.
        """
        super().__init__()
        if config.scene_scale is None:
            raise ValueError("scene_scale: expected a number; resolve the config first")
        self.config, self.spacing, self.background, self.frames = config, spacing, background, frames
        self.samples, self.scene_scale = config.samples, config.scene_scale
        generator = torch.Generator().manual_seed(config.seed)
        self.sampler = make_sampler(config, spacing, generator)
        self.field = GridField(
            config.field, generator, scale_features=config.scale_features, backend=config.backend
        )
        self.appearance = None
        if config.appearance:
            self.appearance = AppearanceVectors(frames, config.appearance, config.field.geometry, generator)
        self.gains: Tensor | None = None
        """Factors (frames, 3) by which the training photos are brighter than what it shows, if they were evened."""
        self.exposure, self.exposures = None, tuple(exposures) if config.uses_exposure_tags else ()
        if config.uses_exposure_tags:
            self.exposure = ExposureScales(relative_exposures(self.exposures), config.exposure)

    @property
    def grid_fields(self) -> list[GridField]:
        """Return all fields, the radiance field first."""
        return [self.field, *self.sampler.grid_fields]

    @property
    def cache(self) -> Tensor | None:
        """Return the densities (n, n, n) that place the samples, if it is a cache that does."""
        return self.sampler.cache if isinstance(self.sampler, CacheSampler) else None

    def update_scales(self) -> None:
        """Bring the scale features up to date with the tables."""
        for field in self.grid_fields:
            field.update_scales()

    def march(
        self,
        rays: Rays,
        s_edges: Tensor,
        random: RowRandom | None = None,
        *,
        frames: Tensor | None = None,
        gradient_scale: Callable[[Tensor], Tensor] | None = None,
    ) -> March:
        """Evaluate the radiance field in intervals and render.

        Args:
            rays: The rays; gradients flow to them where they require them.
            s_edges: Ascending edges (R, S + 1) in s.
            random: Random patterns; None repeats the same ones.
            frames: Photos (R,) whose appearance is used; None for the scene's own.
            gradient_scale: Called with metric edges; returns a factor (R, S) of each sample's gradient.
        """
        edges = self.spacing.t_from_s(s_edges)
        affine = None if self.appearance is None else self.appearance(frames, len(rays))
        density, colour = self.field(rays, edges, frustums(self.config, random), affine)
        if gradient_scale is not None and density.requires_grad:
            scale = gradient_scale(edges)
            density.register_hook(lambda grad: grad * scale)
            colour.register_hook(lambda grad: grad * scale[..., None])
        config = self.config
        coordinates = power_ladder(edges, config.distortion_power, config.distortion_scale)
        assert isinstance(coordinates, Tensor)
        return March(edges, density, volume_render(density, edges, colour, coordinates))

    @torch.no_grad()
    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays without randomness or gradient.

        Where the native pass supports the config it answers (``smerf.teacher.fused`` states its tolerance).
        """
        s_edges = self.sampler.place(rays, mix=self.config.mix_end).s_edges
        answer = fused.query(self.field, self.config, self.spacing, self.cache, rays, s_edges)
        if answer is None:
            march = self.march(rays, s_edges)
            answer = march.edges, march.rendering.weights, march.rendering.colour
        return TeacherAnswer(*answer, s_edges)

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
        colour: Tensor = self.field(*self._at(points, directions), affine)[1]
        return colour[:, 0]

    def render_image(self, camera: Camera, chunk: int = 4096) -> np.ndarray:
        """Render a camera before the background, ``chunk`` rays at a time: (H, W, 3) float32 in [0, 1]."""
        rays, parts = camera_rays(camera), []
        for start in range(0, len(rays), chunk):
            answer = self.query(rays[start : start + chunk].to(self.field.level_scales.device))
            rest = (1.0 - answer.weights.sum(-1, keepdim=True)).clamp_min(0.0)
            parts.append((answer.colour + rest * self.background).cpu())
        image = torch.cat(parts).clamp(0.0, 1.0)
        return image.view(camera.intrinsics.height, camera.intrinsics.width, 3).numpy()


def require_table_memory(config: TeacherConfig, copies: int, device: str = "cpu") -> None:
    """Refuse hash tables that don't fit into memory, before they are made.

    Args:
        config: Sizes of the fields.
        copies: Copies of each table: 4 in training (values, gradients, two moments), 1 otherwise.
        device: Where they will lie.

    Raises:
        UsageError: If they don't fit; the message says which setting to lower.
    """
    shapes = {"field": config.field}
    if not config.cache_resolution:
        others = {"proposal": config.proposal, "coarse": config.coarse}
        shapes |= {name: shape for name, shape in others.items() if shape}
    bytes_of = {
        name: 4 * copies * shape.grid.entry_count * shape.grid.features for name, shape in shapes.items()
    }
    largest = max(bytes_of, key=lambda name: bytes_of[name])
    hint = f"lower teacher.{largest}.grid.log2_size ({shapes[largest].grid.log2_size})"
    require_memory(sum(bytes_of.values()), "the teacher's hash tables", hint, device)
