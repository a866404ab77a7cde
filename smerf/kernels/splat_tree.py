"""Gaussian splats as kernels read them: leaves of eight, in trees of eight-wide boxes, one tree a class of size.

A few huge splats then inflate no node of the small ones. Letters: N splats, L leaves, K coefficients of spherical
harmonics.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

__all__ = ["ALPHA_MIN", "SplatCamera", "SplatTree", "build_splat_tree"]

ALPHA_MIN = 1.0 / 255.0
"""Opacity below which a splat does not count."""
_LEAF = 8
_LEVELS = 12
_CLASSES = 16
_NOWHERE = 1e18
_AXES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


@dataclass(frozen=True)
class SplatTree:
    """Splats in the order of the tree; rows without a splat have opacity 0 and a negative cut."""

    leaves: Tensor
    """(L, 11, 8) float32: mean, covariance (xx xy xz yy yz zz), opacity, 2 ln(255 opacity)."""
    nodes: Tensor
    """(M, 6, 8) float32: low and high corners of eight children."""
    levels: Tensor
    """(C, 12) int32 of each class: number of levels, first leaf, first node of each level."""
    sh: Tensor
    """(8 L, K, 3) float32 or float16."""
    near: float = 0.2
    """A splat counts where its centre is farther ahead of the eye."""
    dilation: float = 0.0
    """Variance of the screen's low-pass filter at unit distance."""
    antialiased: bool = False
    """Whether the dilation keeps a splat's total opacity."""
    sh_rotation: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    """Rows of the rotation that takes directions to the axes of the coefficients."""

    def rows(self) -> Tensor:
        """Return the leaves' values splat by splat (8 L, 11)."""
        return self.leaves.transpose(1, 2).reshape(-1, self.leaves.shape[1])

    def to(self, device: torch.device | str) -> SplatTree:
        """Return the tree on a device."""
        names = ("leaves", "nodes", "levels", "sh")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


@dataclass(frozen=True)
class SplatCamera:
    """A pinhole camera: ``rotation`` has the rows right, down, forward (9 numbers), ``eye`` is its centre."""

    rotation: tuple[float, ...]
    eye: tuple[float, ...]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    dilation: float = 0.3
    """Variance of the screen's low-pass filter in square pixels."""
    by_depth: bool = False
    """Sort by depth along the axis, as splats are trained, instead of by distance."""


