"""Starting the student's grids from the teacher: which voxel blocks exist, and what their values are."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from torch import Tensor

from smerf.kernels import Grids, GridSpec
from smerf.kernels.grid_render import BLOCK
from smerf.kernels.reference.contraction import contract, uncontract
from smerf.kernels.vertices import block_coordinates, voxel_positions
from smerf.student.teacher_rays import TeacherBatch
from smerf.teacher.model import Teacher

__all__ = ["VoxelVotes", "initialise_from_teacher", "to_contracted", "to_training"]

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


class VoxelVotes:
    """Collects which voxels of a submodel lie where a teacher ray saw something."""

    def __init__(self, spec: GridSpec, threshold: float) -> None:
        self.spec, self.threshold = spec, threshold
        self._seen = torch.zeros(spec.voxel_resolution**3, dtype=torch.bool)

    def add(self, batch: TeacherBatch) -> None:
        """Mark the samples of teacher rays whose weight exceeds the threshold."""
        middle = 0.5 * (batch.edges[:, 1:] + batch.edges[:, :-1])
        rows, columns = torch.nonzero(batch.weights > self.threshold, as_tuple=True)
        points = batch.rays.origins[rows] + middle[rows, columns, None] * batch.rays.directions[rows]
        self._seen[_voxel_of(to_contracted(points, self.spec), self.spec)] = True

    def near(self, reach: int) -> Tensor:
        """Return which voxels (R^3,) bool are at most ``reach`` voxels away from a seen one."""
        size = self.spec.voxel_resolution
        seen = self._seen.view(size, size, size).cpu().numpy().view(np.uint8)
        near = maximum_filter(seen, 2 * reach + 1, mode="constant").astype(bool).reshape(-1)
        return torch.from_numpy(near).to(self._seen.device)

    def block_index(self, reach: int, shell: bool = False) -> Tensor:
        """Number the blocks that hold a voxel near a seen one: (B, B, B) int32, -1 elsewhere.

        ``shell`` says whether the outermost blocks count.
        """
        size = self.spec.blocks
        alive = self.near(reach).view(size, BLOCK, size, BLOCK, size, BLOCK)
        alive = alive.any(5).any(3).any(1).cpu().numpy()
        if not shell:
            # It reaches to infinity: the least density there would draw a wall.
            alive[[0, -1]] = alive[:, [0, -1]] = alive[:, :, [0, -1]] = False
        index = np.full((size, size, size), -1, np.int32)
        index[alive] = np.arange(alive.sum(), dtype=np.int32)
        return torch.from_numpy(index).to(self._seen.device)


def _voxel_of(points: Tensor, spec: GridSpec) -> Tensor:
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
            density[~near[_voxel_of(positions, spec)]] = -torch.inf
        values = grids.voxels[rows]
        values[:, 0] = _bytes_of(density, *spec.density_range)
        values[:, 1:4] = _bytes_of(torch.logit(colour.clamp(1e-3, 1.0 - 1e-3)), *spec.feature_range)
        values[:, 7] = _bytes_of(torch.tensor(gate), *spec.feature_range)
