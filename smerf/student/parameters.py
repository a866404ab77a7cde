"""What distillation optimises: the grid values, or a hash encoding and a decoder that produce them."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from smerf.errors import UsageError
from smerf.fields.rays import Rays
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
from smerf.kernels.vertices import block_coordinates
from smerf.student.config import StudentConfig

__all__ = ["ExplicitParameters", "HashParameters", "Parameters", "make_parameters"]

_CHUNK = 262144
_PRECONDITION = 10.0
"""Tables hold a tenth of what the decoder reads: under Adam, a tenfold learning rate (SMERF, section 5.3)."""


class Parameters(Protocol):
    """Keeps the bytes of the submodels' grids in step with what is optimised."""

    def adopt(self, grids: list[Grids]) -> None:
        """Start from the bytes of new grids."""

    def provide(self, submodel: int, grids: Grids, rays: Rays, edges: Tensor) -> None:
        """Bring every vertex that rendering these intervals (R, S + 1) reads up to date."""

    def learn(self, grids: list[Grids], step: int, rate: float) -> None:
        """Take step number ``step`` (from 1) with the gradients in the grids' records, and clear them."""

    def finish(self, grids: list[Grids]) -> None:
        """Bring every stored vertex up to date."""

    def tensors(self, grids: list[Grids]) -> dict[str, Tensor]:
        """Return parameters and moments by name."""

    def restore(self, grids: list[Grids], tensors: dict[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""


def make_parameters(config: StudentConfig, submodels: int, device: torch.device | str = "cpu") -> Parameters:
    """Return new parameters of the configured form, on a device.

    Raises:
        UsageError: If the form is not known.
    """
    if config.parameterisation == "explicit":
        return ExplicitParameters()
    if config.parameterisation == "hash":
        return HashParameters(config, submodels, device)
    raise UsageError(f"student.parameterisation {config.parameterisation!r}: use explicit or hash")


class ExplicitParameters:
    """Every vertex has its own parameters, in its record; its bytes are always up to date."""

    def adopt(self, grids: list[Grids]) -> None:
        """Set the records to what the bytes stand for."""
        for one in grids:
            one.read_bytes()

    def provide(self, submodel: int, grids: Grids, rays: Rays, edges: Tensor) -> None:
        """Do nothing."""

    def learn(self, grids: list[Grids], step: int, rate: float) -> None:
        """Update the touched vertices."""
        for one in grids:
            grid_adam_(one, step=step, lr=rate)

    def finish(self, grids: list[Grids]) -> None:
        """Do nothing."""

    def tensors(self, grids: list[Grids]) -> dict[str, Tensor]:
        """Return the logits and moments of all vertices."""
        result = {}
        for k, one in enumerate(grids):
            result[f"grids.{k}.voxels"] = one.voxel_records[:, 8:]
            result[f"grids.{k}.planes"] = one.plane_records[:, 8:]
        return result

    def restore(self, grids: list[Grids], tensors: dict[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""
        for k, one in enumerate(grids):
            one.voxel_records[:, 8:] = tensors[f"grids.{k}.voxels"]
            one.plane_records[:, 8:] = tensors[f"grids.{k}.planes"]
            one.requantise()


class HashParameters:
    """A hash encoding of contracted space a submodel, and one decoder for all (SMERF, section 5).

    A step evaluates them once for every vertex that its samples read, however many samples share it.
    """

    def __init__(self, config: StudentConfig, submodels: int, device: torch.device | str = "cpu") -> None:
        self.spec, self.decay, self.clip = config.hash, config.hash_decay, config.clip
        self.shapes = VertexDecoder(config.hash, (config.hash.width, *config.decoder, 8), _PRECONDITION)
        generator = torch.Generator().manual_seed(config.seed + 4)
        shape = self.spec.entry_count, self.spec.features
        self.tables = [
            ((torch.rand(shape, generator=generator) * 2.0 - 1.0) * 1e-5).to(device) for _ in range(submodels)
        ]
        self.moments = [
            (torch.zeros(shape, device=device), torch.zeros(shape, device=device)) for _ in range(submodels)
        ]
        self.decoder = initial_params(self.shapes.dims, generator).to(device)
        self._adam = torch.optim.Adam([self.decoder], betas=(0.9, 0.99), eps=1e-15)
        self._blocks: dict[int, Tensor] = {}
        self._pending: dict[int, Vertices] = {}

    def adopt(self, grids: list[Grids]) -> None:
        """Do nothing: the bytes come from the tables."""

    def _decode(self, submodel: int, grids: Grids, voxels: Tensor, texels: Tensor) -> Vertices:
        """Evaluate the vertices in rows ``voxels`` (V,) and ``texels`` (T,)."""
        if submodel not in self._blocks:
            self._blocks[submodel] = block_coordinates(grids).int()
        vertices = Vertices(voxels, texels, self._blocks[submodel])
        decode_vertices_(grids, vertices, self.tables[submodel], self.decoder, self.shapes)
        return vertices

    def provide(self, submodel: int, grids: Grids, rays: Rays, edges: Tensor) -> None:
        """Evaluate the vertices that the samples read, and keep their numbers for ``learn``."""
        grid_mark(grids, rays.origins, rays.directions, edges)
        voxels = torch.nonzero(grids.voxel_touched).squeeze(-1)
        texels = torch.nonzero(grids.plane_touched).squeeze(-1)
        self._pending[submodel] = self._decode(submodel, grids, voxels, texels)

    def learn(self, grids: list[Grids], step: int, rate: float) -> None:
        """Carry the vertices' gradients to the tables and the decoder, and update those."""
        self.decoder.grad = torch.zeros_like(self.decoder)
        for k, vertices in self._pending.items():
            one, table = grids[k], self.tables[k]
            table.grad, of_decoder = vertex_gradients_(one, vertices, table, self.decoder, self.shapes)
            self.decoder.grad += of_decoder
            one.voxel_touched[vertices.voxels] = 0
            one.plane_touched[vertices.texels] = 0
        if self.clip > 0.0:
            torch.nn.utils.clip_grad_norm_([*self.tables, self.decoder], self.clip)
        for k in self._pending:
            self._update(self.tables[k], self.moments[k], step, rate)
        if self._pending:
            self._adam.param_groups[0]["lr"] = rate
            self._adam.step()
        self.decoder.grad = None
        self._pending.clear()

    def _update(self, table: Tensor, moments: tuple[Tensor, Tensor], step: int, rate: float) -> None:
        for offset, _, size in self.spec.levels():
            rows = slice(offset, offset + size)
            # The penalty is a mean over each level: coarse levels feel it as much as fine ones.
            sparse_adam_(
                table[rows], table.grad[rows], moments[0][rows], moments[1][rows], step=step, lr=rate,
                decay=self.decay / (size * self.spec.features),
            )  # fmt: skip
        table.grad = None

    def finish(self, grids: list[Grids]) -> None:
        """Evaluate every stored vertex."""
        for k, one in enumerate(grids):
            none = torch.zeros(0, dtype=torch.long)
            for voxels in torch.arange(len(one.voxels)).split(_CHUNK):
                self._decode(k, one, voxels, none)
            for texels in torch.arange(len(one.planes)).split(_CHUNK):
                self._decode(k, one, none, texels)

    def tensors(self, grids: list[Grids]) -> dict[str, Tensor]:
        """Return tables, decoder and their moments."""
        result = {"hash.decoder": self.decoder}
        for k, (table, moments) in enumerate(zip(self.tables, self.moments)):
            result[f"hash.{k}.table"] = table
            result[f"hash.{k}.first"], result[f"hash.{k}.second"] = moments
        for name, value in self._adam.state.get(self.decoder, {}).items():
            result[f"hash.adam.{name}"] = torch.as_tensor(value)
        return result

    def restore(self, grids: list[Grids], tensors: dict[str, Tensor]) -> None:
        """Continue from what ``tensors`` returned."""
        self.decoder.copy_(tensors["hash.decoder"])
        for k, (table, moments) in enumerate(zip(self.tables, self.moments)):
            table.copy_(tensors[f"hash.{k}.table"])
            moments[0].copy_(tensors[f"hash.{k}.first"])
            moments[1].copy_(tensors[f"hash.{k}.second"])
        prefix = "hash.adam."
        state = {
            name.removeprefix(prefix): v.to(
                "cpu" if name.endswith("step") else self.decoder.device, copy=True
            )
            for name, v in tensors.items()
            if name.startswith(prefix)
        }
        if state:
            self._adam.state[self.decoder] = state
        self._blocks.clear()
        self._pending.clear()
