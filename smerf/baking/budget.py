"""Baking to a size: which voxel blocks go when a scene may take no more than so many bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from smerf.errors import UsageError

__all__ = ["Fit", "fit_size"]

_TRIES = 12
_CLOSE = 0.97
"""Fraction of the budget that is good enough."""


@dataclass(frozen=True)
class Fit:
    """The result of a search: blocks that contribute less than ``threshold`` go, and ``size`` bytes remain."""

    threshold: float
    size: int


def fit_size(values: np.ndarray, size_of: Callable[[float], int], budget: int, full: int) -> Fit:
    """Find the lowest threshold under which a scene fits.

    Args:
        values: Contribution of every block that could be baked (N,).
        size_of: Bytes of the scene without the blocks below a threshold; bakes it, so it is called seldom.
        budget: Bytes that it may take.
        full: Bytes with all blocks.

    Raises:
        UsageError: If the scene is larger even with its most important block alone.
    """
    values = np.sort(values)
    # Size is nearly linear in the number of blocks: the line between what is known narrows the bracket quickly.
    low, low_size = 0, full  # most blocks; does not fit
    high = len(values) - 1
    high_size = size_of(float(values[high])) if len(values) else full
    if high_size > budget:
        raise UsageError(
            f"--max-mb: the scene can't be made smaller than {high_size / 1e6:.1f} MB, which its planes and grids "
            "take; lower student.plane_resolution and distil again"
        )
    best = Fit(float(values[high]), high_size)
    for _ in range(_TRIES):
        if high - low <= 1 or best.size >= _CLOSE * budget:
            break
        # A little below the budget, and never at the ends of the bracket.
        aim = (low_size - 0.99 * budget) / max(1, low_size - high_size)
        step = min(max(round(aim * (high - low)), (high - low) // 16, 1), high - low - 1)
        middle = low + step
        size = size_of(float(values[middle]))
        if size > budget:
            low, low_size = middle, size
        else:
            high, high_size = middle, size
            best = Fit(float(values[middle]), size)
    return best
