"""Names in space: what detections in photos say of each voxel, weighted by size, as objects with boxes.

For each photo a *detection* gives a word and a score to some of its pixels: those in a box, or those of a mask. A
voxel's vote for a word is the sum over photos of the best score there, divided by the number of photos that see the
voxel.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from smerf.vision.find import DepthPhoto
from smerf.vision.lift import VoxelGrid, pack_keys, unpack_keys

__all__ = [
    "Detection",
    "LabelledObject",
    "Labels",
    "Votes",
    "collect_votes",
    "name_components",
    "name_instances",
    "name_tracks",
]

_LEAST_VOTE = 0.1
_LEAST_VOXELS = 20
_LEAST_PART = 0.1
"""Least share of a thing that a part of it is, by the photos that see its voxels."""
_MERGE_EVERY = 64


@dataclass(frozen=True)
class Detection:
    """A word (an index) with a score for the pixels of a box or of a mask.

    ``box`` is (left, top, right, bottom) in [0, 1] of the photo; ``mask`` is bool (H, W) of the depth's size.
    """

    word: int
    score: float
    box: tuple[float, float, float, float] | None = None
    mask: np.ndarray | None = None

    def covers(self, place: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return which pixels (N, 2), row and column, it speaks of: bool (N,)."""
        if self.mask is not None:
            return np.asarray(self.mask[place[:, 0], place[:, 1]])
        assert self.box is not None
        left, top, right, bottom = self.box
        y, x = (place[:, 0] + 0.5) / height, (place[:, 1] + 0.5) / width
        return np.asarray((x >= left) & (x < right) & (y >= top) & (y < bottom))


@dataclass(frozen=True)
class Votes:
    """``keys`` (N, 3) int32 of all seen voxels, ``seen`` (N,) photos that see each, ``votes`` (N, W) for the words."""

    grid: VoxelGrid
    words: tuple[str, ...]
    keys: np.ndarray
    seen: np.ndarray
    votes: np.ndarray

    def weights(self) -> np.ndarray:
        """Return the weight of each word (W,): log(1 + 1 / its share of all votes).

        Without it the largest box, that of a table or a bed, would win wherever it holds other things.
        """
        totals = self.votes.sum(0)
        share = np.maximum(totals / max(float(totals.sum()), 1e-12), 1e-12)
        return np.where(totals > 0, np.log1p(1.0 / share), 0.0)


@dataclass(frozen=True)
class LabelledObject:
    """A named thing.

    ``score`` are its votes a view, ``second`` the runner-up's word; ``centre`` and ``half`` (3,) its box, in training
    space; ``voxels`` index the rows of the votes; ``instance`` its number in the photos' masks, where they made it.
    """

    word: str
    score: float
    second: str | None
    centre: np.ndarray
    half: np.ndarray
    voxels: np.ndarray
    instance: int | None = None


@dataclass(frozen=True)
class Labels:
    """Objects, and the votes that they were made of."""

    votes: Votes
    objects: tuple[LabelledObject, ...]


def collect_votes(
    photos: Iterable[tuple[DepthPhoto, Sequence[Detection]]], grid: VoxelGrid, words: Sequence[str]
) -> Votes:
    """Add up what the detections of photos say of the voxels that their pixels lie in."""
    packed = np.zeros(0, np.int64)
    sums = np.zeros((0, len(words) + 1), np.float32)
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for number, (photo, detections) in enumerate(photos, 1):
        waiting.append(_votes_of(photo, detections, grid, len(words)))
        if number % _MERGE_EVERY == 0:
            packed, sums = _merge([(packed, sums), *waiting])
            waiting = []
    packed, sums = _merge([(packed, sums), *waiting])
    seen = sums[:, -1]
    votes = sums[:, :-1] / np.maximum(seen, 1.0)[:, None]
    return Votes(grid, tuple(words), unpack_keys(packed), seen.astype(np.int32), votes)


def _votes_of(
    photo: DepthPhoto, detections: Sequence[Detection], grid: VoxelGrid, words: int
) -> tuple[np.ndarray, np.ndarray]:
    points, place = photo.points()
    packed, inverse = np.unique(pack_keys(grid.keys(points)), return_inverse=True)
    sums = np.zeros((len(packed), words + 1), np.float32)
    sums[:, -1] = 1.0
    lens = photo.camera.intrinsics
    for each in detections:
        held = each.covers(place, lens.height, lens.width)
        np.maximum.at(sums[:, each.word], inverse[held], np.float32(each.score))
    return packed, sums


