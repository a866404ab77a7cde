"""Where samples go along rays: a cache of densities, or up to two rounds of proposal fields.

Sources: Zip-NeRF (arXiv 2304.06706) and mip-NeRF 360 (arXiv 2111.12077). Letters: R rays, S samples, N intervals of a
proposal round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from smerf.fields import accelerators
from smerf.fields.grid_field import FieldConfig, GridField
from smerf.fields.rays import Rays, Spacing
from smerf.kernels import Frustums, importance_sample, ray_points, volume_render
from smerf.kernels.density_cache import cache_raise_, cache_sample
from smerf.kernels.reference.density_cache import cell_of
from smerf.kernels.types import CacheSampling
from smerf.teacher.config import TeacherConfig
from smerf.teacher.row_random import RowRandom

__all__ = ["CACHE_KEEP", "CacheSampler", "Placement", "ProposalSampler", "Round", "frustums", "make_sampler"]

CACHE_KEEP = 0.9
"""Fraction of its density that a cell keeps, once a step, when samples fall into it."""
# An untrained field is thin haze everywhere.
_INITIAL_DENSITY = 2.7
_DECAY_EVERY = 16
# Random cells that are queried per 2048 rays, on average; they are queried some steps at a time.
_REFRESHED_CELLS = 2048
_REFRESH_EVERY = 8


@dataclass(frozen=True)
class Round:
    """A proposal round: edges (R, N + 1) in s, and the weights (R, N) found there."""

    s_edges: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Placement:
    """The radiance field's edges (R, S + 1) in s, and the proposal rounds that led there."""

    s_edges: Tensor
    rounds: tuple[Round, ...] = ()


def frustums(config: TeacherConfig, random: RowRandom | None = None) -> Frustums:
    """Return how intervals become points; with ``random`` the patterns of several points are random."""
    assert config.scene_scale is not None
    plain = Frustums(config.scene_scale, config.multisamples, config.contraction)
    # The midpoint has no pattern.
    if random is None or config.multisamples == 1:
        return plain
    return replace(plain, seed=random.seed(), first_ray=random.first_row)


