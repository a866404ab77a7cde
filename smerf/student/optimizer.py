"""What distillation optimises: the grid values, or a hash encoding and a decoder that produce them.

Three back ends behind one ``step``: ``FusedOptimizer`` (explicit grids, one native call, no autograd, and half the
memory of separate records), ``ExplicitOptimizer`` (the same by separate kernels) and ``HashOptimizer``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from smerf.engine.adam_state import pack_adam, restore_adam
from smerf.kernels import (
    Grids,
    VertexDecoder,
    Vertices,
    decode_vertices_,
    grid_adam_,
    grid_mark,
    initial_params,
    sparse_adam_,
    vertex_gradients_,
)
from smerf.kernels.student_step import GridState, StudentRays, StudentStep
from smerf.kernels.types import Adam, LatticeNetworks, StudentLosses
from smerf.kernels.vertices import block_coordinates
from smerf.student.backdrop import backdrop_features
from smerf.student.config import StudentConfig
from smerf.student.losses import StepRays, StepResult, student_losses
from smerf.student.model import StudentRecord, Submodel

__all__ = ["ExplicitOptimizer", "FusedOptimizer", "GridOptimizer", "HashOptimizer", "choose_back_end"]

_CHUNK = 262144
_PRECONDITION = 10.0
"""Tables hold a tenth of what the decoder reads: under Adam, a tenfold learning rate (SMERF, section 5.3)."""
_MIN_GRADIENT = 1e-3
"""Gradient, for one ray, below which a sample teaches nothing: a ray's whole colour has some 0.1."""


