"""Presets of the teacher field and its training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

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
    directions: Literal["spherical", "sinusoidal"] = "spherical"
    """Encoding of the view direction (the general path; otherwise spherical harmonics)."""
    colour_skip: bool = False
    """Whether the colour network's last layer reads its input once more (the general path)."""


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
    multisamples: Literal[0, 1, 3, 6] = 0
    """Points of an interval on the general path; 0 takes the short path: one proposal, one point, none of the below."""
    coarse: FieldConfig | None = None
    """A proposal field that places the intervals of ``proposal``."""
    coarse_samples: int = 64
    """Intervals in which ``coarse`` is evaluated."""
    contraction: Literal["cube", "ball"] = "ball"
    """Contraction of space: MERF's cube or mip-NeRF 360's ball."""
    scale_features: bool = False
    """Whether the networks are told how far each level is faded."""
    spacing_power: float = -1.5
    """Power of the ladder in which samples of unbounded scenes are spaced, less than 0."""
    spacing_scale: float = 2.0
    """Factor of the distance before that ladder."""
    interlevel: Literal["bound", "blurred"] = "blurred"
    """Proposal loss: mip-NeRF 360's bound or Zip-NeRF's anti-aliased one."""
    blur: float = 0.003
    """Half width of the anti-aliased loss's blur, in s, for ``proposal``."""
    coarse_blur: float = 0.03
    """The same for ``coarse``."""
    distortion_power: float = -1.5
    """Power of the ladder over which distortion is measured, less than 0."""
    distortion_scale: float = 2.0
    """Factor of the distance before that ladder."""
    level_decay: float = 0.0
    """Weight of the mean square of each level's entries (of those with a gradient)."""
    background: Literal["random", "white", "grey"] = "random"
    """What is behind the rays while training; photos with transparency are composited over the same."""
    appearance: int = 0
    """Length of each photo's affine appearance vector; 0: none."""
    exposure: Literal["off", "gain", "learned"] = "off"
    """Rendered colours are multiplied by the photo's exposure, or by factors learnt for each exposure."""
    refine_cameras: bool = False
    """Whether cameras are refined; they are written to ``transforms.json`` beside the teacher."""
    camera_lr: float = 1e-4
    """Learning rate of the preconditioned cameras; it rises over the first tenth and falls to a tenth."""
    backend: Literal["own", "tcnn"] = "own"
    """Encodings and networks: this package's, or tiny-cuda-nn's (CUDA)."""
    sampler: Literal["own", "nerfacc"] = "own"
    """Importance sampling: this package's, or nerfacc's (CUDA)."""

    def __post_init__(self) -> None:
        if self.rays < 1 or self.samples < 1 or self.proposal_samples < 1 or self.coarse_samples < 1:
            raise ValueError(
                "rays, samples, proposal_samples, coarse_samples: expected at least 1, got "
                f"{self.rays}, {self.samples}, {self.proposal_samples}, {self.coarse_samples}"
            )
        if self.multisamples:
            return
        wanted = {name for name, off in _GENERAL if getattr(self, name) != off}
        if wanted:
            raise ValueError(
                f"{', '.join(sorted(wanted))}: needs the general path; set multisamples to 1, 3 or 6"
            )


_GENERAL = (
    ("coarse", None),
    ("scale_features", False),
    ("appearance", 0),
    ("exposure", "off"),
    ("refine_cameras", False),
    ("backend", "own"),
    ("sampler", "own"),
)

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
            HashSpec(8, 4, 20, 16, 4096), width=64, geometry=64, colour_width=128, colour_layers=3
        ),
        proposal=FieldConfig(HashSpec(6, 2, 17, 16, 512), width=16),
        proposal_samples=64,
        coarse=FieldConfig(HashSpec(5, 2, 17, 16, 512), width=16),
        coarse_samples=128,
        samples=32,
        multisamples=3,
        scale_features=True,
        rays=16384,
        steps=20000,
        table_lr=0.05,
        network_lr=5e-3,
        warmup_steps=200,
        proposal_every=2,
        interlevel_weight=0.01,
        distortion_weight=0.01,
        hash_decay=0.0,
        level_decay=5e-4,
    ),
    # Zip-NeRF's own settings. Its features are ten times its table's entries; here the entries are as large as the
    # features, so that their learning rate is ten times and their decay a hundredth of the published ones.
    "paper": TeacherConfig(
        field=FieldConfig(
            HashSpec(10, 4, 21, 16, 8192), width=64, geometry=257, colour_width=256, colour_layers=3,
            directions="sinusoidal", colour_skip=True,
        ),
        proposal=FieldConfig(HashSpec(8, 1, 21, 16, 2048), width=64),
        proposal_samples=64,
        coarse=FieldConfig(HashSpec(6, 1, 21, 16, 512), width=64),
        coarse_samples=64,
        samples=32,
        multisamples=6,
        scale_features=True,
        rays=65536,
        steps=25000,
        table_lr=0.1,
        network_lr=0.01,
        final_lr=0.1,
        warmup_steps=2500,
        mix_start=0.0,
        mix_end=0.0,
        anneal_fraction=1.0,
        proposal_every=1,
        interlevel_weight=0.01,
        distortion_weight=0.01,
        distortion_power=-0.25,
        distortion_scale=1e4,
        hash_decay=0.0,
        level_decay=5e-4,
        near_gradient=0.0,
    ),
}  # fmt: skip
