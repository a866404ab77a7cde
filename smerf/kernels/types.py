"""Shapes and plain data that the kernels, their references and their callers share.

Letters: R rays, S samples. The axes of grids are the viewer's.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import torch
from torch import Tensor

__all__ = [
    "BLOCK",
    "DIRECTION_WIDTHS",
    "FEATURES",
    "MAX_BINS",
    "MAX_SAMPLES",
    "Adam",
    "CacheSampling",
    "FieldGradients",
    "FieldRays",
    "Frustums",
    "GridSpec",
    "Grids",
    "HashSpec",
    "LatticeNetworks",
    "Spacing",
    "StudentLosses",
    "TeacherLosses",
    "VertexDecoder",
    "Vertices",
    "power_ladder",
]

BLOCK = 8
"""Edge of a voxel block."""
FEATURES = 14
"""Composited channels: seven gated and seven of the voxel grid alone."""
MAX_SAMPLES = 256
"""Maximum number of intervals of one ray."""
MAX_BINS = 256
"""Maximum number of intervals in which a ray reads a density cache."""
_RECORD = 32
_NEUTRAL = 128
"""The byte of parameter zero."""
DIRECTION_WIDTHS = {"spherical": 16, "sinusoidal": 27}
"""Values of an encoded direction, by the kind of encoding."""
_Distance = TypeVar("_Distance", Tensor, float)


def power_ladder(t: _Distance, power: float, scale: float) -> _Distance:
    """Return Tukey's ladder P(x; p) = |p - 1| / p ((x / |p - 1| + 1)^p - 1) of x = scale * t, for p < 0."""
    stretch = 1.0 - power
    return stretch / power * ((scale / stretch * t + 1.0) ** power - 1.0)


@dataclass(frozen=True)
class Spacing:
    """The map between distance t in [near, far] and s in [0, 1].

    Bounded scenes are spaced linearly. Unbounded scenes follow the power ladder g(t) = P(scale * t; power)
    (Zip-NeRF, arXiv 2304.06706), by default 5/3 (1 - (0.8 t + 1)^-1.5): nearly linear close by, and infinity
    at a finite g.
    """

    near: float
    far: float
    linear: bool
    power: float = -1.5
    scale: float = 2.0

    def __post_init__(self) -> None:
        if not self.linear and not self.power < 0.0:
            raise ValueError(f"power: expected less than 0, got {self.power}")

    def _ladder(self, t: _Distance) -> _Distance:
        return power_ladder(t, self.power, self.scale)

    def ends(self) -> tuple[float, float]:
        """Return the ladder values of ``near`` and ``far``."""
        limit = (self.power - 1.0) / self.power
        far = limit if self.far == float("inf") else self._ladder(self.far)
        return self._ladder(self.near), far

    def t_from_s(self, s: Tensor) -> Tensor:
        """Return distances for s in [0, 1], any shape; infinity is cut at 1e4."""
        if self.linear:
            return self.near + s * (self.far - self.near)
        near, far = self.ends()
        limit, stretch = (self.power - 1.0) / self.power, 1.0 - self.power
        g = (near + s * (far - near)).clamp_max(limit * (1.0 - 1e-6))
        t = ((1.0 - g / limit) ** (1.0 / self.power) - 1.0) * (stretch / self.scale)
        return t.clamp(self.near, min(self.far, 1e4))

    def s_from_t(self, t: Tensor) -> Tensor:
        """Return s for distances t, any shape."""
        if self.linear:
            return (t - self.near) / (self.far - self.near)
        near, far = self.ends()
        return (self._ladder(t) - near) / (far - near)


@dataclass(frozen=True)
class CacheSampling:
    """How samples are placed by a cache of densities."""

    spacing: Spacing
    bins: int
    """Evenly spaced intervals of s in which the cache is read, at most ``MAX_BINS``."""
    samples: int
    """Intervals to sample."""
    scale: float
    """Factor from training units to the contraction's unit cube."""
    cap: float
    """Maximum optical depth of a bin: a ray never goes blind behind one."""
    mix: float
    """Fraction of the probability that is spread evenly over s."""

    def __post_init__(self) -> None:
        if not 1 <= self.bins <= MAX_BINS or self.samples < 1:
            raise ValueError(
                f"bins, samples: expected 1 to {MAX_BINS} and at least 1, got {self.bins} and {self.samples}"
            )


