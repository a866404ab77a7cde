"""The teacher's native passes behind the trainer and the model: used where the kernels are built and the sizes fit."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from smerf.fields.hash_field import RadianceField
from smerf.fields.rays import Rays, Spacing
from smerf.kernels import native
from smerf.kernels.teacher_step import FusedField, TeacherPass, reads_half

__all__ = ["FusedTrainer", "answer", "fused_field"]

# Light and weights below these are beyond what a photo's byte shows; the gradients they would carry are noise.
_MIN_LIGHT = 1e-3
_MIN_WEIGHT = 3e-4
_MIN_GRADIENT = 1e-4
_MIN_DEPTH = 1e-3
_RECHECK = 0.2


def fused_field(
    field: RadianceField,
    spacing: Spacing,
    scale: float,
    samples: int,
    cache: Tensor | None = None,
    exact: bool = False,
) -> FusedField | None:
    """Return a radiance field as the native passes read it, or None where they don't cover it."""
    if native.load_cpu() is None or field.table.device.type != "cpu" or field.table.dtype != torch.float32:
        return None
    if not spacing.linear and (spacing.power, spacing.scale) != (-1.5, 2.0):
        return None
    if not FusedField.fits(field.density_dims, field.colour_dims, samples):
        return None
    return FusedField(
        field.grid,
        field.table.detach(),
        field.density_network.detach(),
        field.density_dims,
        field.colour_network.detach(),
        field.colour_dims,
        spacing,
        scale,
        0.0 if exact else _MIN_LIGHT,
        0.0 if exact else _MIN_WEIGHT,
        cache,
        0.0 if exact else _MIN_DEPTH,
    )


def answer(
    field: RadianceField,
    spacing: Spacing,
    scale: float,
    cache: Tensor | None,
    rays: Rays,
    s_edges: Tensor,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return metric edges, weights and colours over black without gradient, or None where no kernel covers it."""
    fused = fused_field(field, spacing, scale, s_edges.shape[1] - 1, cache)
    return None if fused is None else fused.query(rays.origins, rays.directions, rays.radii, s_edges)


class FusedTrainer:
    """The gradients of a batch by native passes."""

    def __init__(
        self,
        field: RadianceField,
        spacing: Spacing,
        scale: float,
        rays: int,
        samples: int,
        cache: Tensor | None,
    ) -> None:
        fused = fused_field(field, spacing, scale, samples, cache)
        if fused is None:
            raise ValueError("field: not covered by the native passes")
        self.fused, self.field, self.cache = fused, field, cache
        self.half_table = fused.table.half() if reads_half() else None
        """The table in half floats, which the passes read; the optimiser keeps it up to date."""
        self._pass = TeacherPass(rays, samples, field.grid.width, 0 if cache is None else cache.shape[0])
        self._gradients = [
            torch.zeros_like(p) for p in (field.table, field.density_network, field.colour_network)
        ]
        for tensor in (field.table.data, self.half_table, self._gradients[0], cache):
            if tensor is not None:
                native.use_large_pages(tensor)

    def losses(
        self,
        rays: Rays,
        s_edges: Tensor,
        truth: Tensor,
        background: Tensor,
        *,
        distortion_weight: float,
        opacity_weight: float,
        near_distance: float,
        charbonnier: float,
        draw: int,
    ) -> Tensor:
        """Fill the gradients of the field's parameters; return per-ray losses (R, 4): see ``TeacherPass``."""
        table, density, colour = self._gradients
        density.zero_()
        colour.zero_()
        fused = replace(self.fused, recheck=_RECHECK, draw=draw, half_table=self.half_table)
        self._pass.run(
            fused, rays.origins, rays.directions, rays.radii, s_edges, truth, background,
            grad_table=table, grad_density=density, grad_colour=colour, cache=self.cache,
            distortion_weight=distortion_weight, opacity_weight=opacity_weight, near_distance=near_distance,
            min_gradient=_MIN_GRADIENT, charbonnier=charbonnier,
        )  # fmt: skip
        self.field.table.grad = table
        self.field.density_network.grad, self.field.colour_network.grad = density, colour
        return self._pass.losses

    def restored(self) -> None:
        """Follow a table that was changed from outside."""
        if self.half_table is not None:
            self.half_table.copy_(self.field.table.detach())

    def share_of_samples(self) -> tuple[float, float]:
        """Return which shares of the samples were followed back, and evaluated."""
        return self._pass.share_of_samples()
