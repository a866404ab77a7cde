"""The teacher's fused passes: answering rays, and one training pass with all gradients (native only).

The plain twin is autograd over the parts: ``hash_encode``, ``radiance_head``, volume rendering and the losses.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.density_cache import SpacingRecord, spacing_record
from smerf.kernels.hash_encoding import level_records
from smerf.kernels.mlp import param_count
from smerf.kernels.types import HashSpec, Spacing

__all__ = ["FusedField", "TeacherPass", "reads_half"]

_GROUP = 16
_LANE = 16
_MOST_SAMPLES = 128


class _Widths(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in ("features", "density", "geometry", "colour")]


class _Field(ctypes.Structure):
    _fields_ = [
        ("levels", ctypes.c_void_p),
        ("table", ctypes.c_void_p),
        ("half_table", ctypes.c_void_p),
        ("density_params", ctypes.c_void_p),
        ("colour_params", ctypes.c_void_p),
        ("level_count", ctypes.c_int32),
        ("features", ctypes.c_int32),
        ("widths", _Widths),
        ("spacing", SpacingRecord),
        ("scale", ctypes.c_float),
        ("min_light", ctypes.c_float),
        ("min_weight", ctypes.c_float),
        ("cache", ctypes.c_void_p),
        ("cache_resolution", ctypes.c_int32),
        ("min_depth", ctypes.c_float),
        ("recheck", ctypes.c_float),
        ("draw", ctypes.c_uint32),
    ]


class _Rays(ctypes.Structure):
    _fields_ = [
        ("origins", ctypes.c_void_p),
        ("directions", ctypes.c_void_p),
        ("radii", ctypes.c_void_p),
        ("s_edges", ctypes.c_void_p),
        ("rays", ctypes.c_int64),
        ("samples", ctypes.c_int32),
    ]


class _Target(ctypes.Structure):
    _fields_ = [
        ("truth", ctypes.c_void_p),
        ("background", ctypes.c_void_p),
        ("charbonnier", ctypes.c_float),
        ("distortion_weight", ctypes.c_float),
        ("opacity_weight", ctypes.c_float),
        ("near_distance", ctypes.c_float),
        ("min_gradient", ctypes.c_float),
    ]


class _Trace(ctypes.Structure):
    _fields_ = [
        ("losses", ctypes.c_void_p),
        ("grad_density", ctypes.c_void_p),
        ("grad_colour", ctypes.c_void_p),
        ("points", ctypes.c_void_p),
        ("feature_gradient", ctypes.c_void_p),
        ("counts", ctypes.c_void_p),
        ("cells", ctypes.c_void_p),
        ("densities", ctypes.c_void_p),
        ("cache_keep", ctypes.c_float),
    ]


@dataclass(frozen=True)
class FusedField:
    """A radiance field as the fused passes read it.

    ``table`` (entries, F), flat ``density_params`` of (features, width, geometry) and ``colour_params`` of
    (geometry + 16, width, 3), all float32 and contiguous; see ``smerf.kernels.mlp``. ``scale`` turns training
    units into the contraction's unit cube. A ray stops where less than ``min_light`` is left, and samples
    lighter than ``min_weight`` have no colour. Samples that a density ``cache`` (n, n, n) credits with less
    optical depth than ``min_depth`` count as empty, except a share ``recheck`` that ``draw`` chooses. A
    ``half_table`` (entries, F) float16 is read instead of the table: half the memory to fetch.
    """

    grid: HashSpec
    table: Tensor
    density_params: Tensor
    density_dims: tuple[int, ...]
    colour_params: Tensor
    colour_dims: tuple[int, ...]
    spacing: Spacing
    scale: float
    min_light: float = 0.0
    min_weight: float = 0.0
    cache: Tensor | None = None
    min_depth: float = 0.0
    recheck: float = 0.0
    draw: int = 0
    half_table: Tensor | None = None

    @staticmethod
    def fits(density_dims: tuple[int, ...], colour_dims: tuple[int, ...], samples: int) -> bool:
        """Tell whether the fused passes cover these networks and this number of samples."""
        return len(density_dims) == 3 and len(colour_dims) == 3 and samples <= _MOST_SAMPLES

    def __post_init__(self) -> None:
        native.check("table", self.table, torch.float32, (self.grid.entry_count, self.grid.features))
        for name, params, dims in (
            ("density_params", self.density_params, self.density_dims),
            ("colour_params", self.colour_params, self.colour_dims),
        ):
            native.check(name, params, torch.float32, (param_count(dims),))
            if not params.is_contiguous():
                raise ValueError(f"{name}: expected a contiguous tensor, got strides {params.stride()}")
        if not self.table.is_contiguous():
            raise ValueError(f"table: expected a contiguous tensor, got strides {self.table.stride()}")
        wanted = (self.density_dims[-1] + 16, self.colour_dims[1], 3)
        if self.density_dims[0] != self.grid.width or tuple(self.colour_dims) != wanted:
            raise ValueError(
                f"colour_dims: expected {wanted} behind {self.density_dims}, got {self.colour_dims}"
            )

    def _record(self) -> _Field:
        record = _Field(
            table=self.table.data_ptr(),
            half_table=None if self.half_table is None else self.half_table.data_ptr(),
            density_params=self.density_params.data_ptr(),
            colour_params=self.colour_params.data_ptr(),
            level_count=self.grid.level_count,
            features=self.grid.features,
            widths=_Widths(*self.density_dims, self.colour_dims[1]),
            spacing=spacing_record(self.spacing),
            scale=self.scale,
            min_light=self.min_light,
            min_weight=self.min_weight,
            cache=None if self.cache is None or self.min_depth <= 0.0 else self.cache.data_ptr(),
            cache_resolution=0 if self.cache is None else self.cache.shape[0],
            min_depth=self.min_depth,
            recheck=self.recheck,
            draw=self.draw & 0xFFFFFFFF,
        )
        record.levels = level_records(self.grid).ctypes.data
        return record

    def _rays(self, origins: Tensor, directions: Tensor, radii: Tensor, s_edges: Tensor) -> _Rays:
        rays = origins.shape[0]
        native.check("origins", origins, torch.float32, (rays, 3))
        native.check("directions", directions, torch.float32, (rays, 3))
        native.check("radii", radii, torch.float32, (rays,))
        native.check("s_edges", s_edges, torch.float32, (rays, None))
        samples = s_edges.shape[1] - 1
        if not 1 <= samples <= _MOST_SAMPLES:
            raise ValueError(f"s_edges: expected 1 to {_MOST_SAMPLES} intervals, got {samples}")
        keep = [a.detach().contiguous() for a in (origins, directions, radii, s_edges)]
        record = _Rays(*(a.data_ptr() for a in keep), rays, samples)
        record.keep = keep  # the memory lives as long as the record
        return record

    def query(
        self, origins: Tensor, directions: Tensor, radii: Tensor, s_edges: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Answer rays in intervals s_edges (R, S + 1).

        Returns:
            Metric edges (R, S + 1), weights (R, S) and colours (R, 3) over black.

        Raises:
            ValueError: If a shape or dtype is not as stated.
        """
        rays = self._rays(origins, directions, radii, s_edges)
        edges, weights = (
            s_edges.new_empty(rays.rays, rays.samples + 1),
            s_edges.new_empty(rays.rays, rays.samples),
        )
        colours = s_edges.new_empty(rays.rays, 3)
        record = self._record()
        _call(
            native.load_cpu().smerf_teacher_query(
                ctypes.byref(record), ctypes.byref(rays), native.pointer(edges), native.pointer(weights),
                native.pointer(colours),
            )
        )  # fmt: skip
        return edges, weights, colours