@dataclass(frozen=True)
class HashSpec:
    """The shape of a multi-resolution grid.

    ``level_count`` levels with ``base`` .. ``finest`` cells per axis in geometric steps, ``features`` floats
    per entry (1, 2, 4 or 8). A level with more than ``2**log2_size`` cells is hashed.
    """

    level_count: int
    features: int
    log2_size: int
    base: int
    finest: int

    def __post_init__(self) -> None:
        if self.features not in (1, 2, 4, 8):
            raise ValueError(f"features: expected 1, 2, 4 or 8, got {self.features}")
        if self.level_count < 1 or not 1 <= self.base <= self.finest:
            raise ValueError(
                f"level_count, base, finest: expected at least one level and 1 <= base <= finest, got "
                f"{self.level_count}, {self.base}, {self.finest}"
            )
        if not 1 <= self.log2_size <= 30:
            raise ValueError(f"log2_size: expected 1 to 30, got {self.log2_size}")

    def resolutions(self) -> tuple[int, ...]:
        """Return the cells per axis of each level."""
        if self.level_count == 1:
            return (self.base,)
        ratio = (self.finest / self.base) ** (1.0 / (self.level_count - 1))
        return tuple(round(self.base * ratio**level) for level in range(self.level_count))

    def levels(self) -> list[tuple[int, int, int]]:
        """Return (first entry, cells per axis, entries) of each level."""
        rows, offset = [], 0
        for resolution in self.resolutions():
            size = min(resolution**3, 1 << self.log2_size)
            rows.append((offset, resolution, size))
            offset += size
        return rows

    @property
    def entry_count(self) -> int:
        """Return the number of table entries of all levels."""
        offset, _, size = self.levels()[-1]
        return offset + size

    @property
    def width(self) -> int:
        """Return the number of features of an encoded point."""
        return self.level_count * self.features


@dataclass(frozen=True)
class Frustums:
    """How the intervals of rays become points."""

    scale: float = 1.0
    """Factor from world units to the contraction's unit ball or cube."""
    points: int = 6
    """Points of an interval: 6 (a hexagon), 3 (half of it) or 1 (the midpoint)."""
    contraction: str = "ball"
    """``ball`` (mip-NeRF 360) or ``cube`` (MERF)."""
    seed: int | None = None
    """Turns and mirrors every interval's pattern at random; None alternates, the same on every call."""
    first_ray: int = 0
    """Number of the first ray, so that the pattern does not depend on how rays are split into batches."""

    def __post_init__(self) -> None:
        if self.points not in (1, 3, 6):
            raise ValueError(f"points: expected 1, 3 or 6, got {self.points}")
        if self.contraction not in ("ball", "cube"):
            raise ValueError(f"contraction: expected 'ball' or 'cube', got {self.contraction!r}")


@dataclass(frozen=True)
class GridSpec:
    """Sizes, place and value ranges of one submodel's grids.

    ``voxel_resolution`` (a multiple of 8) and ``plane_resolution`` divide contracted space [-2, 2];
    ``centre`` and ``scale`` take training space to submodel space.
    """

    voxel_resolution: int
    plane_resolution: int
    scale: float
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    density_range: tuple[float, float] = (-14.0, 14.0)
    feature_range: tuple[float, float] = (-7.0, 7.0)

    @property
    def step(self) -> float:
        """Return the marching step in contracted space."""
        return 4.0 / self.plane_resolution

    @property
    def blocks(self) -> int:
        """Return the number of voxel blocks per axis."""
        return self.voxel_resolution // BLOCK


@dataclass
class Grids:
    """One submodel's grids.

    ``block_index`` (B, B, B) int32 is the number of each voxel block, -1 where there is none. ``voxels``
    (N * 512, 8) and ``planes`` (3 * T * T, 8) are bytes; records (.., 32) float32 and touched flags (..,) go
    with them.
    """

    spec: GridSpec
    block_index: Tensor
    voxels: Tensor
    planes: Tensor
    voxel_records: Tensor = field(repr=False)
    plane_records: Tensor = field(repr=False)
    voxel_touched: Tensor = field(repr=False)
    plane_touched: Tensor = field(repr=False)

    @classmethod
    def allocate(cls, spec: GridSpec, block_index: Tensor, records: bool = True) -> Grids:
        """Return grids whose every parameter is zero (the byte next above zero), on ``block_index``'s device.

        Without ``records`` they hold the bytes alone.
        """
        device = block_index.device
        voxels = int(block_index.max().item() + 1) * BLOCK**3
        texels = 3 * spec.plane_resolution**2
        return cls(
            spec,
            block_index.to(torch.int32).contiguous(),
            torch.full((voxels, 8), _NEUTRAL, dtype=torch.uint8, device=device),
            torch.full((texels, 8), _NEUTRAL, dtype=torch.uint8, device=device),
            torch.zeros(voxels if records else 0, _RECORD, device=device),
            torch.zeros(texels if records else 0, _RECORD, device=device),
            torch.zeros(voxels if records else 0, dtype=torch.uint8, device=device),
            torch.zeros(texels if records else 0, dtype=torch.uint8, device=device),
        )

    def to(self, device: torch.device | str) -> Grids:
        """Return the grids on a device; what is there already is shared."""
        tensors = {one.name: getattr(self, one.name).to(device) for one in fields(self) if one.name != "spec"}
        return replace(self, **tensors)

    def read_bytes(self) -> None:
        """Set the parameters of the records to what the bytes stand for."""
        for records, values in ((self.voxel_records, self.voxels), (self.plane_records, self.planes)):
            moved = values != _NEUTRAL
            records[:, 8:16] = torch.where(
                moved, torch.logit((values / 255.0).clamp(0.25 / 255.0, 254.75 / 255.0)), 0.0
            )

    def requantise(self) -> None:
        """Refresh the bytes from the parameters."""
        for records, values in ((self.voxel_records, self.voxels), (self.plane_records, self.planes)):
            values.copy_(torch.round(255.0 * torch.sigmoid(records[:, 8:16])).to(torch.uint8))


