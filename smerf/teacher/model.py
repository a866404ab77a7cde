"""The teacher: a radiance field whose samples are placed by a proposal field, and the interface that others use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from smerf.capture.types import Camera
from smerf.fields.directions import spherical_harmonics
from smerf.fields.hash_field import DensityField, RadianceField
from smerf.fields.rays import Rays, Spacing
from smerf.fields.rendering import render_weights
from smerf.fields.sampling import resample, uniform_edges
from smerf.kernels import ray_points
from smerf.kernels.density_cache import cache_sample
from smerf.teacher import fused
from smerf.teacher.config import TeacherConfig
from smerf.teacher.images import render_image

__all__ = ["HashTeacher", "Teacher", "TeacherAnswer"]


@dataclass(frozen=True)
class TeacherAnswer:
    """What a ray looks like to the teacher.

    ``edges`` (R, S + 1) are metric distances, ``weights`` (R, S) sum to the opacity, and ``colour`` (R, 3) is
    composited over black. ``proposal`` holds the proposal's (s edges, weights) while training.
    """

    edges: Tensor
    weights: Tensor
    colour: Tensor
    s_edges: Tensor | None = None
    proposal: tuple[Tensor, Tensor] | None = None


class Teacher(Protocol):
    """Anything that can be distilled."""

    samples: int
    spacing: Spacing
    scene_scale: float
    background: float

    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays without randomness or gradient."""

    def density(self, points: Tensor) -> Tensor:
        """Return densities (N,) at points (N, 3) in training space."""

    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """Return colours (N, 3) in [0, 1] at points seen along unit directions (N, 3)."""


class HashTeacher(nn.Module):
    """The built-in teacher: one proposal round, one radiance field."""

    def __init__(self, config: TeacherConfig, spacing: Spacing, background: float) -> None:
        """Build an untrained teacher; ``background`` is the grey level behind the scene when rendering."""
        super().__init__()
        self.config, self.spacing, self.background = config, spacing, background
        self.samples, self.scene_scale = config.samples, config.scene_scale or 1.0
        generator = torch.Generator().manual_seed(config.seed)
        field, proposal = config.field, config.proposal
        self.register_buffer("cache", None)
        if config.cache_resolution:
            # An untrained field is thin haze everywhere.
            self.cache = torch.full((config.cache_resolution,) * 3, 2.7)
        else:
            self.proposal = DensityField(proposal.grid, proposal.width, generator)
        self.field = RadianceField(
            field.grid, field.width, field.geometry, field.colour_width, field.colour_layers, generator
        )

    @property
    def grid_fields(self) -> list[DensityField | RadianceField]:
        """Return the fields with tables, the radiance field first."""
        return [self.field] if self.cache is not None else [self.field, self.proposal]

    def propose(self, rays: Rays, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Evaluate the proposal field in evenly spaced intervals: s edges (R, N + 1) and weights (R, N)."""
        s_edges = uniform_edges(len(rays), self.config.proposal_samples, generator, rays.origins)
        edges = self.spacing.t_from_s(s_edges)
        x, sigma = ray_points(rays.origins, rays.directions, edges, rays.radii, self.scene_scale)
        density = self.proposal(x, sigma).view(s_edges[:, 1:].shape)
        return s_edges, render_weights(density, edges)

    def march(
        self, rays: Rays, s_edges: Tensor, density_hook: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Evaluate the radiance field in intervals s_edges (R, S + 1).

        ``density_hook`` (R, S) scales the gradient of each sample. Returns metric edges, weights, the colour over
        black and optical depths (R, S).
        """
        edges = self.spacing.t_from_s(s_edges)
        x, sigma = ray_points(rays.origins, rays.directions, edges, rays.radii, self.scene_scale)
        density, colour = self.field(x, sigma, spherical_harmonics(rays.directions))
        if density_hook is not None and density.requires_grad:
            scale = density_hook.reshape(-1)
            density.register_hook(lambda grad: grad * scale)
            colour.register_hook(lambda grad: grad * scale[:, None])
        density = density.view(s_edges[:, 1:].shape)
        weights = render_weights(density, edges)
        colour = torch.einsum("rs,rsc->rc", weights, colour.view(*weights.shape, 3))
        return edges, weights, colour, density * edges.diff(dim=-1)

    def place(
        self, rays: Rays, mix: float, shift: Tensor | None = None, jitter: Tensor | None = None
    ) -> Tensor:
        """Place samples by the density cache: s edges (R, S + 1); see ``smerf.kernels.density_cache``."""
        config, spacing = self.config, self.spacing
        return cache_sample(
            self.cache, rays.origins, rays.directions, spacing,
            bins=config.proposal_samples, samples=config.samples, scale=self.scene_scale, cap=config.cache_cap,
            mix=mix, shift=shift, jitter=jitter,
        )  # fmt: skip

    @torch.no_grad()
    def query(self, rays: Rays) -> TeacherAnswer:
        """Answer rays without randomness or gradient."""
        if self.cache is not None:
            s_edges = self.place(rays, self.config.mix_end)
        else:
            s_edges, weights = self.propose(rays, None)
            s_edges = resample(s_edges, weights, self.samples, None, self.config.mix_end)
        answer = fused.answer(self.field, self.spacing, self.scene_scale, self.cache, rays, s_edges)
        edges, weights, colour = answer or self.march(rays, s_edges)[:3]
        return TeacherAnswer(edges, weights, colour, s_edges)

    def _unit_cube(self, points: Tensor) -> Tensor:
        """Map points (N, 3) in training space to the unit cube of the grids."""
        zero = torch.zeros(points.shape[0], 2, dtype=points.dtype, device=points.device)
        x, _ = ray_points(points, torch.zeros_like(points), zero, zero[:, 0].contiguous(), self.scene_scale)
        return x

    @torch.no_grad()
    def density(self, points: Tensor) -> Tensor:
        """Return densities (N,) at points (N, 3) in training space."""
        return self.field.density(self._unit_cube(points))

    @torch.no_grad()
    def colour(self, points: Tensor, directions: Tensor) -> Tensor:
        """Return colours (N, 3) at points (N, 3) seen along unit directions (N, 3)."""
        return self.field(self._unit_cube(points), None, spherical_harmonics(directions))[1]

    def render_image(self, camera: Camera, chunk: int = 8192) -> np.ndarray:
        """Render a camera: (H, W, 3) float32 in [0, 1]."""
        return render_image(self, camera, chunk, self.field.table.device)