def build_splat_tree(means: Tensor, covariances: Tensor, opacities: Tensor, sh: Tensor) -> SplatTree:
    """Build the tree of splats; those that are nowhere opaque enough to count are left out.

    Args:
        means: (N, 3) float32.
        covariances: (N, 6) float32: xx xy xz yy yz zz.
        opacities: (N,) float32 in [0, 1].
        sh: (N, K, 3) float32 or float16, coefficient 0 first; kept as it is.

    Raises:
        ValueError: If a shape is not as stated or no splat is left.
    """
    count = len(means)
    if means.shape != (count, 3) or covariances.shape != (count, 6) or opacities.shape != (count,):
        raise ValueError("splats: expected means (N, 3), covariances (N, 6) and opacities (N,)")
    if sh.dtype not in (torch.float32, torch.float16):
        raise ValueError(f"sh: expected float32 or float16, got {sh.dtype}")
    if sh.ndim != 3 or sh.shape[0] != count or sh.shape[1] not in (1, 4, 9, 16) or sh.shape[2] != 3:
        raise ValueError(f"sh: expected (N, 1, 4, 9 or 16, 3), got {tuple(sh.shape)}")
    keep = opacities >= ALPHA_MIN
    if not bool(keep.any()):
        raise ValueError("splats: none is opaque enough to be visible")
    cut = 2.0 * torch.log(255.0 * opacities[keep])
    rows = torch.cat([means[keep], covariances[keep], opacities[keep, None], cut[:, None]], 1).numpy()
    half = np.sqrt(np.maximum(rows[:, 10:], 0.0) * rows[:, [3, 6, 8]])
    order, sizes = _sorted(rows[:, :3], half.max(1))
    kept = np.flatnonzero(keep.numpy())
    coefficients = np.zeros((sum(size + -size % _LEAF for size in sizes), *sh.shape[1:]), sh.numpy().dtype)
    leaves: list[np.ndarray] = []
    nodes: list[np.ndarray] = []
    levels: list[list[int]] = []
    first_leaf = first_node = start = 0
    for size in sizes:
        part = order[start : start + size]
        start += size
        padding = -size % _LEAF
        block = np.pad(rows[part], ((0, padding), (0, 0)))
        block[size:, 10] = -1.0
        leaves.append(block.reshape(-1, _LEAF, block.shape[1]).transpose(0, 2, 1))
        begin = _LEAF * first_leaf
        np.take(sh.numpy(), kept[part], axis=0, out=coefficients[begin : begin + size])
        low, high = rows[part, :3] - half[part], rows[part, :3] + half[part]
        own, offsets = _nodes(
            *(_merge(_padded(each, sign), sign)[0] for each, sign in ((low, 1), (high, -1)))
        )
        levels.append([len(own), first_leaf, *(first_node + offset for offset in offsets)])
        nodes += own
        first_leaf += len(leaves[-1])
        first_node += sum(map(len, own))
    table = np.zeros((len(levels), _LEVELS), np.int32)
    for row, values in zip(table, levels):
        row[: len(values)] = values
    packed_leaves, packed_nodes = (
        np.ascontiguousarray(np.concatenate(each), np.float32) for each in (leaves, nodes)
    )
    return SplatTree(
        torch.from_numpy(packed_leaves),
        torch.from_numpy(packed_nodes),
        torch.from_numpy(table),
        torch.from_numpy(coefficients),
    )


def _sorted(means: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return the order of the tree, and how many splats each class has: sizes grow by four from class to class."""
    size = np.maximum(size, 1e-12)
    kind = np.minimum(np.log(size / size.min()) / np.log(4.0), _CLASSES - 1).astype(np.int64)
    low, high = means.min(0), means.max(0)
    cells = ((means - low) / np.maximum(high - low, 1e-12) * (2**21 - 1)).astype(np.uint64)
    code = np.zeros(len(means), np.uint64)
    for axis in range(3):
        code |= _spread(cells[:, axis]) << np.uint64(axis)
    order = np.lexsort((code, kind))
    return order, [int(n) for n in np.bincount(kind) if n]


def _spread(values: np.ndarray) -> np.ndarray:
    """Return 21-bit numbers with two zero bits after each bit."""
    masks = (0x1F00000000FFFF, 0x1F0000FF0000FF, 0x100F00F00F00F00F, 0x10C30C30C30C30C3, 0x1249249249249249)
    for shift, mask in zip((32, 16, 8, 4, 2), masks):
        values = (values | values << np.uint64(shift)) & np.uint64(mask)
    return values


def _padded(corners: np.ndarray, sign: int) -> np.ndarray:
    """Fill up corners (n, 3) to a multiple of eight with those of empty boxes."""
    return np.pad(corners, ((0, -len(corners) % _LEAF), (0, 0)), constant_values=sign * _NOWHERE)


def _merge(corners: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of each eight boxes' union, and the eight as a node stores them (n / 8, 3, 8)."""
    groups = corners.reshape(-1, _LEAF, 3)
    return (groups.min(1) if sign > 0 else groups.max(1)), groups.transpose(0, 2, 1)


def _nodes(low: np.ndarray, high: np.ndarray) -> tuple[list[np.ndarray], list[int]]:
    """Return the nodes of each level above leaves with these boxes, lowest level first, and each level's offset."""
    levels: list[np.ndarray] = []
    offsets: list[int] = []
    total = 0
    while not levels or len(low) > 1:
        (low, stored_low), (high, stored_high) = (
            _merge(_padded(each, s), s) for each, s in ((low, 1), (high, -1))
        )
        levels.append(np.concatenate([stored_low, stored_high], 1))
        offsets.append(total)
        total += len(levels[-1])
    return levels, offsets
