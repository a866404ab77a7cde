"""The native passes as a back end of the teacher: answers to rays, and the losses and gradients of a batch.

``supports`` says which configurations they cover where the field is; elsewhere the same is computed by PyTorch and the
separate kernels. To be fast the passes leave out what hardly counts. A trained teacher's answers then differ from
PyTorch's by less than a byte's step in colour (1/255) and by less than 0.01 in opacity, on average by a hundredth of
that; the losses of a batch agree within 0.5 % and its gradients within 5 % (norm).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from smerf.fields.grid_field import GridField
from smerf.fields.rays import Rays, Spacing
from smerf.kernels import native
from smerf.kernels.records import supports_spacing
from smerf.kernels.teacher_step import FusedField, TeacherPass, reads_half
from smerf.kernels.types import FieldGradients, FieldRays, TeacherLosses
from smerf.teacher.config import TeacherConfig
from smerf.teacher.samplers import CACHE_KEEP

__all__ = ["FusedStep", "query", "supports", "supports_training"]

# What is left out, within the tolerances above. A ray ends where less light is left, and samples of less weight have no
# colour: beyond what a photo's byte shows.
_MIN_LIGHT = 1e-3
_MIN_WEIGHT = 3e-4
# Samples without colour and with less gradient of their raw density, times the rays of the batch, pass none on.
_MIN_GRADIENT = 1e-4
# Samples in cells that the cache credits with less optical depth are empty, except a fraction in training.
_MIN_DEPTH = 1e-3
_RECHECK = 0.2


def supports(field: GridField, config: TeacherConfig, spacing: Spacing) -> bool:
    """Tell whether the native pass can answer rays with this field."""
    table = field.table
    return (
        table is not None
        and table.dtype == torch.float32
        and config.multisamples == 1
        and config.contraction == "cube"
        and not config.scale_features
        and not config.appearance
        and field.shape.directions == "spherical"
        and not field.shape.colour_skip
        and FusedField.supports(field.density_dims, field.colour_dims, spacing, config.samples, table.device)
    )


def supports_training(field: GridField, config: TeacherConfig, spacing: Spacing) -> bool:
    """Tell whether the native pass covers the losses too."""
    ladder = Spacing(spacing.near, spacing.far, False, config.distortion_power, config.distortion_scale)
    return (
        config.cache_resolution > 0
        and not config.uses_exposure_tags
        and not config.refine_cameras
        and supports_spacing(ladder)
        and supports(field, config, spacing)
    )


def _fused_field(
    field: GridField, config: TeacherConfig, spacing: Spacing, cache: Tensor | None
) -> FusedField:
    assert isinstance(field.table, Tensor) and config.scene_scale is not None
    assert isinstance(field.density_network, Tensor) and isinstance(field.colour_network, Tensor)
    return FusedField(
        field.grid,
        field.table.detach(),
        field.density_network.detach(),
        field.density_dims,
        field.colour_network.detach(),
        field.colour_dims,
        spacing,
        config.scene_scale,
        _MIN_LIGHT,
        _MIN_WEIGHT,
        cache,
        _MIN_DEPTH,
    )


def _field_rays(rays: Rays, s_edges: Tensor) -> FieldRays:
    return FieldRays(rays.origins, rays.directions, rays.radii, s_edges)


def query(
    field: GridField,
    config: TeacherConfig,
    spacing: Spacing,
    cache: Tensor | None,
    rays: Rays,
    s_edges: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return metric edges, weights and colours over black without gradient, or None where the pass doesn't apply."""
    if not supports(field, config, spacing):
        return None
    fused = _fused_field(field, config, spacing, cache)
    return fused.query(_field_rays(rays, s_edges))


class FusedStep:
    """The losses and gradients of one batch after another."""

    def __init__(self, field: GridField, config: TeacherConfig, spacing: Spacing, cache: Tensor) -> None:
        """Prepare for a field that ``supports_training`` accepts; ``cache`` is kept up to date."""
        self.cache = cache
        self._losses = TeacherLosses(
            config.charbonnier,
            config.distortion_weight,
            config.opacity_weight,
            config.distance_weight,
            near_distance=config.near_gradient * spacing.near,
            min_gradient=_MIN_GRADIENT,
        )
        self._fused = _fused_field(field, config, spacing, cache)
        table = self._fused.table
        self.half_table = table.half() if reads_half(table.device) else None
        """The table in half floats, which the passes read; the optimiser keeps it up to date."""
        self._pass = TeacherPass(config.rays, config.samples, field.grid.width, cache.shape[0], table.device)
        self._parameters = field.table, field.density_network, field.colour_network
        self._gradients = FieldGradients(
            torch.zeros_like(table),
            torch.zeros_like(self._fused.density_params),
            torch.zeros_like(self._fused.colour_params),
        )
        for tensor in (table, self.half_table, self._gradients.table, cache):
            if tensor is not None:
                native.use_large_pages(tensor)

    def losses(
        self,
        rays: Rays,
        s_edges: Tensor,
        truth: Tensor,
        background: Tensor,
        step: int,
        distances: Tensor | None = None,
    ) -> Tensor:
        """Set the gradients of the field's parameters and raise the cache.

        Args:
            rays: The rays (R); their number is the config's.
            s_edges: Ascending edges (R, S + 1) in s.
            truth: Wanted colours over ``background`` (R, 3).
            background: (R, 3).
            step: Number of the step: which samples in empty cells are evaluated depends on it.
            distances: Where rays are known to meet something (R,), 0 where that is not known.

        Returns:
            Per ray: colour loss, distortion, squared error, sum of opacities, distance (R, 5).
        """
        gradients = self._gradients
        gradients.density.zero_()
        gradients.colour.zero_()
        fused = replace(self._fused, recheck=_RECHECK, step=step, half_table=self.half_table)
        along = _field_rays(rays, s_edges)
        self._pass.run(
            fused, along, truth, background, gradients, self._losses, self.cache, CACHE_KEEP, distances
        )
        both = zip(self._parameters, (gradients.table, gradients.density, gradients.colour))
        for parameter, gradient in both:
            assert isinstance(parameter, Tensor)
            parameter.grad = gradient
        return self._pass.losses

    def restored(self) -> None:
        """Follow a table that was changed from outside."""
        if self.half_table is not None:
            self.half_table.copy_(self._fused.table)
