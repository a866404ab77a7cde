"""The teacher's fused passes: queries of rays, and one training pass with all gradients (native only).

Their reference is autograd over the parts, as tests/kernels/test_teacher_step.py composes them: ``ray_points``,
``hash_encode``, ``radiance_head``, volume rendering and the losses.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.mlp import param_count
from smerf.kernels.records import hash_levels, ray_spacing, supports_spacing
from smerf.kernels.types import FieldGradients, FieldRays, HashSpec, Spacing, TeacherLosses

__all__ = ["FusedField", "TeacherPass", "reads_half"]

_GROUP = 16
_LANE = 16
_MAX_SAMPLES = 128


@dataclass(frozen=True)
class FusedField:
    """A radiance field as the fused passes read it.

    ``table`` (entries, F), flat ``density_params`` of (features, width, geometry) and ``colour_params`` of
    (geometry + 16, width, 3), all float32 and contiguous; see ``smerf.kernels.mlp``. ``scale`` turns training
    units into the contraction's unit cube. A ray stops where less than ``min_light`` is left, and samples
    lighter than ``min_weight`` have no colour. Samples that a density ``cache`` (n, n, n) credits with less
    optical depth than ``min_depth`` count as empty, except a fraction ``recheck`` of them, chosen by ``step``. A
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
    step: int = 0
    half_table: Tensor | None = None

    @staticmethod
    def supports(
        density_dims: tuple[int, ...], colour_dims: tuple[int, ...], spacing: Spacing, samples: int
    ) -> bool:
        """Tell whether the fused passes are built and cover these networks, spacing and number of samples."""
        covers = len(density_dims) == 3 and len(colour_dims) == 3 and samples <= _MAX_SAMPLES
        return covers and supports_spacing(spacing) and native.cpu_backend("smerf_teacher_step") is not None

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

    def _record(self) -> ctypes.Structure:
        features, density, geometry = self.density_dims
        widths = abi.record(
            "RadianceWidths",
            features=features,
            density=density,
            geometry=geometry,
            colour=self.colour_dims[1],
        )
        return abi.record(
            "TeacherField",
            levels=hash_levels(self.grid),
            table=self.table,
            half_table=self.half_table,
            density_params=self.density_params,
            colour_params=self.colour_params,
            level_count=self.grid.level_count,
            features=self.grid.features,
            widths=widths,
            spacing=ray_spacing(self.spacing),
            scale=self.scale,
            min_light=self.min_light,
            min_weight=self.min_weight,
            cache=self.cache if self.min_depth > 0.0 else None,
            cache_resolution=0 if self.cache is None else self.cache.shape[0],
            min_depth=self.min_depth,
            recheck=self.recheck,
            step=self.step & 0xFFFFFFFF,
        )

    def query(self, rays: FieldRays) -> tuple[Tensor, Tensor, Tensor]:
        """Evaluate the field along rays.

        Returns:
            Metric edges (R, S + 1), weights (R, S) and colours (R, 3) over black.

        Raises:
            ValueError: If a shape or dtype is not as stated.
        """
        record = _rays_record(rays)
        (count, ends), new = rays.s_edges.shape, rays.s_edges.new_empty
        edges, weights, colours = new(count, ends), new(count, ends - 1), new(count, 3)
        _backend().call("smerf_teacher_query", self._record(), record, edges, weights, colours)
        return edges, weights, colours


def _rays_record(rays: FieldRays) -> ctypes.Structure:
    count, samples = len(rays.origins), rays.s_edges.shape[-1] - 1
    native.check("origins", rays.origins, torch.float32, (count, 3))
    native.check("directions", rays.directions, torch.float32, (count, 3))
    native.check("radii", rays.radii, torch.float32, (count,))
    native.check("s_edges", rays.s_edges, torch.float32, (count, None))
    if not 1 <= samples <= _MAX_SAMPLES:
        raise ValueError(f"s_edges: expected 1 to {_MAX_SAMPLES} intervals, got {samples}")
    tensors = {name: tensor.detach().contiguous() for name, tensor in vars(rays).items()}
    return abi.record("TeacherRays", **tensors, rays=count, samples=samples)


def _backend() -> native.Backend:
    backend = native.cpu_backend("smerf_teacher_step")
    if backend is None:
        raise OSError("the teacher's fused passes are not built: reinstall with `pip install -e .`")
    return backend


def reads_half() -> bool:
    """Tell whether the library in use reads tables of half floats."""
    backend = native.cpu_backend()
    return backend is not None and bool(backend.query("smerf_reads_half"))


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
        rays: FieldRays,
        truth: Tensor,
        background: Tensor,
        gradients: FieldGradients,
        losses: TeacherLosses,
        cache: Tensor | None = None,
        cache_keep: float = 0.9,
    ) -> None:
        """Add the gradients of the mean losses over a batch.

        Args:
            field: The field.
            rays: The batch.
            truth: Target colours over ``background`` (R, 3); rays where they are not finite are left out.
            background: (R, 3).
            gradients: Added to.
            losses: Weights of the losses, and what is left out.
            cache: Densities (n, n, n) that are raised to what the field says, in place.
            cache_keep: What a cell keeps of its density, once a pass, when it is seen again.

        Raises:
            ValueError: If a shape or dtype is not as stated.
        """
        count, samples = len(rays.origins), rays.s_edges.shape[-1] - 1
        if (count, samples, field.grid.width) != self._shape:
            raise ValueError(
                f"s_edges: expected rays, samples and width {self._shape}, got {tuple(rays.s_edges.shape)}"
            )
        native.check("truth", truth, torch.float32, (count, 3))
        native.check("background", background, torch.float32, (count, 3))
        native.check("gradients.table", gradients.table, torch.float32, tuple(field.table.shape))
        if cache is not None:
            if field.cache is None or field.cache.shape != cache.shape:
                raise ValueError("cache: expected the field's own cache")
            native.check("cache", cache, torch.float32, (self._resolution,) * 3)
        target = abi.record(
            "TeacherTarget", truth=truth.contiguous(), background=background.contiguous(), **vars(losses)
        )
        trace = abi.record(
            "TeacherTrace",
            losses=self.losses,
            grad_density=gradients.density,
            grad_colour=gradients.colour,
            points=self._points,
            feature_gradient=self._features,
            counts=self._counts,
            cells=None if cache is None else self._cells,
            densities=None if cache is None else self._densities,
            cache_keep=cache_keep,
        )
        read, along, backend = field._record(), _rays_record(rays), _backend()
        backend.call("smerf_teacher_step", read, along, target, trace)
        backend.call("smerf_teacher_scatter", read, along, trace, gradients.table, cache)

    def sample_fractions(self) -> tuple[float, float]:
        """Return which fractions of the samples the last pass differentiated, and evaluated."""
        total = self._shape[0] * self._shape[1]
        differentiated, evaluated = (self._counts.sum(0) / total).tolist()
        return differentiated, evaluated
