"""Contracted and training space, and the start of the student's grids from the teacher."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import Grids, GridSpec
from smerf.kernels.reference.contraction import contract, uncontract
from smerf.kernels.vertices import block_coordinates, voxel_positions
from smerf.teacher.model import Teacher

__all__ = ["initialise_from_teacher", "to_contracted", "to_training", "voxel_of"]

_CHUNK = 262144


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
    teacher: Teacher,
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
        values = grids.voxels[rows]
        values[:, 0] = _bytes_of(density, *spec.density_range)
        values[:, 1:4] = _bytes_of(torch.logit(colour.clamp(1e-3, 1.0 - 1e-3)), *spec.feature_range)
        values[:, 7] = _bytes_of(torch.tensor(gate), *spec.feature_range)
