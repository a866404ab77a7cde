"""Two rules that take wrong cameras out of a model before it is judged.

1. A photo with fewer than 30 triangulated points is not posed: the global mapper puts such photos at random places.
2. Photos that share at least 30 points are joined; the largest connected group is kept. Wrong parts hang on the rest
   by few points, right ones by many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from smerf.prepare.model import Model

__all__ = ["MIN_POINTS", "Cleaned", "clean", "count_shared"]

MIN_POINTS = 30


@dataclass(frozen=True)
class Cleaned:
    """A model after cleaning: what was kept, the photos with too few points, and the parts cut off, largest first."""

    model: Model
    weak: tuple[str, ...]
    parts: tuple[tuple[str, ...], ...]


def count_shared(model: Model) -> np.ndarray:
    """Return how many points two photos share, (N, N), with each photo's own number of points on the diagonal."""
    seen = model.observations
    return np.asarray((seen @ seen.T).todense())


def clean(model: Model, min_link: int = MIN_POINTS) -> Cleaned:
    """Apply both rules.

    Args:
        model: As the mapper made it.
        min_link: Points that two photos must share to be joined.
    """
    shared = count_shared(model)
    is_strong = np.diag(shared) >= MIN_POINTS
    strong = np.flatnonzero(is_strong)
    weak = tuple(model.names[index] for index in np.flatnonzero(~is_strong))
    if not len(strong):
        return Cleaned(model.keep([]), weak, ())
    links = sparse.csr_matrix(shared[np.ix_(strong, strong)] >= min_link)
    _, label = connected_components(links, directed=False)
    groups = [strong[label == number] for number in range(label.max() + 1)]
    groups.sort(key=lambda group: (-len(group), group[0]))
    parts = tuple(tuple(model.names[index] for index in group) for group in groups[1:])
    return Cleaned(model.keep(groups[0]), weak, parts)
