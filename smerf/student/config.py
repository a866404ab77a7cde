"""Presets of the student and its distillation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from smerf.kernels.hash_encoding import HashSpec

__all__ = ["PRESETS", "StudentConfig"]


@dataclass(frozen=True)
class StudentConfig:
    """Everything that distilling depends on."""

    parameterisation: str = "explicit"
    """``explicit``: the quantised grid values themselves; ``hash``: a hash grid and decoder produce them."""
    hash: HashSpec = dataclasses.field(default_factory=lambda: HashSpec(8, 4, 17, 16, 1024))
    """Resolution levels of the hash form over contracted space, one table a submodel."""
    decoder: tuple[int, ...] = (64,)
    """Hidden widths of the decoder of the hash form."""
    hash_decay: float = 0.01
    """Weight of the mean square of each level's entries."""
    voxel_resolution: int = 256
    """R_v, voxels per axis of contracted space; a multiple of 8."""
    plane_resolution: int = 1024
    """R_t, texels per axis of a plane; four times R_v in the paper."""
    most_blocks: int = 0
    """Voxel blocks up to which both resolutions are doubled (where K = 1): 70 kB of memory each; 0: never."""
    partition: int = 1
    """K, cells per axis of the cube of cameras; each cell that holds a training camera gets a submodel."""
    cell_fill: float = 0.8
    """Half edge of a cell in the contraction's unit cube, where K > 1."""
    submodel_scale: float | None = None
    """Factor from training units to the contraction's unit cube; the teacher's if not given, or K times
    ``cell_fill`` where K > 1."""
    reassigned: float = 0.2
    """Share of the rays that a neighbour of their own submodel learns from."""
    consistency: float = 0.25
    """Rays, as a share of a step's own, on which a submodel is to agree with finished neighbours."""
    consistency_rays: int = 65536
    """Rays that a finished submodel shows its neighbours."""
    lattice: int = 1
    """P, vertices per axis of the lattice of appearance networks."""
    lattice_smoothness: float = 0.1
    """Weight of the squared differences between neighbouring networks of the lattice."""
    exposure: bool = False
    """Whether the appearance networks are told a photo's exposure, as the teacher is (``teacher.exposure``)."""
    width: int = 16
    """Hidden width of the appearance network."""
    rays: int = 4096
    """Rays a step."""
    steps: int = 7500
    """Optimiser steps."""
    pool: int = 524288
    """Teacher rays kept at a time."""
    uses: float = 2.0
    """How often a teacher ray is used before a fresh one takes its place."""
    grid_lr: float = 0.03
    """Learning rate of the logits of the grid values, or of the hash form's tables and decoder (0.01), at the
    start."""
    network_lr: float = 1e-2
    """Learning rate of the appearance network at the start."""
    final_lr: float = 0.03
    """Share of the learning rates that is left at the end (log-linear)."""
    warmup_steps: int = 10
    """Steps over which the learning rates rise."""
    patch: int = 1
    """Edge of the square patches of pixels in which rays are drawn: 3 in the paper; 1 learns more in few steps."""
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
    clip: float = 0.0
    """Largest norm of the gradient of the appearance networks, and of the hash form; 0: any."""
    tau_start: float = 0.001
    """First culling threshold, in alpha per marching step."""
    tau_end: float = 0.005
    """Last culling threshold."""
    tau_from: float = 0.4
    """Share of the steps after which culling begins."""
    tau_until: float = 0.8
    """Share of the steps after which the threshold stays."""
    between: float | None = None
    """Share of the teacher rays from between the training cameras, turned like a camera near by: what a visitor sees
    and no photo does. If not given, 0.25 where K > 1, since few photos are from any one cell, and 0 where K = 1:
    teachers are often wrong where no photo looks."""
    around: float = 0.5
    """Share of the rays from between the cameras that look anywhere: visitors turn to where no photographer did."""
    origin_jitter: float = 0.03
    """Standard deviation of the noise on ray origins, training units."""
    direction_jitter: float = 0.03
    """Largest rotation of ray directions, as a share of pi."""
    initial_gate: float = 0.4
    """Gate of every voxel at the start."""
    seen_weight: float = 0.005
    """Teacher weight above which a sample counts as seen."""
    seen_reach: int = 3
    """Voxels around a seen sample that the student holds and starts from the teacher's density."""
    alive_from: float = 0.7
    """Share of the steps after which rendered samples mark what baking keeps."""
    alive_weight: float = 0.005
    """Weight above which a sample counts as seen."""
    alive_rays: int = 1048576
    """Fresh rays that mark the finished student."""
    seed: int = 0
    """Seed of every random draw."""
    checkpoint_seconds: float = 40.0
    """Time between checkpoints."""

    @property
    def share_between(self) -> float:
        """Return ``between`` as it is used."""
        if self.between is not None:
            return self.between
        return 0.0 if self.partition == 1 else 0.25

    def __post_init__(self) -> None:
        if not 1 <= self.partition <= 32:
            raise ValueError(f"partition: expected 1 to 32 cells per axis, got {self.partition}")
        if self.lattice < 1:
            raise ValueError(f"lattice: expected at least 1 vertex per axis, got {self.lattice}")


PRESETS: dict[str, StudentConfig] = {
    "tiny": StudentConfig(
        voxel_resolution=64, plane_resolution=256, rays=1024, steps=100, pool=32768, alive_rays=65536
    ),
    "preview": StudentConfig(most_blocks=16384, lattice=5, initial_gate=0.1, grid_lr=0.015),
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
        uses=1.0,
        patch=3,
        grid_lr=1e-2,
        network_lr=1e-2,
        distortion_weight=0.01,
        sparsity_weight=0.01,
        sparsity_points=131072,
        clip=1e-3,
        lattice=5,
    ),
}
