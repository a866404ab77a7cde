"""Distilling explicit grids with the fused native step: no autograd, and half the memory of separate records."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.kernels import Grids
from smerf.kernels.student_step import GridState, StudentRays, StudentStep
from smerf.kernels.types import Adam, LatticeNetworks, StudentLosses
from smerf.student.backdrop import backdrop_features
from smerf.student.config import StudentConfig
from smerf.student.model import Student
from smerf.student.teacher_rays import TeacherBatch

__all__ = ["FusedParameters"]

_LEAST_GRADIENT = 1e-3
"""Gradient, for one ray, below which a sample teaches nothing: a ray's whole colour has some 0.1."""


class FusedParameters:
    """The vertices' logits and moments, and the step that updates them; their bytes are always up to date."""

    def __init__(self) -> None:
        self._states: list[GridState] = []
        self._step = StudentStep()

    @staticmethod
    def fit(config: StudentConfig, device: torch.device) -> bool:
        """Tell whether the fused step covers this distillation."""
        return (
            config.parameterisation == "explicit"
            and config.sparsity_weight == 0.0
            and StudentStep.supports(config.width, device)
        )

    def adopt(self, grids: list[Grids]) -> None:
        """Start from the bytes of new grids."""
        self._states = [GridState(one) for one in grids]

    def advance(
        self, student: Student, batch: TeacherBatch, background: Tensor, *, step: int, rate: float, tau: float,
        geometry_weight: float, s_edges: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Take step number ``step`` (from 1) of the student's one submodel, with the losses of its configuration.

        The gradient of the appearance networks, a mean over the batch, is left in their ``grad``. ``s_edges``
        (R, S + 1) are the batch's interval ends in normalised distance, which the distortion loss needs.

        Returns:
            Losses (R, 5), those of ``StudentStep.run``, and rendered weights (R, S).
        """
        grids, config = student.grids[0], student.config
        given = StudentRays(
            batch.rays.origins,
            batch.rays.directions,
            batch.edges,
            batch.weights,
            batch.colour,
            background,
            batch.log_exposure,
            s_edges,
            config.patch**2,
        )
        backdrop = None if student.backdrop is None else backdrop_features(student.backdrop, grids.spec)
        params = student.appearance.rows(0).detach()
        gradient = torch.zeros_like(params)
        losses, weights = self._step.run(
            grids, self._states[0], given,
            LatticeNetworks(params, gradient, config.width, float(student.partition.edge)),
            StudentLosses(
                tau, geometry_weight, config.dssim_weight, config.distortion_weight, min_gradient=_LEAST_GRADIENT
            ),
            Adam(step, rate), backdrop,
        )  # fmt: skip
        student.appearance.add_gradient(0, gradient / max(1, len(batch.rays)))
        return losses, weights

    def provide(self, submodel: int, grids: Grids, rays: Rays, edges: Tensor) -> None:
        """Do nothing."""

    def learn(self, grids: list[Grids], step: int, rate: float) -> None:
        """Do nothing: ``advance`` has learnt."""

    def finish(self, grids: list[Grids]) -> None:
        """Do nothing."""

    def tensors(self, grids: list[Grids]) -> dict[str, Tensor]:
        """Return the logits and moments of all vertices."""
        result = {}
        for k, (one, state) in enumerate(zip(grids, self._states)):
            result[f"grids.{k}.voxel_bytes"], result[f"grids.{k}.plane_bytes"] = one.voxels, one.planes
            result[f"grids.{k}.voxel_state"], result[f"grids.{k}.plane_state"] = state.voxels, state.planes
        return result

    def restore(self, grids: list[Grids], tensors: dict[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""
        for k, one in enumerate(grids):
            one.voxels.copy_(tensors[f"grids.{k}.voxel_bytes"])
            one.planes.copy_(tensors[f"grids.{k}.plane_bytes"])
        self.adopt(grids)
        for k, state in enumerate(self._states):
            state.voxels.copy_(tensors[f"grids.{k}.voxel_state"])
            state.planes.copy_(tensors[f"grids.{k}.plane_state"])
