"""Quaternions of which the largest part is left out, as three formats store them."""

from __future__ import annotations

import numpy as np

__all__ = ["insert_largest"]


def insert_largest(parts: np.ndarray, largest: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return (N, 4) with ``largest`` (N,) at ``place`` (N,) and ``parts`` (N, 3) around it in order."""
    place, columns = place.astype(np.int64), np.arange(4)
    index = columns[None] - (columns[None] > place[:, None])
    result = np.take_along_axis(parts, np.minimum(index, 2), 1)
    result[np.arange(len(parts)), place] = largest
    return result
