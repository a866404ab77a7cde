"""Contracted and training space, and the start of the student's grids from the teacher."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor

from smerf.kernels import Grids, GridSpec
from smerf.kernels.reference.contraction import contract, uncontract
from smerf.kernels.types import BLOCK
from smerf.kernels.vertices import block_coordinates, voxel_positions
from smerf.student.ray_pool import TeacherBatch
from smerf.teacher.model import PointTeacher

__all__ = ["initialise_from_rays", "initialise_from_teacher", "to_contracted", "to_training", "voxel_of"]

_CHUNK = 262144
_MIN_LIGHT, _MAX_ALPHA = 0.05, 0.999
_REACH, _AHEAD = 3, 0.5
"""Voxels behind one with something in it that are given the same where no ray tested them, and the least cosine to its
rays' heading."""


def to_contracted(points: Tensor, spec: GridSpec) -> Tensor:
    """Take points (N, 3) of training space to contracted space on viewer axes."""
    local = (points - torch.tensor(spec.centre, dtype=points.dtype, device=points.device)) * spec.scale
    return contract(torch.stack([-local[:, 0], local[:, 2], local[:, 1]], -1))


def to_training(points: Tensor, spec: GridSpec) -> Tensor:
    """Take contracted points (N, 3) on viewer axes to training space."""
    local = uncontract(points)
    local = torch.stack([-local[:, 0], local[:, 2], local[:, 1]], -1)
    return local / spec.scale + torch.tensor(spec.centre, dtype=points.dtype, device=points.device)


def voxel_of(points: Tensor, spec: GridSpec) -> Tensor:
    """Return the flat index (N,) of the voxel that holds each contracted point (N, 3)."""
    size = spec.voxel_resolution
    cells = ((points + 2.0) / 4.0 * size).long().clamp(0, size - 1)
    return (cells[:, 0] * size + cells[:, 1]) * size + cells[:, 2]


def _bytes_of(value: Tensor, low: float, high: float) -> Tensor:
    return torch.round(255.0 * (value - low) / (high - low)).clamp(0.0, 255.0).to(torch.uint8)


def initialise_from_teacher(
    grids: Grids,
    teacher: PointTeacher,
    centres: Tensor,
    gate: float,
    generator: torch.Generator,
    near: Tensor | None = None,
    factors: Tensor | float = 1.0,
) -> None:
    """Set the bytes of the voxels to the teacher's density and colour, view features to zero and planes to neutral.

    ``centres`` (N, 3) are the training cameras: each voxel's colour is the one that a random camera sees.
    ``near`` (R^3,) bool says where the teacher's density counts: elsewhere no ray has tested it, and the voxels
    start empty. ``factors`` (3,) multiply the colours.
    """
    spec = grids.spec
    blocks, count = block_coordinates(grids), len(grids.voxels)
    for start in range(0, count, _CHUNK):
        rows = slice(start, min(count, start + _CHUNK))
        positions = voxel_positions(spec, blocks, torch.arange(rows.start, rows.stop, device=blocks.device))
        points = to_training(positions, spec)
        density = torch.log(teacher.density(points).clamp_min(1e-9)) + 1.0
        eyes = centres[torch.randint(len(centres), (len(points),), generator=generator)]
        towards = points - eyes
        colour = (
            teacher.colour(points, towards / towards.norm(dim=-1, keepdim=True).clamp_min(1e-9)) * factors
        )
        if near is not None:
            density[~near[voxel_of(positions, spec)]] = -torch.inf
        _set_voxels(grids, rows, density, colour, gate)


def _set_voxels(grids: Grids, rows: slice, density: Tensor, colour: Tensor, gate: float) -> None:
    """Set the bytes of voxels to log densities (V,), colours (V, 3) and a gate."""
    values, spec = grids.voxels[rows], grids.spec
    values[:, 0] = _bytes_of(density, *spec.density_range)
    values[:, 1:4] = _bytes_of(torch.logit(colour.clamp(1e-3, 1.0 - 1e-3)), *spec.feature_range)
    values[:, 7] = _bytes_of(torch.tensor(gate), *spec.feature_range)


def initialise_from_rays(
    grids: Grids, batches: Iterable[TeacherBatch], gate: float, *, closes_holes: bool = False
) -> None:
    """Set the bytes of the voxels to what rays met in them, as ``initialise_from_teacher`` does for a teacher that
    answers rays alone.

    A voxel's density is the optical depth over the length of intervals, its colour the mean of their rays' colours.
    Voxels that no ray tested start empty, or with ``closes_holes`` as the voxels in front of them: right where rays
    also test the space close to surfaces.
    """
    sums = _Sums(grids)
    for batch in batches:
        sums.add(batch)
    if closes_holes:
        sums.spread()
    for start in range(0, len(grids.voxels), _CHUNK):
        rows = slice(start, min(len(grids.voxels), start + _CHUNK))
        density = torch.log((sums.depth[rows] / sums.length[rows].clamp_min(1e-12)).clamp_min(1e-9)) + 1.0
        mean = sums.colour[rows] / sums.weight[rows, None].clamp_min(1e-12)
        _set_voxels(grids, rows, density.float(), mean.float(), gate)


