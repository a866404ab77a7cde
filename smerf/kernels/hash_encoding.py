"""Multi-resolution hash encoding with footprint fading: checks, dispatch and gradients."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import hash_encoding as reference

__all__ = ["HashSpec", "hash_encode", "level_records"]

_LEVEL = np.dtype([("offset", "<i8"), ("resolution", "<i4"), ("mask", "<u4")])


@dataclass(frozen=True)
class HashSpec:
    """The shape of a multi-resolution grid.

    ``level_count`` levels with ``base`` .. ``finest`` cells per axis in geometric steps, ``features`` floats
    per entry (1, 2, 4 or 8). A level with more than ``2**log2_size`` cells is hashed.
    """

    level_count: int
    features: int
    log2_size: int
    base: int
    finest: int

    def __post_init__(self) -> None:
        if self.features not in (1, 2, 4, 8):
            raise ValueError(f"features: expected 1, 2, 4 or 8, got {self.features}")
        if self.level_count < 1 or not 1 <= self.base <= self.finest:
            raise ValueError(
                f"level_count, base, finest: expected at least one level and 1 <= base <= finest, got "
                f"{self.level_count}, {self.base}, {self.finest}"
            )
        if not 1 <= self.log2_size <= 30:
            raise ValueError(f"log2_size: expected 1 to 30, got {self.log2_size}")

    def resolutions(self) -> tuple[int, ...]:
        """Return the cells per axis of each level."""
        if self.level_count == 1:
            return (self.base,)
        ratio = (self.finest / self.base) ** (1.0 / (self.level_count - 1))
        return tuple(round(self.base * ratio**level) for level in range(self.level_count))

    def levels(self) -> list[tuple[int, int, int]]:
        """Return (first entry, cells per axis, entries) of each level."""
        rows, offset = [], 0
        for resolution in self.resolutions():
            size = min(resolution**3, 1 << self.log2_size)
            rows.append((offset, resolution, size))
            offset += size
        return rows

    @property
    def entry_count(self) -> int:
        """Return the number of table entries of all levels."""
        offset, _, size = self.levels()[-1]
        return offset + size

    @property
    def width(self) -> int:
        """Return the number of features of an encoded point."""
        return self.level_count * self.features


@cache
def level_records(spec: HashSpec) -> np.ndarray:
    """Return the native ``HashLevel`` of each level."""
    records = np.zeros(spec.level_count, _LEVEL)
    for i, (offset, resolution, size) in enumerate(spec.levels()):
        records[i] = (offset, resolution, size - 1 if size < resolution**3 else 0)
    return records


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec, sigma: Tensor | None = None) -> Tensor:
    """Encode points with a multi-resolution hash grid.

    Args:
        x: Points (N, 3) float32 in [0, 1]; values outside are clamped. A point with a NaN has zero features.
        table: Entries (spec.entry_count, spec.features) float32.
        spec: Level sizes.
        sigma: Optional footprint (N,) float32, standard deviation in the units of ``x``: a level is faded by
            erf(1 / (sqrt(8) sigma n)) (Zip-NeRF, arXiv 2304.06706). No gradient flows to it.

    Returns:
        Features (N, L * F), level-major. Gradients flow to ``table`` and, if it requires them, ``x``.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    native.check("x", x, torch.float32, (None, 3))
    native.check("table", table, torch.float32, (spec.entry_count, spec.features))
    if sigma is not None:
        native.check("sigma", sigma, torch.float32, (x.shape[0],))
    library = native.load_cpu()
    if library is None or x.device.type != "cpu":
        return reference.hash_encode(x, table, spec, sigma)
    return _HashEncode.apply(
        x.contiguous(), table.contiguous(), spec, None if sigma is None else sigma.contiguous()
    )


class _HashEncode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, table, spec, sigma):
        records = level_records(spec)
        out = x.new_empty(x.shape[0], spec.width)
        native.load_cpu().smerf_hash_encode_forward(
            native.pointer(records), spec.level_count, spec.features, native.pointer(table),
            native.pointer(x), native.pointer(sigma), ctypes.c_int64(x.shape[0]), native.pointer(out),
        )  # fmt: skip
        ctx.save_for_backward(x, table, sigma)
        ctx.spec = spec
        return out

    @staticmethod
    def backward(ctx, upstream):
        x, table, sigma = ctx.saved_tensors
        spec, records, upstream = ctx.spec, level_records(ctx.spec), upstream.contiguous()
        library, count = native.load_cpu(), ctypes.c_int64(x.shape[0])
        grad_table = grad_x = None
        if ctx.needs_input_grad[1]:
            grad_table = torch.zeros_like(table)
            library.smerf_hash_encode_backward(
                native.pointer(records), spec.level_count, spec.features, native.pointer(x),
                native.pointer(sigma), count, native.pointer(upstream), native.pointer(grad_table),
            )  # fmt: skip
        if ctx.needs_input_grad[0]:
            grad_x = torch.empty_like(x)
            library.smerf_hash_encode_backward_input(
                native.pointer(records), spec.level_count, spec.features, native.pointer(table),
                native.pointer(x), native.pointer(sigma), count, native.pointer(upstream),
                native.pointer(grad_x),
            )  # fmt: skip
        return grad_x, grad_table, None, None
