"""Where the stored vertices of a submodel's grids lie in contracted space, on viewer axes."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels.types import BLOCK, Grids, GridSpec

__all__ = ["block_coordinates", "texel_positions", "voxel_positions"]


def block_coordinates(grids: Grids) -> Tensor:
    """Return the coordinates (N, 3) of the voxel blocks, in the order of their numbers."""
    blocks = torch.nonzero(grids.block_index >= 0)
    return blocks[grids.block_index[tuple(blocks.T)].long().argsort()]


def voxel_positions(spec: GridSpec, blocks: Tensor, rows: Tensor | None = None) -> Tensor:
    """Return the positions (V, 3) of stored voxels.

    ``blocks`` (N, 3) are the block coordinates, ``rows`` (V,) the voxels' storage rows; all if not given.
    """
    if rows is None:
        rows = torch.arange(len(blocks) * BLOCK**3, device=blocks.device)
    inside = torch.stack([rows // BLOCK**2 % BLOCK, rows // BLOCK % BLOCK, rows % BLOCK], -1)
    cells = blocks[rows // BLOCK**3] * BLOCK + inside
    return (cells.float() + 0.5) * (4.0 / spec.voxel_resolution) - 2.0


def texel_positions(spec: GridSpec, rows: Tensor) -> Tensor:
    """Return the positions (V, 3) of texels, given by storage row (V,).

    A plane is the slice at index 0 of the axis that it lacks (SMERF, arXiv 2312.07541, section 5).
    """
    size = spec.plane_resolution
    plane, first, second = rows // size**2, rows // size % size, rows % size
    zero = torch.zeros_like(rows)
    x = torch.where(plane == 0, zero, first)
    y = torch.where(plane == 0, first, torch.where(plane == 1, zero, second))
    z = torch.where(plane == 2, zero, second)
    return (torch.stack([x, y, z], -1).float() + 0.5) * spec.step - 2.0