class _Sums:
    """What intervals of rays add to the stored voxels.

    ``depth``, ``length`` and ``weight`` (V,) are of the optical depth, the metric length and the weight of intervals;
    ``colour`` and ``heading`` (V, 3), times the weight, of their rays' colours and directions in contracted space.
    """

    def __init__(self, grids: Grids) -> None:
        count = len(grids.voxels)
        self._grids = grids
        self.depth, self.length, self.weight = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
        self.colour, self.heading = (torch.zeros(count, 3, dtype=torch.float64) for _ in range(2))

    def add(self, batch: TeacherBatch) -> None:
        """Add the intervals of rays that some light reaches.

        An interval with weight counts in the eight voxels that are mixed at its middle, so that a thin surface is met
        although it lies between voxels; an empty one in the voxel that holds it.
        """
        before = torch.cat([torch.zeros_like(batch.weights[:, :1]), batch.weights.cumsum(-1)[:, :-1]], -1)
        rows, columns = torch.nonzero(1.0 - before > _MIN_LIGHT, as_tuple=True)
        weights, light = batch.weights[rows, columns], 1.0 - before[rows, columns]
        start, stop = batch.edges[rows, columns], batch.edges[rows, columns + 1]
        width = (stop - start).double()
        empty = weights <= 0.0
        place = self._place(batch, rows[empty], 0.5 * (start + stop)[empty])
        self._put(torch.floor(place + 0.5).long(), ((self.length, width[empty]),))
        met = ~empty
        rows, start, stop = rows[met], start[met], stop[met]
        optical = -torch.log1p(-(weights[met] / light[met]).clamp(0.0, _MAX_ALPHA)).double()
        seen = (batch.colour / batch.weights.sum(-1, keepdim=True).clamp_min(1e-6))[rows]
        place = self._place(batch, rows, 0.5 * (start + stop))
        along = self._place(batch, rows, stop) - self._place(batch, rows, start)
        along = torch.nn.functional.normalize(along, dim=-1)
        for corner in itertools.product((0, 1), repeat=3):
            cells = torch.floor(place).long() + torch.tensor(corner)
            share = (1.0 - (place - cells).abs()).clamp_min(0.0).prod(-1).double()
            ours = share * weights[met]
            self._put(
                cells,
                (
                    (self.depth, share * optical),
                    (self.length, share * width[met]),
                    (self.weight, ours),
                    (self.colour, ours[:, None] * seen),
                    (self.heading, ours[:, None] * along),
                ),
            )

    def spread(self) -> None:
        """Give voxels behind those with something in them the same, where no ray tested them.

        Few rays pass where few photos look, and a surface would have holes there that no step closes: what starts
        empty learns nothing.
        """
        blocks, every = block_coordinates(self._grids), BLOCK**3
        front = torch.nonzero(self.weight > 0.0)[:, 0]
        for _ in range(_REACH):
            local = front % every
            place = torch.stack([local // BLOCK**2, local // BLOCK % BLOCK, local % BLOCK], -1)
            cells, reached = blocks[front // every].to(place) * BLOCK + place, []
            untested = self.length <= 0.0
            heading = torch.nn.functional.normalize(self.heading[front], dim=-1)
            for offset in itertools.product((-1, 0, 1), repeat=3):
                step = torch.tensor(offset)
                rows = _stored_row(self._grids, cells + step)
                ahead = heading @ torch.nn.functional.normalize(step.double(), dim=0) > _AHEAD
                takes = (rows >= 0) & untested[rows.clamp_min(0)] & ahead
                rows, source = rows[takes], front[takes]
                for each in (self.depth, self.length, self.weight, self.colour, self.heading):
                    each.index_add_(0, rows, each[source])
                reached.append(rows)
            front = torch.cat(reached).unique()

    def _place(self, batch: TeacherBatch, rows: Tensor, t: Tensor) -> Tensor:
        """Return points (N, 3) at distances t (N,) along the rays ``rows``, in voxels."""
        points = batch.rays.origins[rows] + t[:, None] * batch.rays.directions[rows]
        spec = self._grids.spec
        return _voxel_units(to_contracted(points, spec), spec)

    def _put(self, cells: Tensor, values: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Add values (N,) or (N, 3) to sums in the voxels at cells (N, 3), where they are stored."""
        rows = _stored_row(self._grids, cells)
        held = rows >= 0
        for total, value in values:
            total.index_add_(0, rows[held], value[held])


def _voxel_units(points: Tensor, spec: GridSpec) -> Tensor:
    """Return contracted points (N, 3) in voxels: the middle of the first voxel is 0."""
    return (points + 2.0) / 4.0 * spec.voxel_resolution - 0.5


def _stored_row(grids: Grids, cells: Tensor) -> Tensor:
    """Return the storage row (N,) of voxels at cells (N, 3), -1 where none is stored."""
    size = grids.spec.voxel_resolution
    inside = ((cells >= 0) & (cells < size)).all(-1)
    cells = cells.clamp(0, size - 1)
    block, local = cells // BLOCK, cells % BLOCK
    number = grids.block_index[block[:, 0], block[:, 1], block[:, 2]].long()
    row = number * BLOCK**3 + (local[:, 0] * BLOCK + local[:, 1]) * BLOCK + local[:, 2]
    return torch.where((number < 0) | ~inside, -1, row)
