"""Presets of the teacher field and its training."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from smerf.engine.pace import MAX_MINUTES
from smerf.fields.grid_field import FieldConfig
from smerf.kernels import HashSpec
from smerf.kernels.types import MAX_BINS

__all__ = ["PRESETS", "FieldConfig", "TeacherConfig"]


_MAX = 1 << 62
# Smallest and largest value of each setting, both allowed.
_RANGES: dict[str, tuple[float, float]] = {
    "cache_resolution": (0, 1024),
    "cache_decay": (0.0, 1.0),
    "proposal_samples": (1, 4096),
    "coarse_samples": (1, 4096),
    "samples": (1, 4096),
    "rays": (1, 10_000_000),
    "uniform_fraction": (0.0, 1.0),
    "steps": (1, 1_000_000_000),
    "table_lr": (0.0, 10.0),
    "network_lr": (0.0, 10.0),
    "camera_lr": (0.0, 10.0),
    "warmup_steps": (0, 1_000_000_000),
    "mix_start": (0.0, 1.0),
    "mix_end": (0.0, 1.0),
    "mix_fraction": (0.0, 1.0),
    "anneal_fraction": (0.0, 1.0),
    "proposal_every": (1, _MAX),
    "interlevel_weight": (0.0, 1e9),
    "distortion_weight": (0.0, 1e9),
    "opacity_weight": (0.0, 1e9),
    "distance_fraction": (0.0, 0.9),
    "distance_weight": (0.0, 1e9),
    "hash_decay": (0.0, 1e9),
    "level_decay": (0.0, 1e9),
    "near_gradient": (0.0, 1e9),
    "seed": (0, _MAX),
    "checkpoint_seconds": (0.0, 1e9),
    "appearance": (0, 4096),
}
_POSITIVE = (
    "cache_max_depth",
    "final_lr",
    "charbonnier",
    "spacing_scale",
    "distortion_scale",
    "blur",
    "coarse_blur",
)
_NEGATIVE = ("spacing_power", "distortion_power")


@dataclass(frozen=True)
class TeacherConfig:
    """Everything that training the teacher depends on.

    Raises:
        ValueError: If a value is impossible, or two of them contradict each other; the message names the setting.
    """

    RENAMED: ClassVar[dict[str, str]] = {"even_rays": "uniform_fraction", "cache_cap": "cache_max_depth"}

    field: FieldConfig = dataclasses.field(
        default_factory=lambda: FieldConfig(HashSpec(8, 4, 17, 16, 1024), width=32, colour_width=64)
    )
    """The radiance field."""
    proposal: FieldConfig | None = dataclasses.field(
        default_factory=lambda: FieldConfig(HashSpec(5, 2, 15, 16, 256), width=16)
    )
    """The proposal field that places the samples where no cache does; None spreads them evenly."""
    cache_resolution: int = 0
    """Cells per axis of a density cache that places the samples; 0: the proposal fields do."""
    cache_max_depth: float = 0.35
    """Maximum optical depth that placement sees in one interval of the cache."""
    cache_decay: float = 0.95
    """Fraction of the cache's densities that is left every 16 steps unless the field confirms them."""
    proposal_samples: int = 64
    """Intervals in which the proposal field or the cache is evaluated."""
    samples: int = 32
    """Intervals of the radiance field."""
    scene_scale: float | None = None
    """Factor from training units (cameras in [-1, 1]) to the contraction's unit cube; from the cameras if not given."""
    rays: int = 2048
    """Rays a step."""
    uniform_fraction: float = 1.0
    """Fraction of the rays sampled uniformly from all pixels; the others go where the error is."""
    steps: int = 4000
    """Optimiser steps; an estimate where ``minutes`` are given."""
    minutes: float | None = None
    """Time granted: the schedule is made shorter or longer on the way, so that it ends then and annealed."""
    table_lr: float = 1e-2
    """Learning rate of the hash tables at the start."""
    network_lr: float = 4e-3
    """Learning rate of the networks at the start."""
    final_lr: float = 0.03
    """Fraction of the learning rates that is left at the end (log-linear)."""
    warmup_steps: int = 20
    """Steps over which the learning rates rise; 0 for none."""
    mix_start: float = 0.5
    """Fraction of final samples spread evenly at the start: keeps early proposals from going blind."""
    mix_end: float = 0.05
    """The same at the end."""
    mix_fraction: float = 0.4
    """Fraction of the training over which the mix falls."""
    anneal_fraction: float = 0.2
    """Fraction of the training over which proposal weights gain their full contrast."""
    proposal_every: int = 4
    """The proposal fields are trained every n-th step once the first tenth of the training is over."""
    charbonnier: float = 1e-3
    """Rounding of the colour loss sqrt(error^2 + charbonnier^2): errors below it count by their square."""
    interlevel_weight: float = 1.0
    """Weight of the proposal loss."""
    distortion_weight: float = 0.02
    """Weight of the distortion loss."""
    opacity_weight: float = 0.0
    """Weight of the sum of opacities along a ray: regulariser against floaters."""
    distance_fraction: float = 0.125
    """Fraction of the rays that go through sparse points of the photos, where the capture knows them."""
    distance_weight: float = 0.5
    """Weight of what these rays show before or behind their point."""
    hash_decay: float = 1e-8
    """Pull of touched table entries towards zero."""
    near_gradient: float = 4.0
    """Gradients of samples closer than this many near distances fall off with the square of the distance; 0: none do.

    Captures of a bounded object before white are trained with 0.
    """
    seed: int = 0
    """Random seed."""
    checkpoint_seconds: float = 30.0
    """Time between checkpoints."""
    multisamples: Literal[1, 3, 6] = 1
    """Points at which an interval is encoded."""
    coarse: FieldConfig | None = None
    """A proposal field that places the intervals of ``proposal``."""
    coarse_samples: int = 64
    """Intervals in which ``coarse`` is evaluated."""
    contraction: Literal["cube", "ball"] = "ball"
    """Contraction of space: MERF's cube (which the density cache needs) or mip-NeRF 360's ball."""
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
    exposure: Literal["auto", "off", "gain", "learned"] = "auto"
    """``auto``: photos whose exposure or white balance drifts are evened, found by comparing what they show of the same
    places; nothing is done where that explains little. ``gain``, ``learned``: rendered colours are multiplied by the
    exposure that photos are tagged with, or by factors learnt for each such exposure.
    """
    robust: Literal["auto", "off", "place"] = "auto"
    """Pixels that show what moved are left out, found by their residual against that of their place.

    ``auto``: only where much of what is found lasts, so that nothing is in a scene that stood still. ``place``: always.
    """
    refine_cameras: bool = False
    """Whether cameras are refined; they are written to ``transforms.json`` beside the teacher."""
    camera_lr: float = 1e-4
    """Learning rate of the preconditioned cameras; it rises over the first tenth and falls to a tenth."""
    backend: Literal["own", "tcnn"] = "own"
    """Encodings and networks: this package's, or tiny-cuda-nn's (CUDA)."""
    sampler: Literal["own", "nerfacc"] = "own"
    """Importance sampling: this package's, or nerfacc's (CUDA)."""

    @property
    def uses_exposure_tags(self) -> bool:
        """Return whether the exposures that photos are tagged with are needed."""
        return self.exposure in ("gain", "learned")

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:  # false for NaN
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        for names, sign, bound in ((_POSITIVE, 1.0, "more"), (_NEGATIVE, -1.0, "less")):
            for name in names:
                if not (sign * getattr(self, name) > 0.0 and math.isfinite(getattr(self, name))):
                    raise ValueError(f"{name}: expected {bound} than 0, got {getattr(self, name)}")
        if self.minutes is not None and not 0.0 < self.minutes <= MAX_MINUTES:
            raise ValueError(f"minutes: expected more than 0 and at most {MAX_MINUTES:g}, got {self.minutes}")
        if self.scene_scale is not None and not (self.scene_scale > 0.0 and math.isfinite(self.scene_scale)):
            raise ValueError(f"scene_scale: expected more than 0 or nothing, got {self.scene_scale}")
        if self.robust not in ("auto", "off", "place"):
            raise ValueError(f"robust: expected auto, off or place, got {self.robust}")
        if self.multisamples not in (1, 3, 6):
            raise ValueError(f"multisamples: expected 1, 3 or 6, got {self.multisamples}")
        if not self.field.colour_width:
            raise ValueError("field.colour_width: expected at least 1, got 0")
        if self.coarse and not self.proposal:
            raise ValueError("coarse: expected a proposal behind it, got none")
        if self.cache_resolution:
            self._check_cache()

    def _check_cache(self) -> None:
        if self.contraction != "cube":
            raise ValueError(f"contraction: expected cube with a density cache, got {self.contraction}")
        if self.sampler != "own":
            raise ValueError(f"sampler: expected own with a density cache, got {self.sampler}")
        if self.proposal_samples > MAX_BINS:
            raise ValueError(
                f"proposal_samples: expected 1 to {MAX_BINS} with a density cache, got {self.proposal_samples}"
            )


PRESETS: dict[str, TeacherConfig] = {
    "tiny": TeacherConfig(
        field=FieldConfig(HashSpec(4, 2, 13, 8, 64), width=32, colour_width=32),
        proposal=FieldConfig(HashSpec(4, 1, 12, 16, 64), width=16),
        proposal_samples=24,
        samples=16,
        rays=512,
        steps=400,
        contraction="cube",
        interlevel="bound",
    ),
    "preview": TeacherConfig(
        cache_resolution=128,
        proposal_samples=96,
        rays=1024,
        uniform_fraction=0.2,
        steps=12000,
        charbonnier=0.1,
        table_lr=0.02,
        network_lr=0.01,
        final_lr=0.1,
        opacity_weight=1e-4,
        distortion_weight=0.03,
        contraction="cube",
        interlevel="bound",
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
        distance_fraction=0.0,
        robust="off",
    ),
}  # fmt: skip
