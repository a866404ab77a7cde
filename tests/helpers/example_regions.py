"""Known regions of the example scene with something left out."""

from __future__ import annotations

import numpy as np


def unseen_beside(known: np.ndarray, scale: float) -> np.ndarray:
    """Return a known grid (N, N, N, 4) that no photo looks into for x > -0.4 and -0.3 < y < 0, training units."""
    cells = len(known)
    at = ((np.arange(cells) + 0.5) * 4.0 / cells - 2.0) / scale
    # Viewer axes are (-x, z, y); up to one unit from the centre they are not contracted.
    beside = (at < 0.4)[:, None, None] & ((at > -0.3) & (at < 0.0))[None, None, :]
    changed = known.copy()
    changed[..., 3] = np.where(beside, 0, known[..., 3])
    return changed
