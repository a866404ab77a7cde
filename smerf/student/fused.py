"""Distilling explicit grids with the fused native step: no autograd, and half the memory of separate records."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.kernels import Grids
from smerf.kernels.student_step import GridState, StudentRays, StudentStep
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
            and config.patch == 1
            and config.distortion_weight == 0.0
            and StudentStep.fits(config.width, device)
        )

    def adopt(self, grids: list[Grids]) -> None:
        """Start from the bytes of new grids."""
        self._states = [GridState(one) for one in grids]

    def advance(
        self, student: Student, batch: TeacherBatch, background: Tensor,
        shown: tuple[Rays, Tensor, Tensor] | None = None, *, step: int, rate: float, tau: float,
        geometry_weight: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Take step number ``step`` (from 1) of the student's one submodel.

        ``shown`` are N rays, interval ends and colours (N, 3) of finished neighbours, compared beside the batch's R.
        The gradient of the appearance networks, a mean over the batch, is left in their ``grad``.

        Returns:
            Losses (R + N, 3), colour, geometry and mean squared error, and rendered weights (R + N, S).
        """
        grids, count = student.grids[0], len(batch.rays)
        given = StudentRays(
            batch.rays.origins, batch.rays.directions, batch.edges, batch.weights, batch.colour, background
        )
        if shown:
            given = _beside(given, student, *shown)
        backdrop = None if student.backdrop is None else backdrop_features(student.backdrop, grids.spec)
        params = student.appearance.rows(0)
        gradient = torch.zeros_like(params)
        losses, weights = self._step.run(
            grids, self._states[0], given, params, gradient, width=student.config.width,
            lattice_scale=float(student.partition.edge), step=step, lr=rate, tau=tau,
            geometry_weight=geometry_weight, backdrop=backdrop, least_gradient=_LEAST_GRADIENT,
        )  # fmt: skip
        student.appearance.add_gradient(0, gradient / max(1, count))
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


def _beside(given: StudentRays, student: Student, rays: Rays, edges: Tensor, truth: Tensor) -> StudentRays:
    """Return a batch and, behind it, rays of finished neighbours, whose colour alone counts."""
    config, shape = student.config, (len(rays), edges.shape[1] - 1)
    # An opaque teacher: its colour is the truth, over whatever background.
    opaque = torch.zeros(shape)
    opaque[:, 0] = 1.0
    own, theirs = torch.ones(len(given.edges), 2), torch.zeros(shape[0], 2)
    theirs[:, 0] = config.consistency_weight * len(given.edges) / max(1, shape[0])
    behind = torch.tensor(student.background).expand(shape[0], 3)
    parts = (rays.origins, rays.directions, edges, opaque, truth, behind)
    names = ("origins", "directions", "edges", "weights", "colour", "background")
    joined = [torch.cat([getattr(given, name), part]) for name, part in zip(names, parts)]
    return StudentRays(*joined, emphasis=torch.cat([own, theirs]))