def _merge(parts: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    packed, inverse = np.unique(np.concatenate([keys for keys, _ in parts]), return_inverse=True)
    sums = np.zeros((len(packed), parts[0][1].shape[1]), np.float32)
    np.add.at(sums, inverse, np.concatenate([values for _, values in parts]))
    return packed, sums


def name_components(votes: Votes, *, weigh: bool = True, least: float = _LEAST_VOTE) -> Labels:
    """Make an object of every connected set of voxels with the same winning word.

    Args:
        votes: From ``collect_votes``.
        weigh: Whether words are weighted by size; off for masks, which hold nothing but the thing.
        least: Votes a view from which a voxel is named.
    """
    weighted = votes.votes * votes.weights() if weigh else votes.votes
    winner = weighted.argmax(1)
    strength = votes.votes[np.arange(len(winner)), winner] if len(winner) else np.zeros(0)
    named = np.flatnonzero(strength > least)
    group = _components(votes.keys[named], winner[named])
    objects = []
    for number in range(group.max(initial=-1) + 1):
        rows = named[group == number]
        if len(rows) >= _LEAST_VOXELS:
            objects.append(_object(votes, rows, weighted))
    return Labels(votes, _ordered(objects))


def name_instances(votes: Votes, owner: np.ndarray, *, weigh: bool = True) -> Labels:
    """Name known instances by the winner of the sum of their voxels' votes.

    Args:
        votes: From ``collect_votes``.
        owner: The instance of each voxel, (N,), 0 for none.
        weigh: As in ``name_components``.
    """
    weighted = votes.votes * votes.weights() if weigh else votes.votes
    objects = []
    for number in np.unique(owner[owner > 0]):
        rows = _main_parts(votes, np.flatnonzero(owner == number))
        named = replace(_object(votes, rows, weighted), instance=int(number))
        if named.score > _LEAST_VOTE:
            objects.append(named)
    return Labels(votes, _ordered(objects))


def name_tracks(votes: Votes, tracks: Votes) -> Labels:
    """Name things that were followed over photos: a voxel belongs to the track with most votes there.

    Args:
        votes: Of the words.
        tracks: Of the same photos in the same grid, tracks in place of words.
    """
    owner = np.where(tracks.votes.max(1, initial=0.0) > _LEAST_VOTE, tracks.votes.argmax(1) + 1, 0)
    labels = name_instances(votes, owner)
    objects = tuple(
        replace(each, instance=None) for each in labels.objects if len(each.voxels) >= _LEAST_VOXELS
    )
    return replace(labels, objects=objects)


def instance_of_voxels(votes: Votes, counts: Iterable[tuple[DepthPhoto, np.ndarray]]) -> np.ndarray:
    """Return the instance (N,) that most pixels of each voxel belong to.

    Args:
        votes: Whose voxels.
        counts: Photos with their instance ids, uint8 or uint16 (H, W) of the depth's size, 0 for none.
    """
    packed = pack_keys(votes.keys)
    pairs: dict[int, np.ndarray] = {}
    for photo, ids in counts:
        points, place = photo.points()
        row = np.searchsorted(packed, pack_keys(votes.grid.keys(points)))
        own = ids[place[:, 0], place[:, 1]]
        for number in np.unique(own):
            total = pairs.setdefault(int(number), np.zeros(len(packed), np.int32))
            np.add.at(total, row[own == number], 1)
    numbers = sorted(pairs)
    return np.array(numbers)[np.stack([pairs[n] for n in numbers]).argmax(0)]


def _object(votes: Votes, rows: np.ndarray, weighted: np.ndarray) -> LabelledObject:
    totals = weighted[rows].sum(0)
    order = totals.argsort()[::-1]
    second = votes.words[order[1]] if len(order) > 1 and totals[order[1]] > 0 else None
    low, high = _extent(votes.grid.centres(votes.keys[rows]), votes.seen[rows])
    edge = 0.5 * votes.grid.size
    score = float(votes.votes[rows, order[0]].mean())
    return LabelledObject(
        votes.words[order[0]], score, second, 0.5 * (low + high), 0.5 * (high - low) + edge, rows
    )


def _main_parts(votes: Votes, rows: np.ndarray) -> np.ndarray:
    """Return the voxels (rows) of a thing without the small parts that lie apart.

    Between the outline of a thing and what is behind it, depth falls anywhere.
    """
    part = _components(votes.keys[rows], np.zeros(len(rows), int))
    weight = np.bincount(part, votes.seen[rows])
    return np.asarray(rows[weight[part] >= _LEAST_PART * weight.sum()])


def _extent(points: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return between which coordinates (3,) all but the outermost points (N, 3) lie, by weight (N,).

    A voxel that few photos see, between a thing's outline and what is behind it, counts less than one of its surface.
    """
    ends = np.empty((2, 3))
    for axis in range(3):
        order = points[:, axis].argsort(kind="stable")
        share = weights[order].cumsum() / weights.sum()
        ends[:, axis] = points[order[np.searchsorted(share, (0.02, 0.98))], axis]
    return ends[0], ends[1]


def _ordered(objects: Sequence[LabelledObject]) -> tuple[LabelledObject, ...]:
    """Largest first; the same on every machine."""
    return tuple(sorted(objects, key=lambda each: (-len(each.voxels), each.word, each.centre.tolist())))


def _components(keys: np.ndarray, winner: np.ndarray) -> np.ndarray:
    """Number the connected sets of voxels (N, 3) of the same winner, over faces, edges and corners: (N,)."""
    packed = pack_keys(keys)
    steps = [step for step in np.ndindex(3, 3, 3) if step > (1, 1, 1)]
    rows, columns = [], []
    for step in steps:
        wanted = pack_keys(keys + np.array(step, np.int32) - 1)
        place = np.searchsorted(packed, wanted).clip(max=max(len(packed) - 1, 0))
        joined = (
            np.flatnonzero((packed[place] == wanted) & (winner[place] == winner)) if len(packed) else place
        )
        rows.append(joined)
        columns.append(place[joined])
    row, column = np.concatenate(rows), np.concatenate(columns)
    links = coo_matrix((np.ones(len(row), bool), (row, column)), (len(keys), len(keys)))
    return np.asarray(connected_components(links, directed=False)[1])


def colour_of(number: int) -> tuple[int, int, int]:
    """Return a colour that differs from those of the neighbouring numbers: hues by the golden angle."""
    hue = (number * 0.61803398875) % 1.0 * 6.0
    level = [max(0.0, min(1.0, abs((hue + shift) % 6.0 - 3.0) - 1.0)) for shift in (0.0, 4.0, 2.0)]
    red, green, blue = (math.floor(255 * (0.25 + 0.7 * value)) for value in level)
    return red, green, blue
