"""Pixels that show what moved: found while the teacher trains, by their residual, and left out from then on.

A scene's misfits shrink as the teacher learns, and are alike in all photos of a place; a passer-by stays, in one photo.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from smerf.capture.types import Frame
from smerf.engine import distributed
from smerf.fields.ray_bank import RayBank
from smerf.fields.rays import Rays
from smerf.teacher.config import TeacherConfig
from smerf.teacher.model import FieldTeacher
from smerf.teacher.residuals import PhotoScore, affordable, reduce_photo, reduction, score_photos

__all__ = ["CERTAIN", "Rule", "Watch", "enlarge", "find_moving"]

_MARKS = (0.15, 0.3, 0.5, 0.75)
"""Fractions of the steps after which the photos are looked at."""
_EARLY = 0.5
"""Before this fraction a scene's misfits are many, and only much that lasted is taken for moving."""
_RAYS_SHARE = 0.05
"""A look takes at most so many of the training's rays."""
_MAX_SHARE = 0.12
"""All looks of a training that is granted a time take at most so many: photos are not reduced below a size."""
_MIN_PHOTOS = 8
"""With fewer photos nobody can tell the scene from what moved in it."""
_MIN_AREA, _MIN_EARLY_AREA = 0.005, 0.02
_MIN_LASTING = 0.5
"""A component was there before if so much of it was;"""
_MIN_LASTING_AREA = 0.6
"""things move if so much of what was certain is certain still."""
_STATE = ("found", "certain", "left_out")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """What counts as moved: connected pixels whose residual exceeds ``factor`` times that of their place."""

    factor: float = 1.5
    seed: float = 0.06
    """Excess that one pixel of a component has at least."""
    grown: float = 0.02
    """Excess that all of them have."""
    min_share: float = 0.005
    """Smallest component, as a fraction of the photo,"""
    min_pixels: int = 9
    """and in pixels."""
    max_share: float = 0.4
    """A photo of which more would be left out is used as it is."""
    min_others: int = 4
    """Places that fewer other photos see are used."""
    margin: float = 0.02
    """Components are dilated by this fraction of their height, at least by a pixel."""


CERTAIN = Rule(seed=0.1, grown=0.04)
"""Finds what moved in a training that has just begun and hardly anything else, but little more than half of it."""


def find_moving(score: PhotoScore, before: np.ndarray | None = None, rule: Rule | None = None) -> np.ndarray:
    """Return where a photo shows what moved, bool (h, w); of components that were found ``before`` by half at least."""
    from scipy.ndimage import binary_dilation, find_objects, label

    rule = rule or Rule()
    excess = np.where(score.others >= rule.min_others, score.residual - rule.factor * score.place, 0.0)
    square = np.ones((3, 3), bool)
    labels, count = label(excess > rule.grown, square)
    moving = np.zeros(excess.shape, bool)
    numbers = np.arange(count + 1)
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)
    seeded = np.isin(numbers, labels[excess > rule.seed])
    boxes = find_objects(labels)
    lasting = np.bincount(labels[before], minlength=count + 1) if before is not None else sizes
    seeded &= lasting >= _MIN_LASTING * sizes
    for number in numbers[1:][(seeded & (sizes >= max(rule.min_pixels, rule.min_share * excess.size)))[1:]]:
        rows = boxes[number - 1][0]
        margin = max(1, round(rule.margin * (rows.stop - rows.start)))
        moving |= binary_dilation(labels == number, square, iterations=margin)
    return moving if moving.mean() <= rule.max_share else np.zeros_like(moving)


def enlarge(moving: np.ndarray, factor: int, size: tuple[int, int]) -> np.ndarray:
    """Return a reduced photo's pixels (h, w) at the photo's size (H, W); cut edges are as what is next to them."""
    whole = moving.repeat(factor, 0).repeat(factor, 1)
    missing = [(0, max(0, wanted - found)) for wanted, found in zip(size, whole.shape)]
    return np.pad(whole, missing, mode="edge")[: size[0], : size[1]]


