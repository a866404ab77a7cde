"""The small grids of a baked submodel: occupancy bits, distance to content, macroblock packing.

All arrays are on viewer axes, indexed [x, y, z]. Letters: N cells per axis, B data block size, S sparse
resolution.
"""

from __future__ import annotations

import hashlib

import numpy as np

__all__ = ["atlas_slots", "build_atlas", "distance_grid", "max_pool", "pack_bits", "unpack_bits"]

_MAX_SLOTS = 254
"""Slot numbers are bytes and 255 means empty; the official exporter stays below 255 slots per axis."""

_MAX_ATLAS_EDGE = 2048
"""Largest 3-D texture edge that every WebGL2 device offers."""

_ATLAS_WASTE = 0.03
"""Fraction of unused slots that is accepted for an atlas without extremely long edges."""


def max_pool(occupied: np.ndarray, factor: int) -> np.ndarray:
    """Pool bool (N, N, N) by ``factor`` with "any": (ceil(N/factor),) * 3 bool. A ragged border counts as
    empty.
    """
    if factor == 1:
        return occupied.astype(bool)
    cells = [-(-size // factor) for size in occupied.shape]
    pads = [(0, cell * factor - size) for cell, size in zip(cells, occupied.shape)]
    padded = np.pad(occupied.astype(bool), pads) if any(pad[1] for pad in pads) else occupied.astype(bool)
    # One axis at a time: a single seven-dimensional reduction is many times slower.
    pooled = padded.reshape(padded.shape[0], padded.shape[1], cells[2], factor).any(-1)
    pooled = pooled.reshape(padded.shape[0], cells[1], factor, cells[2]).any(2)
    return np.asarray(pooled.reshape(cells[0], factor, cells[1], cells[2]).any(1))


def pack_bits(occupied: np.ndarray) -> np.ndarray:
    """Pack bool (2N, 2N, 2N) into (N, N, N) uint8: child (dx, dy, dz) of a cell is bit 4dx + 2dy + dz."""
    if any(size % 2 for size in occupied.shape):
        raise ValueError(f"occupied: expected even sizes, got {occupied.shape}")
    occupied = occupied.astype(bool)
    packed = np.zeros([size // 2 for size in occupied.shape], np.uint8)
    for dx, dy, dz in np.ndindex(2, 2, 2):
        packed |= occupied[dx::2, dy::2, dz::2].astype(np.uint8) << np.uint8(4 * dx + 2 * dy + dz)
    return packed


def unpack_bits(packed: np.ndarray) -> np.ndarray:
    """Undo ``pack_bits``: (N, N, N) uint8 to (2N, 2N, 2N) bool."""
    occupied = np.zeros([size * 2 for size in packed.shape], bool)
    for dx, dy, dz in np.ndindex(2, 2, 2):
        occupied[dx::2, dy::2, dz::2] = (packed >> np.uint8(4 * dx + 2 * dy + dz)) & 1
    return occupied


def distance_grid(occupied: np.ndarray) -> np.ndarray:
    """Return for every cell how many cells a ray may skip: uint8, same shape as bool ``occupied``.

    The value is max(0, chessboard distance to the nearest occupied cell - 1), at most min(255, N): occupied
    cells and their 26 neighbours hold 0, and a grid without any occupied cell holds min(255, N) everywhere.
    """
    from scipy.ndimage import distance_transform_cdt

    limit = min(255, max(occupied.shape))
    if not occupied.any():
        return np.full(occupied.shape, limit, np.uint8)
    distance = distance_transform_cdt(~occupied.astype(bool), metric="chessboard")
    return np.clip(distance - 1, 0, limit).astype(np.uint8)


def _slots_per_axis(count: int, edge: int) -> tuple[int, int, int]:
    """Choose ax >= ay >= az with room for ``count`` blocks: nearly the smallest volume, and of those the most
    compact.
    """
    max_slots = min(_MAX_SLOTS, _MAX_ATLAS_EDGE // edge)
    if count > max_slots**3:
        raise ValueError(
            f"blocks: {count} do not fit an atlas of at most {max_slots}^3 slots; bake with fewer"
        )
    ax, ay = np.meshgrid(np.arange(1, max_slots + 1), np.arange(1, max_slots + 1), indexing="ij")
    az = -(-count // (ax * ay))
    is_sorted = (ax >= ay) & (ay >= az)
    shapes = np.stack([ax, ay, az], -1)[is_sorted]
    volume = shapes.prod(-1)
    shapes = shapes[volume <= volume.min() * (1.0 + _ATLAS_WASTE)]
    best = shapes[np.lexsort((shapes.prod(-1), shapes.sum(-1)))[0]]
    return int(best[0]), int(best[1]), int(best[2])


def _assign_slots(blocks: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the slot number (n,) of the blocks in ``order`` (n,), and which block fills each slot.

    Equal blocks share a slot.
    """
    slots: dict[bytes, int] = {}
    numbers = np.empty(len(order), np.int64)
    for i, source in enumerate(order):
        digest = hashlib.blake2b(blocks[source].tobytes(), digest_size=16).digest()
        numbers[i] = slots.setdefault(digest, len(slots))
    first = np.unique(numbers, return_index=True)[1]
    return numbers, order[first]


def build_atlas(blocks: np.ndarray, coords: np.ndarray, grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Pack macroblocks into one 3-D texture and index them.

    Args:
        blocks: (n, B+1, B+1, B+1, 8) uint8, samples indexed [x, y, z, channel] on viewer axes.
        coords: (n, 3) integer, macroblock coordinates on viewer axes, each in [0, grid).
        grid: macroblocks per axis, S / B.

    Returns:
        atlas (W, H, D, 8) uint8 with edges that are multiples of B+1, and block_indices (grid, grid, grid,
        3) uint8 with 255 for empty; equal blocks share a slot. No block at all gives an atlas of one unused slot.

    Raises:
        ValueError: If shapes disagree, a coordinate is out of range or repeated, or the blocks do not fit.
    """
    count = len(blocks)
    edge = blocks.shape[1] if blocks.ndim == 5 else 0
    if blocks.ndim != 5 or blocks.shape[1:] != (edge, edge, edge, 8) or coords.shape != (count, 3):
        raise ValueError(
            f"blocks {blocks.shape} and coords {coords.shape}: expected (n, E, E, E, 8) and (n, 3)"
        )
    coords = coords.astype(np.int64)
    if count and (coords.min() < 0 or coords.max() >= grid):
        raise ValueError(f"coords: expected 0 .. {grid - 1}, got {coords.min()} .. {coords.max()}")
    order = np.ravel_multi_index(tuple(coords.T), (grid, grid, grid)).argsort() if count else np.zeros(0, int)
    coords = coords[order]
    if count > 1 and (coords[1:] == coords[:-1]).all(-1).any():
        raise ValueError("coords: the same macroblock appears twice")
    numbers, order = _assign_slots(blocks, order)
    slots = _slots_per_axis(max(1, len(order)), edge)
    where = np.stack(np.unravel_index(np.arange(len(order)), slots), -1)
    index = np.full((grid, grid, grid, 3), 255, np.uint8)
    index[tuple(coords.T)] = where[numbers]
    atlas = np.zeros([slot * edge for slot in slots] + [8], np.uint8)
    for source, (x, y, z) in zip(order, where * edge):
        atlas[x : x + edge, y : y + edge, z : z + edge] = blocks[source]
    return atlas, index


def atlas_slots(block_indices: np.ndarray, edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the macroblocks that have data: coordinates (n, 3), and the first voxel of each in the atlas (n, 3).

    ``edge`` is that of a stored block, B + 1. Equal blocks share a slot.
    """
    coords = np.argwhere(block_indices[..., 0] != 255)
    return coords, block_indices[tuple(coords.T)].astype(np.int64) * edge