def reads_half() -> bool:
    """Tell whether the library in use reads tables of half floats."""
    library = native.load_cpu()
    return library is not None and bool(library.smerf_reads_half())


def _call(code: int) -> None:
    if code:
        raise ValueError("the fused teacher does not cover these sizes: use the separate kernels")


class TeacherPass:
    """One training pass after another over batches of the same size; owns the memory between its two halves."""

    def __init__(self, rays: int, samples: int, width: int, cache_resolution: int) -> None:
        groups, room = -(-rays // _GROUP), _GROUP * samples
        padded = -(-width // _LANE) * _LANE
        self.losses = torch.zeros(rays, 4)
        """Per ray: Charbonnier loss, distortion, squared error, sum of opacities (R, 4), of the last pass."""
        self._points = torch.empty(groups, 4, room)
        self._features = torch.empty(groups, room, padded)
        self._counts = torch.zeros(groups, 2, dtype=torch.int32)
        self._cells = torch.empty(groups, room, dtype=torch.int32) if cache_resolution else None
        self._densities = torch.empty(groups, room) if cache_resolution else None
        self._resolution = cache_resolution
        self._shape = rays, samples, width

    def run(
        self,
        field: FusedField,
        origins: Tensor,
        directions: Tensor,
        radii: Tensor,
        s_edges: Tensor,
        truth: Tensor,
        background: Tensor,
        *,
        grad_density: Tensor,
        grad_colour: Tensor,
        grad_table: Tensor,
        cache: Tensor | None = None,
        cache_keep: float = 0.9,
        charbonnier: float = 1e-3,
        distortion_weight: float = 0.0,
        opacity_weight: float = 0.0,
        near_distance: float = 0.0,
        min_gradient: float = 0.0,
    ) -> None:
        """Add the gradients of the mean losses over a batch.

        Args:
            field: The field.
            origins: (R, 3) float32.
            directions: Unit vectors (R, 3).
            radii: (R,).
            s_edges: Ascending interval ends in s (R, S + 1).
            truth: Wanted colours over ``background`` (R, 3); rays where they are not finite teach nothing.
            background: (R, 3).
            grad_density: Flat gradient of the density net, added to.
            grad_colour: Flat gradient of the colour net, added to.
            grad_table: Gradient of the table, added to.
            cache: Densities (n, n, n) that are raised to what the field says, in place.
            cache_keep: What a cell keeps of its density, once a pass, when it is seen again.
            charbonnier: Rounding of the colour loss sqrt(e^2 + charbonnier^2).
            distortion_weight: Weight of the distortion loss.
            opacity_weight: Weight of the sum of a ray's opacities 1 - exp(-depth).
            near_distance: Gradients of samples closer than this fall off with the square of the distance.
            min_gradient: Samples without colour and with less gradient of their raw density, times R, are left out.

        Raises:
            ValueError: If a shape or dtype is not as stated.
        """
        rays = field._rays(origins, directions, radii, s_edges)
        if (rays.rays, rays.samples, field.grid.width) != self._shape:
            raise ValueError(
                f"s_edges: expected rays, samples and width {self._shape}, got {tuple(s_edges.shape)}"
            )
        native.check("truth", truth, torch.float32, (rays.rays, 3))
        native.check("background", background, torch.float32, (rays.rays, 3))
        native.check("grad_table", grad_table, torch.float32, tuple(field.table.shape))
        if cache is not None:
            if field.cache is None or field.cache.shape != cache.shape:
                raise ValueError("cache: expected the field's own cache")
            native.check("cache", cache, torch.float32, (self._resolution,) * 3)
        truth, background = truth.contiguous(), background.contiguous()
        target = _Target(
            truth.data_ptr(), background.data_ptr(), charbonnier, distortion_weight, opacity_weight,
            near_distance, min_gradient,
        )  # fmt: skip
        trace = _Trace(
            self.losses.data_ptr(), grad_density.data_ptr(), grad_colour.data_ptr(), self._points.data_ptr(),
            self._features.data_ptr(), self._counts.data_ptr(),
            None if cache is None else self._cells.data_ptr(),
            None if cache is None else self._densities.data_ptr(), cache_keep,
        )  # fmt: skip
        record, library = field._record(), native.load_cpu()
        _call(
            library.smerf_teacher_step(
                ctypes.byref(record), ctypes.byref(rays), ctypes.byref(target), ctypes.byref(trace)
            )
        )
        _call(
            library.smerf_teacher_scatter(
                ctypes.byref(record), ctypes.byref(rays), ctypes.byref(trace), native.pointer(grad_table),
                native.pointer(cache),
            )
        )  # fmt: skip

    def share_of_samples(self) -> tuple[float, float]:
        """Return which shares of the samples the last pass followed back, and evaluated."""
        total = self._shape[0] * self._shape[1]
        return tuple((self._counts.sum(0) / total).tolist())
