"""Why photos cannot be posed, from their features and matches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from smerf.prepare.colmap import Pair
from smerf.prepare.intake import Photo

__all__ = [
    "MAX_EXPOSURE_STEP",
    "MIN_INLIERS",
    "Evidence",
    "exposure_jumps",
    "exposure_step",
    "gather_evidence",
]

MIN_INLIERS = 15
MAX_EXPOSURE_STEP = 1.0
_SEQUENCE = 0.7
_ROTATION_PAIRS, _ROTATION_FLAT = 0.8, 0.95
_MAX_PARALLAX = 0.003  # crops of one photo: 0.0001; flat pairs of cameras that moved: 0.01 to 0.12


@dataclass(frozen=True)
class Evidence:
    """What features and matches say of a capture.

    ``keypoints`` is the median number a photo, ``tested`` and ``matching`` count neighbouring pairs (or, without an
    order, each photo's best partner), ``flat`` is the fraction of verified pairs that one homography explains, and
    ``parallax`` the median of theirs (see ``Pair``).
    """

    keypoints: float
    tested: int
    matching: int
    flat: float
    parallax: float | None
    verified: int
    is_sequence: bool
    exposure_jumps: tuple[tuple[str, str], ...] = ()

    @property
    def pairs_ok(self) -> float:
        """Fraction of the tested pairs that match."""
        return self.matching / self.tested if self.tested else 0.0

    @property
    def is_flat(self) -> bool:
        """Return whether everything matches, all of it by homographies: a camera that rotated, or a plane."""
        return self.pairs_ok > _ROTATION_PAIRS and self.flat > _ROTATION_FLAT

    @property
    def is_rotation(self) -> bool:
        """Return whether the camera rotated and did not move at all: everything matches by rotations."""
        return self.is_flat and self.parallax is not None and self.parallax < _MAX_PARALLAX


def gather_evidence(
    photos: Sequence[Photo], keypoints: Mapping[str, int], pairs: Sequence[Pair], order: str = "auto"
) -> Evidence:
    """Collect the evidence on a capture.

    Args:
        photos: In capture order.
        keypoints: Their number by photo.
        pairs: All that were matched.
        order: ``auto``, ``sequence`` or ``none``: whether the order of photos means something.
    """
    inliers = {frozenset((pair.first, pair.second)): pair.inliers for pair in pairs}
    neighbours = [(one, two) for one, two in pairwise(photos) if one.sequence == two.sequence]
    good = [pair for pair in pairs if pair.inliers >= MIN_INLIERS]
    matching = sum(inliers.get(frozenset((a.name, b.name)), 0) >= MIN_INLIERS for a, b in neighbours)
    is_sequence = order == "sequence" or any(photo.is_video for photo in photos)
    if order == "auto" and neighbours:
        is_sequence = is_sequence or matching >= _SEQUENCE * len(neighbours)
    tested = len(neighbours)
    if not is_sequence:
        matched = {name for pair in good for name in (pair.first, pair.second)}
        tested, matching = len(photos), len(matched)
    parallax = [pair.parallax for pair in good if pair.is_flat and pair.parallax is not None]
    return Evidence(
        keypoints=float(np.median(list(keypoints.values()))) if keypoints else 0.0,
        tested=tested,
        matching=matching,
        flat=sum(pair.is_flat for pair in good) / len(good) if good else 0.0,
        parallax=float(np.median(parallax)) if parallax else None,
        verified=len(good),
        is_sequence=is_sequence,
        exposure_jumps=exposure_jumps(photos),
    )


def exposure_jumps(photos: Sequence[Photo]) -> tuple[tuple[str, str], ...]:
    """Return neighbours between which the brightness changes by more than one stop (a factor of 2)."""
    return tuple(
        (one.name, two.name)
        for one, two in pairwise(photos)
        if one.sequence == two.sequence and exposure_step(one, two) > MAX_EXPOSURE_STEP
    )


def exposure_step(one: Photo, two: Photo) -> float:
    """Return the change of mean brightness between two photos in stops."""
    return float(abs(np.log2(max(one.brightness, 1e-4) / max(two.brightness, 1e-4))))