class GridOptimizer(Protocol):
    """Trains the grids of one submodel."""

    has_records: bool
    """Whether the grids need records beside their bytes (``Grids.allocate``)."""

    def __init__(self, record: StudentRecord, submodel: Submodel) -> None:
        """Start from the bytes of a submodel's grids; the hash form starts from a random table."""

    def step(self, given: StepRays, number: int, lr: float) -> StepResult:
        """Take step ``number`` (from 1) on the grids, with learning rate ``lr``.

        The gradient of the appearance networks is added to their ``grad``. The losses returned have no gradient.
        """

    def complete_grids(self) -> Grids:
        """Return the grids with the bytes of every stored vertex up to date."""

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and moments by name."""

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""


def choose_back_end(config: StudentConfig, device: torch.device) -> type[GridOptimizer]:
    """Return the back end of a configuration: the fused one where it is wanted and supported."""
    if config.parameterisation == "hash":
        return HashOptimizer
    return FusedOptimizer if config.fused and FusedOptimizer.supports(config, device) else ExplicitOptimizer


def _backward(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.stack(list(losses.values())).sum().backward()
    return {name: value.detach() for name, value in losses.items()}


class ExplicitOptimizer:
    """Every vertex has its own parameters, in its record; its bytes are always up to date."""

    has_records = True

    def __init__(self, record: StudentRecord, submodel: Submodel) -> None:
        self._record, self._submodel = record, submodel
        submodel.grids.read_bytes()

    def step(self, given: StepRays, number: int, lr: float) -> StepResult:
        """Differentiate the losses, and update the touched vertices."""
        result = student_losses(self._record, self._submodel, given)
        losses = _backward(result.losses)
        grid_adam_(self._submodel.grids, step=number, lr=lr)
        return StepResult(losses, result.square, result.weights)

    def complete_grids(self) -> Grids:
        """Return the grids."""
        return self._submodel.grids

    def tensors(self) -> dict[str, Tensor]:
        """Return the logits and moments of all vertices."""
        grids = self._submodel.grids
        return {"voxels": grids.voxel_records[:, 8:], "planes": grids.plane_records[:, 8:]}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""
        grids = self._submodel.grids
        grids.voxel_records[:, 8:] = tensors["voxels"]
        grids.plane_records[:, 8:] = tensors["planes"]
        grids.requantise()


class FusedOptimizer:
    """Rendering, losses, gradients and update of explicit grids in one native call; the bytes are always up to date."""

    has_records = False

    def __init__(self, record: StudentRecord, submodel: Submodel) -> None:
        self._record, self._submodel = record, submodel
        self._state = GridState(submodel.grids)
        self._step = StudentStep()

    @staticmethod
    def supports(config: StudentConfig, device: torch.device) -> bool:
        """Return whether the fused step covers a distillation of explicit grids on a device."""
        return config.sparsity_weight == 0.0 and StudentStep.supports(config.width, device)

    def step(self, given: StepRays, number: int, lr: float) -> StepResult:
        """Take the step; gradients are means over the batch."""
        config, batch, grids = self._record.config, given.batch, self._submodel.grids
        rays = StudentRays(
            batch.rays.origins,
            batch.rays.directions,
            batch.edges,
            batch.weights,
            batch.colour,
            given.background,
            batch.log_exposure,
            given.s_edges,
            config.patch**2,
        )
        backdrop = self._record.backdrop
        params = self._submodel.appearance.rows().detach()
        gradient = torch.zeros_like(params)
        losses, weights = self._step.run(
            grids,
            self._state,
            rays,
            LatticeNetworks(params, gradient, config.width, float(self._record.partition.edge)),
            StudentLosses(
                given.tau,
                given.geometry_weight,
                config.dssim_weight,
                config.distortion_weight,
                min_gradient=_MIN_GRADIENT,
            ),
            Adam(number, lr),
            None if backdrop is None else backdrop_features(backdrop, grids.spec).to(batch.edges.device),
        )
        self._submodel.appearance.add_gradient(gradient / max(1, len(batch.rays)))
        colour, geometry, square, dssim, distortion = losses.unbind(-1)
        named = {"colour": colour, "geometry": geometry}
        if config.patch > 1:
            named["dssim"] = dssim
        if given.s_edges is not None:
            named["distortion"] = distortion
        return StepResult({name: value.mean() for name, value in named.items()}, square, weights)

    def complete_grids(self) -> Grids:
        """Return the grids."""
        return self._submodel.grids

    def tensors(self) -> dict[str, Tensor]:
        """Return the bytes, logits and moments of all vertices."""
        grids, state = self._submodel.grids, self._state
        return {
            "voxel_bytes": grids.voxels,
            "plane_bytes": grids.planes,
            "voxel_state": state.voxels,
            "plane_state": state.planes,
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""
        for name, value in self.tensors().items():
            value.copy_(tensors[name])


class HashOptimizer:
    """A hash encoding of contracted space and a decoder (SMERF, section 5).

    A step evaluates them once for every vertex that its samples read, however many samples share it.
    """

    has_records = True

    def __init__(self, record: StudentRecord, submodel: Submodel) -> None:
        self._record, self._submodel = record, submodel
        config, device = record.config, submodel.grids.voxels.device
        self.spec = config.hash
        self.shapes = VertexDecoder(config.hash, (config.hash.width, *config.decoder, 8), _PRECONDITION)
        generator = torch.Generator().manual_seed(config.seed + 4)
        shape = self.spec.entry_count, self.spec.features
        with torch.device("cpu"):
            table = (torch.rand(shape, generator=generator) * 2.0 - 1.0) * 1e-5
            decoder = initial_params(self.shapes.dims, generator)
        self.table, self.decoder = table.to(device), decoder.to(device)
        self.first, self.second = torch.zeros_like(self.table), torch.zeros_like(self.table)
        self._adam = torch.optim.Adam([self.decoder], betas=(0.9, 0.99), eps=1e-15)
        self._blocks = block_coordinates(submodel.grids).int()

    def step(self, given: StepRays, number: int, lr: float) -> StepResult:
        """Evaluate the vertices that the samples read, and carry their gradients to the table and the decoder."""
        vertices = self._evaluate(given)
        result = student_losses(self._record, self._submodel, given)
        losses = _backward(result.losses)
        self._update(vertices, number, lr)
        return StepResult(losses, result.square, result.weights)

    def _evaluate(self, given: StepRays) -> Vertices:
        """Bring the vertices that rendering reads up to date."""
        grids, batch = self._submodel.grids, given.batch
        grid_mark(grids, batch.rays.origins, batch.rays.directions, batch.edges)
        if given.sparse is not None and given.sparse_edges is not None:
            grid_mark(grids, given.sparse.origins, given.sparse.directions, given.sparse_edges)
        voxels = torch.nonzero(grids.voxel_touched).squeeze(-1)
        texels = torch.nonzero(grids.plane_touched).squeeze(-1)
        return self._decode(voxels, texels)

    def _decode(self, voxels: Tensor, texels: Tensor) -> Vertices:
        """Evaluate the vertices in rows ``voxels`` (V,) and ``texels`` (T,)."""
        vertices = Vertices(voxels, texels, self._blocks)
        decode_vertices_(self._submodel.grids, vertices, self.table, self.decoder, self.shapes)
        return vertices

    def _update(self, vertices: Vertices, number: int, lr: float) -> None:
        grids, config = self._submodel.grids, self._record.config
        self.table.grad, self.decoder.grad = vertex_gradients_(
            grids, vertices, self.table, self.decoder, self.shapes
        )
        grids.voxel_touched[vertices.voxels] = 0
        grids.plane_touched[vertices.texels] = 0
        if config.max_gradient_norm > 0.0:
            torch.nn.utils.clip_grad_norm_([self.table, self.decoder], config.max_gradient_norm)
        for offset, _, size in self.spec.levels():
            rows = slice(offset, offset + size)
            # The penalty is a mean over each level: coarse levels feel it as much as fine ones.
            sparse_adam_(
                self.table[rows], self.table.grad[rows], self.first[rows], self.second[rows], step=number, lr=lr,
                decay=config.hash_decay / (size * self.spec.features),
            )  # fmt: skip
        self._adam.param_groups[0]["lr"] = lr
        self._adam.step()
        self.table.grad = self.decoder.grad = None

    def complete_grids(self) -> Grids:
        """Evaluate every stored vertex, and return the grids."""
        grids, none = self._submodel.grids, torch.zeros(0, dtype=torch.long)
        for voxels in torch.arange(len(grids.voxels)).split(_CHUNK):
            self._decode(voxels, none)
        for texels in torch.arange(len(grids.planes)).split(_CHUNK):
            self._decode(none, texels)
        return grids

    def tensors(self) -> dict[str, Tensor]:
        """Return table, decoder and their moments."""
        named = {"table": self.table, "first": self.first, "second": self.second, "decoder": self.decoder}
        return named | pack_adam("adam", self._adam, [self.decoder])

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""
        for name in ("table", "first", "second", "decoder"):
            getattr(self, name).copy_(tensors[name])
        restore_adam("adam", self._adam, [self.decoder], tensors)
