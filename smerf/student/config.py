"""Presets of the student and its distillation."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from smerf.engine.pace import MAX_MINUTES
from smerf.kernels import HashSpec

__all__ = ["PRESETS", "StudentConfig"]

_AT_LEAST_ONE = (
    *("partition", "lattice", "width", "rays", "steps", "pool", "patch"),
    *("consistency_rays", "sparsity_points", "occupied_rays"),
)
_NOT_NEGATIVE = (
    *("hash_decay", "max_blocks", "consistency_fraction", "lattice_smoothness", "grid_lr", "network_lr"),
    *("warmup_steps", "dssim_weight", "geometry_start", "geometry_end", "distortion_weight"),
    *("sparsity_weight", "max_gradient_norm", "origin_jitter", "visible_margin", "checkpoint_seconds"),
)
_POSITIVE = ("cell_fill", "uses_per_ray", "final_lr", "tau_start", "tau_end")
_FRACTIONS = (
    *("reassigned_fraction", "final_lr", "tau_ramp_start", "tau_ramp_end", "random_rotation"),
    *(
        "photo_fraction",
        "direction_jitter",
        "visible_weight",
        "occupied_from",
        "occupied_weight",
        "tau_start",
        "tau_end",
    ),
)


@dataclass(frozen=True)
class StudentConfig:
    """Everything that distilling depends on.

    ``submodel_scale`` and ``view_interpolation`` may be left to ``smerf.student.plan.resolve_config``, which also
    turns ``max_blocks`` into resolutions.
    """

    RENAMED: ClassVar[dict[str, str]] = {
        "most_blocks": "max_blocks",
        "reassigned": "reassigned_fraction",
        "consistency": "consistency_fraction",
        "uses": "uses_per_ray",
        "clip": "max_gradient_norm",
        "tau_from": "tau_ramp_start",
        "tau_until": "tau_ramp_end",
        "between": "view_interpolation",
        "around": "random_rotation",
        "seen_weight": "visible_weight",
        "seen_reach": "visible_margin",
        "alive_from": "occupied_from",
        "alive_weight": "occupied_weight",
        "alive_rays": "occupied_rays",
    }

    parameterisation: Literal["explicit", "hash"] = "explicit"
    """``explicit``: the quantised grid values themselves; ``hash``: a hash grid and decoder produce them."""
    fused: bool = True
    """Whether explicit grids are trained by the fused step where it supports the settings and the device."""
    hash: HashSpec = dataclasses.field(default_factory=lambda: HashSpec(8, 4, 17, 16, 1024))
    """Resolution levels of the hash form over contracted space, one table a submodel."""
    decoder: tuple[int, ...] = (64,)
    """Hidden widths of the decoder of the hash form."""
    hash_decay: float = 0.01
    """Weight of the mean square of each level's entries."""
    voxel_resolution: int = 256
    """R_v, voxels per axis of contracted space; a multiple of 8."""
    plane_resolution: int = 1024
    """R_t, texels per axis of a plane, a multiple of 4; four times R_v in the paper."""
    max_blocks: int = 0
    """Voxel blocks up to which both resolutions are doubled (where K = 1): 70 kB of memory each; 0: never."""
    partition: int = 1
    """K, cells per axis of the cube of cameras; each cell that holds a training camera gets a submodel."""
    cell_fill: float = 0.8
    """Half edge of a cell in the contraction's unit cube, where K > 1."""
    submodel_scale: float | None = None
    """Factor from training units to the contraction's unit cube; the teacher's if not given, or K times
    ``cell_fill`` where K > 1."""
    reassigned_fraction: float = 0.2
    """Fraction of the rays that a neighbour of their own submodel learns from."""
    consistency_fraction: float = 0.25
    """Rays on which a submodel is to agree with finished neighbours, per ray of the step's own."""
    consistency_rays: int = 65536
    """Rays that a finished submodel renders for its neighbours."""
    lattice: int = 1
    """P, vertices per axis of the lattice of appearance networks."""
    lattice_smoothness: float = 0.1
    """Weight of the squared differences between neighbouring networks of the lattice."""
    exposure: bool = False
    """Whether the appearance networks read a photo's exposure, as the teacher does (``teacher.exposure``)."""
    width: int = 16
    """Hidden width of the appearance network."""
    rays: int = 4096
    """Rays a step."""
    steps: int = 7500
    """Optimiser steps; an estimate where ``minutes`` are given."""
    minutes: float | None = None
    """Time granted to all submodels: schedules are made shorter or longer on the way, so that they end then and
    annealed."""
    pool: int = 524288
    """Teacher rays kept at a time, at least those of a step."""
    uses_per_ray: float = 2.0
    """How often a teacher ray is sampled, on average, before a new one takes its place."""
    grid_lr: float = 0.03
    """Learning rate of the logits of the grid values, or of the hash form's tables and decoder (0.01), at the
    start."""
    network_lr: float = 1e-2
    """Learning rate of the appearance network at the start."""
    final_lr: float = 0.03
    """Fraction of the learning rates that is left at the end (log-linear)."""
    warmup_steps: int = 10
    """Steps over which the learning rates rise."""
    patch: int = 1
    """Edge in pixels of the square patches in which rays are sampled: 3 in the paper; 1 learns more in few steps."""
    dssim_weight: float = 1.5
    """Weight of the structural dissimilarity of patches."""
    geometry_start: float = 0.015
    """Weight of the geometry loss at the start."""
    geometry_end: float = 0.001
    """Weight of the geometry loss at the end."""
    distortion_weight: float = 0.0
    """Weight of the distortion loss."""
    sparsity_weight: float = 0.0
    """Weight of the mean alpha of one marching step at random points."""
    sparsity_points: int = 4096
    """Random points a step, of those blocks that exist."""
    max_gradient_norm: float = 0.0
    """Norm to which the gradients of the appearance networks, and of the hash form, are clipped; 0: not at all."""
    tau_start: float = 0.001
    """First culling threshold, in alpha per marching step."""
    tau_end: float = 0.005
    """Last culling threshold."""
    tau_ramp_start: float = 0.4
    """Fraction of the steps after which culling begins."""
    tau_ramp_end: float = 0.8
    """Fraction of the steps after which the threshold stays."""
    view_interpolation: float | None = None
    """Fraction of the teacher rays from cameras between the training cameras, rotated like one near by: what a
    visitor sees and no photo does. If not given, 0.25 where K > 1, since few photos are from any one cell, and where
    photos look about, as in rooms; 0 where they circle one place: teachers are often wrong where no photo looks."""
    random_rotation: float = 0.5
    """Fraction of the interpolated views with a uniformly random rotation."""
    photo_fraction: float = 0.0
    """Fraction of the rays that are the photos' own, with the photos' colours and the teacher's intervals; 0 where the
    teacher's colours are not the photos' (``smerf.student.plan``), or ``patch`` is above 1."""
    origin_jitter: float = 0.03
    """Standard deviation of the noise on ray origins, training units."""
    direction_jitter: float = 0.03
    """Maximum rotation of ray directions, as a fraction of pi."""
    initial_gate: float = 0.4
    """Gate of every voxel at the start."""
    visible_weight: float = 0.005
    """Teacher weight above which a sample counts as visible."""
    visible_margin: int = 3
    """Voxels around a visible sample that the student holds and starts from the teacher's density."""
    occupied_from: float = 0.7
    """Fraction of the steps after which rendered samples mark occupied cells, which baking keeps."""
    occupied_weight: float = 0.005
    """Rendered weight above which a sample marks its cell."""
    occupied_rays: int = 1048576
    """New teacher rays that mark the finished student's occupied cells."""
    seed: int = 0
    """Random seed."""
    checkpoint_seconds: float = 40.0
    """Time between checkpoints."""

    def __post_init__(self) -> None:
        for names, low, high, expected in (
            (_AT_LEAST_ONE, 1, math.inf, "at least 1"),
            (_NOT_NEGATIVE, 0, math.inf, "a number that is not negative"),
            (_POSITIVE, math.ulp(0.0), math.inf, "a number above 0"),
            (_FRACTIONS, 0, 1, "a fraction from 0 to 1"),
        ):
            for name in names:
                self._expect(name, low <= getattr(self, name) <= high, expected)
                self._expect(name, math.isfinite(getattr(self, name)), "a finite number")
        self._expect("parameterisation", self.parameterisation in ("explicit", "hash"), "explicit or hash")
        self._expect("partition", self.partition <= 32, "1 to 32 cells per axis")
        for name, factor in (("voxel_resolution", 8), ("plane_resolution", 4)):
            value = getattr(self, name)
            self._expect(name, value > 0 and value % factor == 0, f"a positive multiple of {factor}")
        self._expect("decoder", all(width >= 1 for width in self.decoder), "widths of at least 1")
        self._expect("initial_gate", abs(self.initial_gate) <= 7.0, "a number from -7 to 7")
        minutes = self.minutes
        self._expect(
            "minutes", minutes is None or 0.0 < minutes <= MAX_MINUTES, f"above 0, at most {MAX_MINUTES:g}"
        )
        scale, fraction = self.submodel_scale, self.view_interpolation
        self._expect("submodel_scale", scale is None or 0.0 < scale < math.inf, "a number above 0")
        self._expect(
            "view_interpolation", fraction is None or 0.0 <= fraction <= 1.0, "a fraction from 0 to 1"
        )
        self._expect("rays", self.rays >= self.patch**2, f"at least one patch of {self.patch**2} rays")
        self._expect("pool", self.pool >= self.rays, f"at least the {self.rays} rays of a step")
        start = self.tau_ramp_start
        self._expect("tau_ramp_end", self.tau_ramp_end >= start, f"at least tau_ramp_start, {start}")

    def _expect(self, name: str, is_met: bool, expected: str) -> None:
        if not is_met:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")


PRESETS: dict[str, StudentConfig] = {
    "tiny": StudentConfig(
        voxel_resolution=64, plane_resolution=256, rays=1024, steps=100, pool=32768, occupied_rays=65536
    ),
    "preview": StudentConfig(max_blocks=16384, lattice=5, initial_gate=0.1, grid_lr=0.015),
    "standard": StudentConfig(
        voxel_resolution=512,
        plane_resolution=2048,
        rays=16384,
        steps=10000,
        pool=4194304,
        patch=3,
        lattice=5,
    ),
    "paper": StudentConfig(
        parameterisation="hash",
        hash=HashSpec(20, 2, 22, 16, 8192),
        voxel_resolution=512,
        plane_resolution=2048,
        rays=65536,
        steps=200000,
        pool=4194304,
        uses_per_ray=1.0,
        patch=3,
        grid_lr=1e-2,
        network_lr=1e-2,
        distortion_weight=0.01,
        sparsity_weight=0.01,
        sparsity_points=131072,
        max_gradient_norm=1e-3,
        lattice=5,
    ),
}
