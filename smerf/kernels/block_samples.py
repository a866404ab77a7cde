"""The samples of an atlas, from the grids: the face of ``cuda/include/smerf/block_samples.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.records import grid_view
from smerf.kernels.reference import block_samples as reference
from smerf.kernels.types import BLOCK, Grids

__all__ = ["block_samples"]


def block_samples(grids: Grids, coords: Tensor) -> Tensor:
    """Return the samples of macroblocks: their own voxels and the first layers of the next blocks.

    Args:
        grids: The quantised grids.
        coords: (N, 3) int32, macroblocks on viewer axes, each in [0, blocks), on the grids' device.

    Returns:
        (N, 9, 9, 9, 8) uint8, indexed [x, y, z, channel]. Absent voxels have no density and features next to
        zero; beyond the last block the last layer is repeated.

    Raises:
        ValueError: If a shape, dtype or device is not as stated, or a block lies outside the grid.
    """
    native.check("coords", coords, torch.int32, (None, 3), grids.voxels.device)
    if len(coords) and not 0 <= int(coords.min()) <= int(coords.max()) < grids.spec.blocks:
        raise ValueError(f"coords: expected blocks in 0 .. {grids.spec.blocks - 1}")
    backend = native.backend(coords, "smerf_block_samples")
    if backend is None:
        return reference.block_samples(grids, coords)
    coords, edge = coords.contiguous(), BLOCK + 1
    result = torch.empty(len(coords), edge, edge, edge, 8, dtype=torch.uint8, device=coords.device)
    backend.call(
        "smerf_block_samples", grid_view(grids), coords, len(coords),
        result,
    )  # fmt: skip
    return result
