"""Turning one submodel's grids into the arrays of the asset format (SMERF, arXiv 2312.07541, section 7)."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_closing, binary_dilation

from smerf.kernels import Grids, block_samples, distance_grid
from smerf.kernels.grid_render import BLOCK
from smerf.scene.grids import build_atlas, max_pool, pack_bits
from smerf.scene.types import BakedSubmodel
from smerf.student.backdrop import backdrop_blocks
from smerf.student.visibility import CELL_TEXELS, OccupiedCells

__all__ = ["bake_submodel", "gather_blocks", "serving_blocks", "used_texels"]


def serving_blocks(occupied: np.ndarray, voxels: int, block: int = BLOCK) -> np.ndarray:
    """Return the macroblocks (B, B, B) bool that serve an occupied cell.

    Blocks are sample-centred and cells are not: a cell at a block's border is served by the block below too.

    Args:
        occupied: Cells (N, N, N) bool.
        voxels: Voxels per axis, of the whole grid.
        block: Voxels per axis, of a block.
    """
    ratio, blocks = voxels / occupied.shape[0], voxels // block
    result = np.zeros((blocks,) * 3, bool)
    cells = np.argwhere(occupied)
    low = np.floor((cells * ratio - 0.5) / block).astype(int).clip(0, blocks - 1)
    high = np.floor(((cells + 1) * ratio - 0.5 - 1e-6) / block).astype(int).clip(0, blocks - 1)
    for corner in np.ndindex(2, 2, 2):
        result[tuple(np.where(np.array(corner, bool), high, low).T)] = True
    return result


def gather_blocks(grids: Grids, coords: np.ndarray) -> np.ndarray:
    """Return the samples (n, 9, 9, 9, 8) of macroblocks (n, 3): own voxels and the next first layers."""
    return block_samples(grids, torch.from_numpy(coords.astype(np.int32))).numpy()


def used_texels(blocks: np.ndarray, plane_resolution: int) -> np.ndarray:
    """Return which texels (3, T, T) bool lie in the shadow of a macroblock, its apron included."""
    size = blocks.shape[0]
    width = plane_resolution // size
    margin = -(-width // BLOCK) + 1
    result = np.zeros((3, plane_resolution, plane_resolution), bool)
    for axis in range(3):
        shadow = blocks.any(axis).repeat(width, 0).repeat(width, 1)
        result[axis] = binary_dilation(shadow, np.ones((2 * margin + 1, 2 * margin + 1)))
    return result


def bake_submodel(
    grids: Grids,
    alive: OccupiedCells,
    region: int,
    dilation: int,
    backdrop: tuple[float, float, float] | None = None,
    keep: np.ndarray | None = None,
    confirmed: np.ndarray | None = None,
) -> BakedSubmodel:
    """Bake the quantised grids of a region's submodel.

    Args:
        grids: The grids, in main memory.
        alive: Visible cells, which are occupied, and surface cells.
        region: Linear index of the region.
        dilation: Cells by which surfaces are grown; what they cover is occupied too.
        backdrop: Colour of a shell around the scene, if it has one.
        keep: Voxel blocks (B, B, B) bool that may be used; ``None`` means all.
        confirmed: Cells of any grid (N, N, N) bool that enough photos see; others hold nothing. ``None`` means all.
    """
    spec = grids.spec
    occupied = alive.grid().copy()
    if dilation:
        occupied |= binary_dilation(alive.surface(), np.ones((3, 3, 3)), iterations=dilation)
    if confirmed is not None:
        occupied &= _stretched(confirmed, len(occupied))
    kept = grids.block_index.numpy() >= 0
    if keep is not None:
        kept &= keep
    blocks = serving_blocks(occupied, spec.voxel_resolution) & kept
    coords = np.argwhere(blocks)
    samples = gather_blocks(grids, coords)
    resolution = spec.plane_resolution
    planes = grids.planes.numpy().reshape(3, resolution, resolution, 8).copy()
    # The shell lets a little of every texel through: those that no content reads stay neutral for it.
    planes[~used_texels(blocks, resolution)] = 0 if backdrop is None else 128
    # A cell without data renders nothing: leaving it empty lets rays pass it quickly.
    cell_blocks = (np.arange(occupied.shape[0]) * (spec.voxel_resolution / occupied.shape[0]) / BLOCK).astype(
        int
    )
    occupied &= _near(kept)[np.ix_(cell_blocks, cell_blocks, cell_blocks)]
    if backdrop is not None:
        shell, shell_samples = backdrop_blocks(backdrop, spec)
        coords, samples = np.concatenate([coords, shell]), np.concatenate([samples, shell_samples])
        for axis in range(3):
            np.moveaxis(occupied, axis, 0)[[0, -1]] = True
    atlas, block_indices = build_atlas(samples, coords, spec.blocks)
    assert occupied.shape[0] * CELL_TEXELS == resolution
    return BakedSubmodel(
        index=region,
        atlas=atlas,
        block_indices=block_indices,
        planes=planes,
        occupancy={8: pack_bits(occupied)},
        distance={8: distance_grid(torch.from_numpy(max_pool(occupied, 2))).numpy()},
        solid=None if confirmed is None else pack_bits(_solid(alive.surface(), confirmed)),
    )


def _stretched(cells: np.ndarray, size: int) -> np.ndarray:
    """Return a grid with ``size`` cells per axis that reads the nearest of ``cells``."""
    cell = np.arange(size) * len(cells) // size
    return np.asarray(cells[np.ix_(cell, cell, cell)])


def _solid(surface: np.ndarray, confirmed: np.ndarray) -> np.ndarray:
    """Return what stops a visitor: surfaces that photos confirm, with gaps of a cell or two closed."""
    kept = surface & _stretched(confirmed, len(surface))
    return np.asarray(kept | binary_closing(kept, np.ones((3, 3, 3))))


def _near(blocks: np.ndarray) -> np.ndarray:
    """Grow blocks towards higher indices by one: cells just above a block's border are served by it."""
    grown = blocks.copy()
    for axis in range(3):
        shifted = np.roll(grown, 1, axis)
        shifted[tuple(slice(0, 1) if a == axis else slice(None) for a in range(3))] = False
        grown |= shifted
    return grown