class Watch:
    """Looks at the training photos a few times, and says which pixels are left out.

    With ``place`` every look decides. With ``auto`` a look is compared with the one before: only components that were
    there before count, and nothing is left out unless enough of what is certain lasted. Misfits of a scene that stood
    still come and go while the teacher learns.
    """

    def __init__(self, config: TeacherConfig, frames: Sequence[Frame], bank: RayBank) -> None:
        """Prepare for the training photos ``frames``, whose pixels are in ``bank``."""
        self.config, self.bank = config, bank
        self.cameras = [frame.camera for frame in frames]
        self.sizes = [(c.intrinsics.height, c.intrinsics.width) for c in self.cameras]
        rays = config.steps * config.rays
        self.factors = [
            reduction((width, height), len(frames), _RAYS_SHARE * rays) for height, width in self.sizes
        ]
        self.marks: tuple[float, ...] = _MARKS
        if config.minutes is not None:
            pixels = sum((h // factor) * (w // factor) for (h, w), factor in zip(self.sizes, self.factors))
            marks = affordable(_MARKS, pixels / rays, _MAX_SHARE)
            # One look alone has nothing to be compared with.
            self.marks = marks if len(marks) > 1 or config.robust == "place" else ()
        self.looks = 0
        """How often the photos were looked at."""
        self.found: list[np.ndarray] = []
        """What the last look found (h, w), of each photo; empty before."""
        self.certain: list[np.ndarray] = []
        """What it found by the stricter rule."""
        self.left_out: list[np.ndarray] = []
        """What is left out (h, w), of each photo; empty where nothing is."""

    def _is_due(self, fraction: float) -> bool:
        if self.config.robust == "off" or len(self.cameras) < _MIN_PHOTOS:
            return False
        return self.looks < len(self.marks) and fraction >= self.marks[self.looks]

    def after_step(
        self, fraction: float, teacher: FieldTeacher, refine: Callable[[Rays, Tensor], Rays] | None
    ) -> bool:
        """Look at the photos if it is time, after a ``fraction`` of the steps; return whether the bank changed."""
        if not self._is_due(fraction):
            return False
        self.looks += 1
        scores = self._look(teacher, refine)
        before, earlier = self.found, self.certain
        self.found = _agreed([find_moving(score) for score in scores])
        self.certain = _agreed([find_moving(score, rule=CERTAIN) for score in scores])
        if self.config.robust == "place":
            self.left_out = self.found
        elif before and (self.left_out or _lasts(earlier, self.certain, is_early=fraction < _EARLY)):
            self.left_out = _agreed([find_moving(*each) for each in zip(scores, before)])
        if any(each.any() for each in self.left_out):
            self._restrict()
            return True
        self.left_out = []
        return False

    def used(self) -> list[np.ndarray]:
        """Return which pixels (H, W) of each photo are not left out."""
        return [~enlarge(*each) for each in zip(self.left_out, self.factors, self.sizes)]

    def tensors(self) -> dict[str, Tensor]:
        """Return what continues exactly after ``restore``."""
        found = {name: _flat(getattr(self, name)) for name in _STATE if getattr(self, name)}
        return {"looks": torch.tensor(self.looks), **found}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from saved ``tensors``."""
        # Trainings that were begun before there were looks go on without.
        self.looks = int(tensors["looks"]) if "looks" in tensors else len(self.marks)
        shapes = [(height // f, width // f) for (height, width), f in zip(self.sizes, self.factors)]
        for name in _STATE:
            setattr(self, name, _shaped(tensors[name], shapes) if name in tensors else [])
        self._restrict()

    def _restrict(self) -> None:
        self.bank.restrict(self.used() or [np.ones(size, bool) for size in self.sizes])

    def _look(self, teacher: FieldTeacher, refine: Callable[[Rays, Tensor], Rays] | None) -> list[PhotoScore]:
        photos = [
            reduce_photo(camera, *self.bank.photo(index), teacher.background, factor)
            for index, (camera, factor) in enumerate(zip(self.cameras, self.factors))
        ]
        return score_photos(teacher, photos, teacher.field.level_scales.device, refine)


def _lasts(before: Sequence[np.ndarray], now: Sequence[np.ndarray], *, is_early: bool) -> bool:
    """Return whether what was found before is there still, and is enough to matter."""
    total = sum(each.size for each in now)
    first, second = (sum(int(each.sum()) for each in found) for found in (before, now))
    both = sum(int((a & b).sum()) for a, b in zip(before, now))
    _log.info(
        "moving things: %.2f %% of the pixels, then %.2f %%, of which %.2f %% were found before",
        *(100.0 * each / total for each in (first, second, both)),
    )
    min_area = _MIN_EARLY_AREA if is_early else _MIN_AREA
    return both > min_area * total and both >= _MIN_LASTING_AREA * first


def _agreed(found: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return what most processes found: on GPUs they may differ in a last bit, and must leave out the same."""
    return _shaped(distributed.average(_flat(found).float()) > 0.5, [each.shape for each in found])


def _flat(arrays: Sequence[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.concatenate([each.reshape(-1) for each in arrays]).astype(np.uint8))


def _shaped(flat: Tensor, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
    parts = np.split(flat.cpu().numpy().astype(bool), np.cumsum([h * w for h, w in shapes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes)]
