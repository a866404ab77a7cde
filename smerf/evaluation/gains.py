"""How photos differ in exposure: by comparing what two of them see of the same surface.

A trained scene can't tell, since it learns the brightness of each photo as if it depended on the direction of view.
Images are float arrays (H, W, 3) in [0, 1], sRGB-encoded. Letters: N photos, S of them with known surfaces.
"""

from __future__ import annotations

import numpy as np

from smerf.capture.rays import project
from smerf.capture.types import Camera
from smerf.evaluation.photos import log_luma

__all__ = ["pair_gain", "solve_gains"]

_RANGE = (0.05, 0.95)
"""sRGB values outside are noise or clipped, and say nothing of a gain."""
_MIN_POINTS = 64
_MAX_ROUNDS, _TOLERANCE = 50, 1e-4


def pair_gain(
    points: np.ndarray, colours: np.ndarray, camera: Camera, photo: np.ndarray, mask: np.ndarray | None = None
) -> float | None:
    """Return by how many stops points are brighter in their own photo than in another one.

    The median over the points that lie in the other photo and are neither dark nor clipped in either; a few that are
    hidden there do no harm.

    Args:
        points: Surface points, shape (P, 3).
        colours: What their own photo shows of them, shape (P, 3).
        camera: Camera of the other photo.
        photo: The other photo.
        mask: Which of its pixels may be used, bool (H, W).

    Returns:
        Stops, or ``None`` for fewer than 64 such points.
    """
    places, depth = project(camera, points)
    height, width = photo.shape[:2]
    with np.errstate(invalid="ignore"):
        is_inside = (depth > 0.0) & ((places >= 0.0) & (places < (width, height))).all(axis=1)
    columns, rows = places[is_inside].astype(int).T
    here, there = colours[is_inside], photo[rows, columns]
    low, high = _RANGE
    usable = (np.minimum(here, there).min(-1) > low) & (np.maximum(here, there).max(-1) < high)
    if mask is not None:
        usable &= mask[rows, columns]
    if usable.sum() < _MIN_POINTS:
        return None
    return float(np.median(log_luma(here[usable]) - log_luma(there[usable])))


def solve_gains(ratios: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Return the gain of every photo in stops against the median one, from gains between pairs.

    Each photo's gain is the median of what its pairs say of it, over and over until nothing changes: a minority of
    wrong pairs has no say.

    Args:
        ratios: Gain of photo ``sources[s]`` over photo n, shape (S, N), NaN where unknown.
        sources: Photo of each row, int (S,).

    Returns:
        Shape (N,), NaN for photos without a pair.
    """
    gains = np.zeros(ratios.shape[1])
    own = [np.flatnonzero(sources == photo) for photo in range(len(gains))]
    is_known = np.isfinite(ratios).any(axis=0)
    is_known[sources[np.isfinite(ratios).any(axis=1)]] = True
    for _ in range(_MAX_ROUNDS):
        as_source, as_target = ratios + gains, gains[sources][:, None] - ratios
        found = gains.copy()
        for photo in np.flatnonzero(is_known):
            said = np.concatenate([as_source[own[photo]].ravel(), as_target[:, photo]])
            found[photo] = np.nanmedian(said)
        found -= np.median(found[is_known]) if is_known.any() else 0.0
        if np.abs(found - gains).max() < _TOLERANCE:
            break
        # Half a step: two groups of photos that only see each other would swap for ever.
        gains = 0.5 * (gains + found)
    return np.where(is_known, gains, np.nan)
