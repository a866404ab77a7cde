"""Presets of the teacher field and its training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from smerf.kernels.hash_encoding import HashSpec

__all__ = ["PRESETS", "FieldConfig", "TeacherConfig"]


@dataclass(frozen=True)
class FieldConfig:
    """A hash grid with its networks (``colour_width`` 0 makes a density-only proposal field)."""

    grid: HashSpec
    """Resolution levels over contracted space."""
    width: int
    """Hidden width of the density network."""
    geometry: int = 16
    """Outputs of the density network that the colour network reads, density included."""
    colour_width: int = 0
    """Hidden width of the colour network."""
    colour_layers: int = 1
    """Hidden layers of the colour network."""


@dataclass(frozen=True)
class TeacherConfig:
    """Everything that training the teacher depends on."""

    field: FieldConfig = dataclasses.field(
        default_factory=lambda: FieldConfig(HashSpec(8, 4, 17, 16, 1024), width=32, colour_width=64)
    )
    """The radiance field."""
    proposal: FieldConfig = dataclasses.field(
        default_factory=lambda: FieldConfig(HashSpec(5, 2, 15, 16, 256), width=16)
    )
    """The proposal field that places the samples, where no cache does."""
    cache_resolution: int = 0
    """Cells per axis of a density cache that places the samples; 0: the proposal field does."""
    cache_cap: float = 0.35
    """Most optical depth that placement sees in one interval of the cache."""
    cache_decay: float = 0.95
    """What is left of the cache's densities every 16 steps unless the field confirms them."""
    proposal_samples: int = 64
    """Intervals in which the proposal field or the cache is evaluated."""
    samples: int = 32
    """Intervals of the radiance field."""
    scene_scale: float | None = None
    """Factor from training units (cameras in [-1, 1]) to the contraction's unit cube; from the cameras if not given."""
    rays: int = 2048
    """Rays a step."""
    even_rays: float = 1.0
    """Share of the rays drawn evenly from all pixels; the others go where the error is."""
    steps: int = 4000
    """Optimiser steps."""
    table_lr: float = 1e-2
    """Learning rate of the hash tables at the start."""
    network_lr: float = 4e-3
    """Learning rate of the networks at the start."""
    final_lr: float = 0.03
    """Share of the learning rates that is left at the end (log-linear)."""
    warmup_steps: int = 20
    """Steps over which the learning rates rise."""
    mix_start: float = 0.5
    """Share of final samples spread evenly at the start: keeps early proposals from going blind."""
    mix_end: float = 0.05
    """The same at the end."""
    mix_fraction: float = 0.4
    """Share of the training over which the mix falls."""
    anneal_fraction: float = 0.2
    """Share of the training over which proposal weights gain their full contrast."""
    proposal_every: int = 4
    """The proposal field learns every n-th step once the first tenth of the training is over."""
    charbonnier: float = 1e-3
    """Rounding of the colour loss sqrt(error^2 + charbonnier^2): errors below it count by their square."""
    interlevel_weight: float = 1.0
    """Weight of the proposal loss."""
    distortion_weight: float = 0.02
    """Weight of the distortion loss."""
    opacity_weight: float = 0.0
    """Weight of the opacities along a ray: thins the haze that no photo asks for (with a cache)."""
    hash_decay: float = 1e-8
    """Pull of touched table entries towards zero."""
    near_gradient: float = 4.0
    """Gradients of samples closer than this many near distances fall off with the square of the distance."""
    seed: int = 0
    """Seed of every random draw."""
    checkpoint_seconds: float = 30.0
    """Time between checkpoints."""


PRESETS: dict[str, TeacherConfig] = {
    "tiny": TeacherConfig(
        field=FieldConfig(HashSpec(4, 2, 13, 8, 64), width=32, colour_width=32),
        proposal=FieldConfig(HashSpec(4, 1, 12, 16, 64), width=16),
        proposal_samples=24,
        samples=16,
        rays=512,
        steps=400,
    ),
    "preview": TeacherConfig(
        cache_resolution=128,
        proposal_samples=96,
        rays=1024,
        even_rays=0.2,
        steps=12000,
        charbonnier=0.1,
        table_lr=0.02,
        network_lr=0.01,
        final_lr=0.1,
        opacity_weight=1e-4,
        distortion_weight=0.03,
    ),
    "standard": TeacherConfig(
        field=FieldConfig(
            HashSpec(8, 4, 20, 16, 4096), width=64, geometry=16, colour_width=64, colour_layers=2
        ),
        proposal=FieldConfig(HashSpec(6, 2, 17, 16, 512), width=16),
        proposal_samples=96,
        rays=16384,
        steps=20000,
    ),
    "paper": TeacherConfig(
        field=FieldConfig(
            HashSpec(10, 4, 21, 16, 8192), width=64, geometry=32, colour_width=128, colour_layers=3
        ),
        proposal=FieldConfig(HashSpec(8, 2, 21, 16, 2048), width=32),
        proposal_samples=128,
        rays=32768,
        steps=50000,
    ),
}