class CacheSampler(nn.Module):
    """Samples are placed by a grid of densities over contracted space, which training keeps up to date.

    One process can train it: the cache of each would differ.
    """

    cache: Tensor
    """Densities per training unit (n, n, n), z first."""

    def __init__(self, config: TeacherConfig, spacing: Spacing) -> None:
        super().__init__()
        assert config.scene_scale is not None
        self.config, self.spacing, self.scale = config, spacing, config.scene_scale
        self.register_buffer("cache", torch.full((config.cache_resolution,) * 3, _INITIAL_DENSITY))

    @property
    def grid_fields(self) -> list[GridField]:
        """Return the fields that place samples: none."""
        return []

    def place(
        self,
        rays: Rays,
        random: RowRandom | None = None,
        *,
        mix: float = 0.0,
        anneal: float = 1.0,
        trains_proposals: bool = True,
    ) -> Placement:
        """Place samples; see ``ProposalSampler.place``. There is nothing to anneal, and there are no rounds."""
        shift = jitter = None
        if random is not None:
            shift, jitter = (random.uniform(len(rays), like=rays.radii) - 0.5 for _ in range(2))
        config = self.config
        sampling = CacheSampling(
            self.spacing, config.proposal_samples, config.samples, self.scale, config.cache_max_depth, mix
        )
        origins, directions = rays.origins.detach(), rays.directions.detach()
        s_edges = cache_sample(self.cache, origins, directions, sampling, shift, jitter)
        return Placement(s_edges)

    @torch.no_grad()
    def observe(self, rays: Rays, edges: Tensor, density: Tensor) -> None:
        """Bring the cells of samples up to date: they lose a fraction, then rise to the densities (R, S) seen there.

        ``edges`` (R, S + 1) are metric. The native training pass does the same by itself.
        """
        x, _ = ray_points(rays.origins, rays.directions, edges, rays.radii, self.scale)
        flat, cells = self.cache.view(-1), cell_of(x, self.cache.shape[0])
        flat[cells] = CACHE_KEEP * flat[cells]
        cache_raise_(self.cache, x, density.detach().reshape(-1))

    @torch.no_grad()
    def after_step(
        self, step: int, density_at: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> None:
        """Decay the cache and refresh random cells from the field, from time to time.

        Args:
            step: Number of the step, from 1.
            density_at: Returns the densities (N,) at points (N, 3) of the unit cube.
            generator: Of the points.
        """
        if step % _DECAY_EVERY == 0:
            self.cache.mul_(self.config.cache_decay)
        if step % _REFRESH_EVERY == 0:
            count = _REFRESHED_CELLS * _REFRESH_EVERY * self.config.rays // 2048
            x = torch.rand(count, 3, generator=generator).to(self.cache)
            cache_raise_(self.cache, x, density_at(x))


class ProposalSampler(nn.Module):
    """Samples are placed by none, one or two rounds of density fields, which are trained with the radiance field."""

    def __init__(self, config: TeacherConfig, spacing: Spacing, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.spacing = config, spacing
        shapes = [(config.coarse, config.coarse_samples), (config.proposal, config.proposal_samples)]
        self.counts = [count for shape, count in shapes if shape]
        """Intervals of each round."""
        self.fields = nn.ModuleList(self._field(shape, generator) for shape, _ in shapes if shape)

    def _field(self, shape: FieldConfig, generator: torch.Generator) -> GridField:
        config = self.config
        return GridField(
            replace(shape, colour_width=0),
            generator,
            scale_features=config.scale_features,
            backend=config.backend,
        )

    @property
    def grid_fields(self) -> list[GridField]:
        """Return the fields that place samples, in the order of the rounds."""
        return [field for field in self.fields if isinstance(field, GridField)]

    def _sample(self, last: Round, samples: int, random: RowRandom | None, mix: float) -> Tensor:
        """Sample the next round's edges from a round's weights, without gradient."""
        weights = last.weights.detach()
        if self.config.sampler == "nerfacc":
            return accelerators.nerfacc_sample(last.s_edges, weights, samples, random is not None, mix)
        jitter = None if random is None else random.uniform(len(weights), like=weights) - 0.5
        return importance_sample(last.s_edges, weights, samples, jitter, mix)

    def place(
        self,
        rays: Rays,
        random: RowRandom | None = None,
        *,
        mix: float = 0.0,
        anneal: float = 1.0,
        trains_proposals: bool = True,
    ) -> Placement:
        """Place samples round by round; nothing flows back to the rays.

        Args:
            rays: The rays.
            random: Random jitter and patterns; None repeats the same ones.
            mix: Fraction of samples spread evenly.
            anneal: Power of the proposal weights before they place samples.
            trains_proposals: Whether the rounds' weights carry gradients.
        """
        fixed = Rays(rays.origins.detach(), rays.directions.detach(), rays.radii)
        s_edges = torch.tensor([0.0, 1.0], device=rays.radii.device).expand(len(rays), 2).contiguous()
        last = Round(s_edges, s_edges.new_ones(len(rays), 1))
        rounds = []
        with torch.set_grad_enabled(torch.is_grad_enabled() and trains_proposals):
            for field, count in zip(self.grid_fields, self.counts):
                s_edges = self._sample(last, count, random, mix)
                edges = self.spacing.t_from_s(s_edges)
                density = field.density(fixed, edges, frustums(self.config, random))
                last = Round(s_edges, volume_render(density, edges).weights)
                rounds.append(last)
                if anneal != 1.0:
                    last = Round(s_edges, (last.weights.detach() + 1e-9) ** anneal)
        return Placement(self._sample(last, self.config.samples, random, mix), tuple(rounds))


def make_sampler(
    config: TeacherConfig, spacing: Spacing, generator: torch.Generator
) -> CacheSampler | ProposalSampler:
    """Return the sampler that a config describes, untrained."""
    if config.cache_resolution:
        return CacheSampler(config, spacing)
    return ProposalSampler(config, spacing, generator)
