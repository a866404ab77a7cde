"""Photos whose exposure or white balance drifts: found while the teacher trains, and evened out from then on.

Every place of the scene should have the same colour in all photos that show it, but for what glossy things add. Where
one factor a photo and channel explains how photos differ at places that they share, the photos' colours are divided by
it, and the scene is learnt at the exposure and white balance that photos nearby have in common. Without it a teacher
learns light that depends on the direction of view, and fog before the cameras.
Letters: N photos, C places, M pairs of a photo and a place that it shows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Capture, Frame
from smerf.engine import distributed
from smerf.engine.files import write_json
from smerf.engine.folder import EXPOSURES
from smerf.fields.ray_bank import RayBank
from smerf.fields.rays import Rays
from smerf.teacher.config import TeacherConfig
from smerf.teacher.model import FieldTeacher
from smerf.teacher.residuals import ReducedPhoto, affordable, place_cells, reduce_photo, reduction, view_photo

__all__ = ["Evening", "Gains", "Pairs", "save_factors", "solve_gains"]

_MARKS = (0.1, 0.2, 0.35, 0.5)
"""Fractions of the steps after which the photos are compared."""
_RAYS_SHARE, _MAX_SHARE = 0.02, 0.2
"""A comparison should take so many of the training's rays; where it would take more than the latter, there is none."""
_MAX_GRANTED_SHARE = 0.06
"""All comparisons of a training that is granted a time take at most so many: photos are not reduced below a size."""
_MIN_SIDE = 24
"""Longest side in pixels below which photos are not reduced for that."""
_MIN_PHOTOS = 8
_RANGE = (0.08, 0.92)
"""Colours outside are noise or clipped, and say nothing of a factor."""
_MIN_PIXELS, _MIN_PLACES = 2, 24
_ROUNDS, _SOFT = 12, 0.03
"""Rounds of reweighting, and the difference in octaves below which all weigh the same."""
_TIE = 1e-3
"""How strongly a photo that hardly shares a place is held at a factor of one."""
_AROUND = 6
"""Factors are compared with those of this fraction of the photos, the nearest ones."""
_MIN_JUMPS, _MIN_AGREEMENT, _MIN_EXPLAINED = 0.06, 0.8, 0.1
"""From which ``jumps``, ``agreement`` and ``explained`` on photos are evened,"""
_KEPT = 0.7
"""and the fraction of these from which they stay so."""
_MAX_FACTOR = 3.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pairs:
    """What photos show of places.

    ``photos`` and ``places`` (M,) are numbers from 0, ``octaves`` (M, 3) binary logarithms of mean colours, NaN where a
    channel says nothing, and ``distances`` (M,) those of the place from the photo's camera.
    """

    photos: np.ndarray
    places: np.ndarray
    octaves: np.ndarray
    distances: np.ndarray

    def __getitem__(self, index: np.ndarray) -> Pairs:
        return Pairs(self.photos[index], self.places[index], self.octaves[index], self.distances[index])

    def halves(self) -> tuple[Pairs, Pairs]:
        """Divide the places into those that are near and those that are far."""
        total = np.bincount(self.places, np.log(np.maximum(self.distances, 1e-9)))
        mean = (total / np.maximum(np.bincount(self.places), 1))[self.places]
        is_far = mean > np.median(mean)
        return self[~is_far], self[is_far]

    def channel(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return value, photo and place of the pairs whose place another photo shows as well, in one channel."""
        known = np.isfinite(self.octaves[:, number])
        value, photo, place = self.octaves[known, number], self.photos[known], self.places[known]
        shared = np.bincount(place, minlength=1)[place] > 1
        return value[shared], photo[shared], np.unique(place[shared], return_inverse=True)[1].reshape(-1)


@dataclass(frozen=True)
class Gains:
    """Factors (N, 3) of the photos' colours against what photos nearby have in common, and what speaks for them.

    ``jumps`` is the root mean square, in octaves, of how factors differ from those of the nearest cameras: what drifts
    slowly along the way of the camera looks like light that depends on the direction, and does no harm. ``agreement``
    is the correlation of these jumps as near places and as far places tell them, and ``explained`` the fraction of the
    photos' differences at the ones that the jumps at the others explain.
    """

    factors: np.ndarray
    jumps: float
    agreement: float
    explained: float

    def matter(self, part: float = 1.0) -> bool:
        """Return whether photos are better evened than left as they are; ``part`` of the evidence is enough."""
        values = (self.jumps, _MIN_JUMPS), (self.agreement, _MIN_AGREEMENT), (self.explained, _MIN_EXPLAINED)
        return all(value >= part * least for value, least in values)


def solve_gains(pairs: Pairs, nearest: np.ndarray) -> Gains:
    """Fit one factor a photo and channel to the colours of places, and ask near and far places apart.

    Args:
        pairs: What the photos show.
        nearest: The photos (N, K) whose cameras are nearest to each photo's, its own among them.
    """
    count = len(nearest)
    logs, figures = np.zeros((count, 3)), []
    for channel in range(3):
        whole = _fit(*pairs.channel(channel), count)
        logs[:, channel] = _without_drift(whole - np.median(whole), nearest)
        halves = [half.channel(channel) for half in pairs.halves()]
        jumps = [fit - fit[nearest].mean(1) for fit in (_fit(*half, count) for half in halves)]
        spreads = [float(np.std(each)) for each in jumps]
        alike = float(np.mean(jumps[0] * jumps[1]) - np.mean(jumps[0]) * np.mean(jumps[1]))
        agreement = alike / (spreads[0] * spreads[1]) if min(spreads) > 1e-6 else 0.0
        crossed = [_explained(other, *half) for other, half in zip(reversed(jumps), halves)]
        figures.append((min(spreads), agreement, float(np.mean(crossed))))
    limit = np.log2(_MAX_FACTOR)
    return Gains(2.0 ** logs.clip(-limit, limit), *(float(value) for value in np.mean(figures, 0)))


def _without_drift(logs: np.ndarray, nearest: np.ndarray) -> np.ndarray:
    """Return logarithms (N,) without the part that nearby photos share, as far as that is more than chance.

    Photos of the sunny and of the shaded side of a house are each exposed for their side: that is how they are shown.
    """
    shared = logs[nearest].mean(1)
    by_chance = float(np.var(logs - shared)) / nearest.shape[1]
    part = max(0.0, 1.0 - by_chance / max(float(np.var(shared)), 1e-12))
    return np.asarray(logs - part * (shared - shared.mean()))


def _fit(value: np.ndarray, photo: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """Return each photo's logarithm (N,) by reweighted least squares; the places' own levels are eliminated, which
    leaves N unknowns.
    """
    from scipy.sparse import coo_matrix

    logs = np.zeros(count)
    if not len(value):
        return logs
    shape, weight = (count, int(place.max()) + 1), np.ones(len(value))
    for _ in range(_ROUNDS):
        weights = coo_matrix((weight, (photo, place)), shape).tocsr()
        sums = coo_matrix((weight * value, (photo, place)), shape).tocsr()
        of_place = np.asarray(weights.sum(0)).reshape(-1)
        scaled = weights.multiply(1.0 / of_place[None]).tocsr()
        of_photo = np.asarray(weights.sum(1)).reshape(-1)
        system = np.diag(of_photo) - (scaled @ weights.T).toarray()
        right = np.asarray(sums.sum(1)).reshape(-1) - scaled @ np.asarray(sums.sum(0)).reshape(-1)
        system[np.diag_indices(count)] += _TIE * max(float(of_photo.mean()), 1e-9)
        logs = np.linalg.solve(system, right)
        corrected = value - logs[photo]
        level = np.bincount(place, weight * corrected) / of_place
        weight = 1.0 / np.maximum(np.abs(corrected - level[place]), _SOFT)
    few = np.bincount(photo, minlength=count) < _MIN_PLACES
    logs[few] = np.median(logs[~few]) if (~few).any() else 0.0
    return np.asarray(logs)


def _explained(logs: np.ndarray, value: np.ndarray, photo: np.ndarray, place: np.ndarray) -> float:
    """Return by which fraction logarithms (N,) lessen how photos differ at places."""
    before = float(np.abs(value - _level(value, place)).sum())
    corrected = value - logs[photo]
    return 1.0 - float(np.abs(corrected - _level(corrected, place)).sum()) / before if before > 0.0 else 0.0


def _level(value: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the median of each value's place (M,)."""
    order = np.lexsort((value, place))
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    sizes = np.diff(starts, append=len(value))
    middle = value[order][starts + sizes // 2]
    return np.asarray(middle[place])


def save_factors(folder: Path, capture: Capture, gains: Tensor | None) -> None:
    """Write by which factors (r, g, b) training photos were divided, by name; nothing if they were not."""
    if gains is not None:
        names = [frame.name for frame in capture.split("train")]
        factors = [[round(value, 4) for value in row] for row in gains.tolist()]
        write_json(folder / EXPOSURES, dict(zip(names, factors)))


class Evening:
    """Compares the training photos a few times, and evens what drifts."""

    def __init__(self, config: TeacherConfig, frames: Sequence[Frame], bank: RayBank) -> None:
        """Prepare for the training photos ``frames``, whose pixels are in ``bank``."""
        self.bank = bank
        self.cameras = [frame.camera for frame in frames]
        rays = config.steps * config.rays
        budget = _RAYS_SHARE * rays
        self.factors = [
            reduction((c.intrinsics.width, c.intrinsics.height), len(frames), budget, _MIN_SIDE)
            for c in self.cameras
        ]
        pixels = sum(
            (c.intrinsics.width // factor) * (c.intrinsics.height // factor)
            for c, factor in zip(self.cameras, self.factors)
        )
        share = pixels / rays
        self.is_on = config.exposure == "auto" and len(frames) >= _MIN_PHOTOS and share <= _MAX_SHARE
        self.marks = _MARKS if config.minutes is None else affordable(_MARKS, share, _MAX_GRANTED_SHARE)
        self.nearest = _nearest(bank)
        self.looks = 0
        """How often the photos were compared."""
        self.gains: Tensor | None = None
        """Factors (N, 3) by which photos are brighter than the scene; None where they are used as they are."""

    def after_step(
        self, fraction: float, teacher: FieldTeacher, refine: Callable[[Rays, Tensor], Rays] | None
    ) -> None:
        """Compare the photos if it is time, after a ``fraction`` of the steps."""
        if not self.is_on or self.looks >= len(self.marks) or fraction < self.marks[self.looks]:
            return
        self.looks += 1
        found = self._compare(teacher, refine)
        _log.info(
            "exposure: jumps of %.2f octaves, agreement %.2f, %.0f %% of the photos' differences explained",
            found.jumps, found.agreement, 100.0 * found.explained,
        )  # fmt: skip
        # On GPUs processes may differ in a last bit, and must learn the same.
        agreed = distributed.average(torch.tensor(found.factors, dtype=torch.float32))
        matters = found.matter(1.0 if self.gains is None else _KEPT)
        does_matter = float(distributed.average(torch.tensor(float(matters)))) > 0.5
        self.gains = agreed if does_matter else None
        self.bank.even(self.gains)

    def tensors(self) -> dict[str, Tensor]:
        """Return what continues exactly after ``restore``."""
        found = {} if self.gains is None else {"gains": self.gains}
        return {"looks": torch.tensor(self.looks), **found}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from saved ``tensors``."""
        # Trainings that were begun before photos were compared go on without.
        self.looks = int(tensors["looks"]) if "looks" in tensors else len(self.marks)
        self.gains = tensors.get("gains")
        self.bank.even(self.gains)

    def _compare(self, teacher: FieldTeacher, refine: Callable[[Rays, Tensor], Rays] | None) -> Gains:
        device = teacher.field.level_scales.device
        photos, points, distances = [], [], []
        for index, (camera, factor) in enumerate(zip(self.cameras, self.factors)):
            photo = reduce_photo(camera, *self.bank.photo(index), teacher.background, factor)
            _, point, distance = view_photo(teacher, photo.camera, index, device, refine)
            photos.append(photo)
            points.append(point)
            distances.append(distance)
        cells = place_cells(teacher, photos, points, distances)
        parts = [_means(*each) for each in zip(photos, cells, distances)]
        owner = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
        place, octaves, distance = (np.concatenate(values) for values in zip(*parts))
        numbers = np.unique(place, return_inverse=True)[1].reshape(-1)
        return solve_gains(Pairs(owner, numbers, octaves, distance), self.nearest)


def _nearest(bank: RayBank) -> np.ndarray:
    """Return the photos (N, K) whose cameras are nearest to each, in place and direction."""
    centres, axes = bank.centres.cpu(), bank.rotations[:, :, 2].cpu()
    apart = torch.cdist(centres, centres)
    apart = apart / apart.median().clamp_min(1e-9) + torch.cdist(axes, axes)
    count = min(len(centres), max(_MIN_PHOTOS, len(centres) // _AROUND))
    return apart.topk(count, largest=False).indices.numpy()


def _means(
    photo: ReducedPhoto, cells: np.ndarray, distances: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the places (P,) that a photo shows, the logarithms (P, 3) of its mean colours there, and the distances."""
    places, part = np.unique(cells, return_inverse=True)
    octaves = np.full((len(places), 3), np.nan)
    colours = photo.colours.reshape(-1, 3)
    for channel in range(3):
        value = colours[:, channel]
        usable = photo.used.reshape(-1) & (value > _RANGE[0]) & (value < _RANGE[1])
        count = np.bincount(part, usable, len(places))
        total = np.bincount(part, np.where(usable, np.log2(np.maximum(value, 1e-6)), 0.0), len(places))
        enough = count >= _MIN_PIXELS
        octaves[enough, channel] = total[enough] / count[enough]
    return places, octaves, np.bincount(part, distances) / np.bincount(part)
