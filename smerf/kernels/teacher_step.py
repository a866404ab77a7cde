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
_OF_GROUPS = ("points", "feature_gradient", "cells", "densities")
_GPU_RAYS = 16384
"""Rays of a query that a GPU answers at once: all their samples are in its memory."""


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
        density_dims: tuple[int, ...],
        colour_dims: tuple[int, ...],
        spacing: Spacing,
        samples: int,
        device: torch.device | None = None,
    ) -> bool:
        """Tell whether the fused passes are built and cover these networks, spacing and number of samples.

        On a GPU their sums have no fixed order: they are not for ``torch.use_deterministic_algorithms``.
        """
        covers = len(density_dims) == 3 and len(colour_dims) == 3 and samples <= _MAX_SAMPLES
        if not (covers and supports_spacing(spacing)):
            return False
        backend = native.backend(torch.empty(0, device=device or "cpu"), "smerf_teacher_step")
        if backend is None or backend.kind == "cpu":
            return backend is not None
        is_free = not torch.are_deterministic_algorithms_enabled()
        return is_free and _scratch_floats(backend, density_dims, colour_dims, 1, samples) >= 0

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
        widths = _widths(self.density_dims, self.colour_dims)
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
        backend, field = _backend(self.table), self._record()
        (count, ends), new = rays.s_edges.shape, rays.s_edges.new_empty
        answer = new(count, ends), new(count, ends - 1), new(count, 3)
        size = count if backend.kind == "cpu" else min(count, _GPU_RAYS)
        scratch = _scratch(backend, self, size, ends - 1, is_training=False)
        for first in range(0, max(count, 1), max(size, 1)):
            part = FieldRays(**{name: tensor[first : first + size] for name, tensor in vars(rays).items()})
            here = (one[first : first + size] for one in answer)
            backend.call("smerf_teacher_query", field, _rays_record(part), *here, scratch)
        return answer


def _widths(density_dims: tuple[int, ...], colour_dims: tuple[int, ...]) -> ctypes.Structure:
    features, density, geometry = density_dims
    return abi.record(
        "RadianceWidths", features=features, density=density, geometry=geometry, colour=colour_dims[1]
    )


def _scratch_floats(
    backend: native.Backend,
    density_dims: tuple[int, ...],
    colour_dims: tuple[int, ...],
    rays: int,
    samples: int,
    is_training: bool = True,
) -> int:
    """Return the floats of scratch memory that CUDA's passes need; -1 if they don't take the networks."""
    widths = _widths(density_dims, colour_dims)
    return int(backend.query("smerf_teacher_scratch", widths, rays, samples, is_training))


def _scratch(
    backend: native.Backend, field: FusedField, rays: int, samples: int, is_training: bool
) -> Tensor | None:
    """Return scratch memory for CUDA; the CPU's passes take none."""
    if backend.kind == "cpu":
        return None
    sizes = field.density_dims, field.colour_dims, rays, samples, is_training
    return field.table.new_empty(max(0, _scratch_floats(backend, *sizes)))


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


def _backend(tensor: Tensor) -> native.Backend:
    backend = native.backend(tensor, "smerf_teacher_step")
    if backend is None:
        raise OSError("the teacher's fused passes are not built: reinstall with `pip install -e .`")
    return backend


def reads_half(device: torch.device | None = None) -> bool:
    """Tell whether the library in use reads tables of half floats on a device (by default the CPU)."""
    backend = native.backend(torch.empty(0, device=device or "cpu"), "smerf_reads_half")
    return backend is not None and bool(backend.query("smerf_reads_half"))


class TeacherPass:
    """One training pass after another over batches of the same size; owns the memory between its two halves."""

    def __init__(
        self,
        rays: int,
        samples: int,
        width: int,
        cache_resolution: int,
        device: torch.device | None = None,
    ) -> None:
        self.losses = torch.zeros(rays, 5, device=device or "cpu")
        """Per ray: Charbonnier loss, distortion, squared error, sum of opacities, distance (R, 5), of the last pass."""
        self._shape, self._resolution = (rays, samples, width), cache_resolution
        self._kind = _backend(self.losses).kind
        groups = -(-rays // _GROUP) if self._kind == "cpu" else 1
        self._counts = torch.zeros(groups, 2, dtype=torch.int32, device=self.losses.device)
        self._memory = self._group_memory(groups) if self._kind == "cpu" else dict.fromkeys(_OF_GROUPS)
        self._scratch: Tensor | None = None

    def _group_memory(self, groups: int) -> dict[str, Tensor | None]:
        """Return what the CPU's groups of rays leave behind."""
        _, samples, width = self._shape
        room, padded = _GROUP * samples, -(-width // _LANE) * _LANE
        has_cache = self._resolution > 0
        return {
            "points": torch.empty(groups, 4, room),
            "feature_gradient": torch.empty(groups, room, padded),
            "cells": torch.empty(groups, room, dtype=torch.int32) if has_cache else None,
            "densities": torch.empty(groups, room) if has_cache else None,
        }

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
        distances: Tensor | None = None,
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
            distances: Where rays are known to meet something (R,), 0 where that is not known.

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
        if distances is not None:
            native.check("distances", distances, torch.float32, (count,))
            distances = distances.contiguous()
        target = abi.record(
            "TeacherTarget",
            truth=truth.contiguous(),
            background=background.contiguous(),
            distances=distances,
            **vars(losses),
        )
        backend = _backend(field.table)
        if backend.kind == "cuda":
            self._counts.zero_()
            if self._scratch is None:
                self._scratch = _scratch(backend, field, count, samples, is_training=True)
        memory = self._memory if cache is not None else self._memory | {"cells": None, "densities": None}
        trace = abi.record(
            "TeacherTrace",
            losses=self.losses,
            grad_density=gradients.density,
            grad_colour=gradients.colour,
            counts=self._counts,
            cache_keep=cache_keep,
            **memory,
        )
        read, along = field._record(), _rays_record(rays)
        backend.call("smerf_teacher_step", read, along, target, trace, self._scratch)
        backend.call("smerf_teacher_scatter", read, along, trace, gradients.table, cache, self._scratch)

    def sample_fractions(self) -> tuple[float, float]:
        """Return which fractions of the samples the last pass differentiated, and evaluated."""
        total = self._shape[0] * self._shape[1]
        differentiated, evaluated = (self._counts.sum(0) / total).tolist()
        return differentiated, evaluated