@dataclass(frozen=True)
class Vertices:
    """Which vertices of a submodel's grids.

    ``voxels`` (V,) and ``texels`` (T,) int64 are storage rows, each at most once; ``blocks`` (N, 3) int32 are the
    coordinates of all the grids' voxel blocks, in the order of their numbers.
    """

    voxels: Tensor
    texels: Tensor
    blocks: Tensor


@dataclass(frozen=True)
class VertexDecoder:
    """Shapes of a hash encoding of contracted space and of the network behind it, whose last layer has eight outputs.

    The network reads ``gain`` times what the table holds.
    """

    spec: HashSpec
    dims: tuple[int, ...]
    gain: float = 1.0

    def __post_init__(self) -> None:
        if len(self.dims) < 2 or self.dims[0] != self.spec.width or self.dims[-1] != 8:
            raise ValueError(f"dims: expected {self.spec.width}, .., 8, got {self.dims}")


@dataclass(frozen=True)
class Adam:
    """One update by Adam."""

    step: int
    """Number of this update, from 1, for the bias correction (one count for all parameters)."""
    lr: float
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-15

    def corrections(self) -> tuple[float, float]:
        """Return what the moments are divided by."""
        return 1.0 - self.betas[0] ** self.step, 1.0 - self.betas[1] ** self.step


@dataclass(frozen=True)
class FieldRays:
    """Rays and where a field is sampled along them.

    ``origins`` (R, 3), unit ``directions`` (R, 3), cone ``radii`` per unit distance (R,), and ascending interval ends
    ``s_edges`` (R, S + 1) in normalised distance; all float32.
    """

    origins: Tensor
    directions: Tensor
    radii: Tensor
    s_edges: Tensor


@dataclass(frozen=True)
class FieldGradients:
    """Gradients of a field's parameters, of their shapes, which the training pass adds to."""

    table: Tensor
    density: Tensor
    colour: Tensor


@dataclass(frozen=True)
class TeacherLosses:
    """The losses of the teacher's training pass, each a mean over rays."""

    charbonnier: float = 1e-3
    """Rounding of the colour loss sqrt(e^2 + charbonnier^2)."""
    distortion_weight: float = 0.0
    opacity_weight: float = 0.0
    """Weight of the sum of a ray's opacities 1 - exp(-depth)."""
    distance_weight: float = 0.0
    """Weight of what rays show away from where they are known to meet something."""
    near_distance: float = 0.0
    """Gradients of samples closer than this fall off with the square of the distance."""
    min_gradient: float = 0.0
    """Samples without colour and with less gradient of their raw density, times R, are left out."""


@dataclass(frozen=True)
class LatticeNetworks:
    """The appearance networks of a submodel's lattice.

    ``params`` (P^3, n) float32 holds a network a row, z slowest; the step adds to ``gradient``, of the same shape.
    ``width`` is that of the hidden layers, ``scale`` takes ray origins about the submodel's centre to [-1, 1].
    """

    params: Tensor
    gradient: Tensor
    width: int
    scale: float


@dataclass(frozen=True)
class StudentLosses:
    """The losses of the student's training step, each a sum over rays."""

    tau: float
    """Culling threshold, in alpha over one marching step."""
    geometry_weight: float
    """Weight of the sum of |weight - teacher's weight|."""
    dssim_weight: float = 0.0
    """Weight of (1 - SSIM) / 2 of patches of more than one ray."""
    distortion_weight: float = 0.0
    """Weight of the distortion of rays that have ``s_edges`` (arXiv 2111.12077, equation 15)."""
    charbonnier: float = 1e-3
    """Rounding of the colour loss sqrt(e^2 + charbonnier^2)."""
    min_gradient: float = 0.0
    """Samples whose values all have a smaller gradient are left out."""
