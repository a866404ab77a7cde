"""Which photos to match: neighbours in capture order, and the best partners of a quick match of all.

Source: preemptive matching of Wu, "Towards Linear-time Incremental Structure from Motion" (3DV 2013): features
of large scale are few and match well, so a handful of common ones tells which photos see the same things.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["LARGEST", "choose_pairs", "count_common"]

LARGEST = 256
"""How many features of a photo take part in the quick match."""
_MAX_RATIO = 0.85
_MIN_COMMON = 4
_ALL_PAIRS = 30
_PHOTO_STEPS = (1, 2, 3)
_VIDEO_STEPS = (1, 2, 3, 4, 5, 6, 8, 16, 32)


def count_common(first: np.ndarray, second: np.ndarray) -> int:
    """Count mutual nearest neighbours between two sets of unit descriptors (A, 128) and (B, 128).

    A match counts if its distance is below 0.85 of that to the second nearest, in both directions' nearest.
    """
    if len(first) < 2 or len(second) < 2:
        return 0
    cosine = first @ second.T
    best = cosine.argmax(axis=1)
    two = np.partition(cosine, -2, axis=1)[:, -2:]
    distance = np.sqrt(np.maximum(2.0 - 2.0 * two, 0.0))  # columns: second nearest, nearest
    is_mutual = cosine.argmax(axis=0)[best] == np.arange(len(first))
    return int(np.count_nonzero(is_mutual & (distance[:, 1] < _MAX_RATIO * distance[:, 0])))


def choose_pairs(
    sequences: Sequence[Sequence[str]],
    descriptors: dict[str, np.ndarray],
    *,
    is_video: bool = False,
    use_order: bool = True,
    partners: int = 8,
    progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[str, str]]:
    """Choose the pairs to match, sorted by capture order.

    Args:
        sequences: The photos' names in capture order, one list an input: order counts within a list only.
        descriptors: Of every photo, from ``read_descriptors``.
        is_video: Take neighbours further apart.
        use_order: Whether the order means anything.
        partners: How many of the best partners of the quick match to take for each photo.
        progress: Called with the number of photos that were compared.
    """
    names = [name for sequence in sequences for name in sequence]
    if len(names) <= _ALL_PAIRS:
        return [(a, b) for index, a in enumerate(names) for b in names[index + 1 :]]
    chosen: set[tuple[int, int]] = set()
    begin = 0
    for sequence in sequences if use_order else ():
        for step in _VIDEO_STEPS if is_video else _PHOTO_STEPS:
            chosen |= {(begin + index, begin + index + step) for index in range(len(sequence) - step)}
        begin += len(sequence)
    common = _count_all([descriptors[name] for name in names], progress)
    for index, row in enumerate(common):
        order = np.argsort(-row, kind="stable")[:partners]
        chosen |= {
            (min(index, other), max(index, other)) for other in order.tolist() if row[other] >= _MIN_COMMON
        }
    return [(names[a], names[b]) for a, b in sorted(chosen)]


def _count_all(descriptors: list[np.ndarray], progress: Callable[[int], None]) -> np.ndarray:
    counts = np.zeros((len(descriptors), len(descriptors)), np.int64)
    for a in range(len(descriptors)):
        progress(a)
        for b in range(a + 1, len(descriptors)):
            counts[a, b] = counts[b, a] = count_common(descriptors[a], descriptors[b])
    return counts
