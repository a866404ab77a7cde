"""Exposure: what the appearance networks are told of it, and what it makes of the teacher's colours.

SMERF (arXiv 2312.07541, section 4.3): a network reads logit(feature) + log(E) in place of each feature, E = shutter
seconds x ISO / 1000. The diffuse colour that is added to what the network says is not exposed.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.errors import UsageError
from smerf.student.config import StudentConfig
from smerf.teacher.model import Teacher

__all__ = ["Exposures", "expose", "exposures_of", "shown_exposure"]

_LEAST = 1e-7


@dataclass(frozen=True)
class Exposures:
    """The training photos' exposures.

    ``logs`` (N,) are log E, ``factors`` (N, 3) what each makes of the teacher's colours, ``shown`` is log E of the
    median photo, with which the scene is shown.
    """

    logs: Tensor
    factors: Tensor
    shown: float

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw the exposures of ``count`` random photos: log E (count,) and factors (count, 3)."""
        index = torch.randint(len(self.logs), (count,), generator=generator, device=self.logs.device)
        return self.logs[index], self.factors[index]


def shown_exposure(config: StudentConfig, teacher: Teacher) -> float | None:
    """Return log E of the median photo, or None if the networks are told of no exposure.

    Raises:
        UsageError: If they are to be told, but the teacher knows of none.
    """
    if not config.exposure:
        return None
    known = getattr(teacher, "exposures", ())
    if not known:
        raise UsageError(
            "student.exposure: the teacher knows of no exposures; train it with teacher.exposure=gain or learned, on "
            "photos that carry them, or set student.exposure=false"
        )
    # Of two in the middle the lower one: the teacher's colours are those of a photo.
    return math.log(statistics.median_low(known))


def exposures_of(config: StudentConfig, teacher: Teacher, device: torch.device | str) -> Exposures | None:
    """Return what a student learns of exposures; raises as ``shown_exposure`` does."""
    shown = shown_exposure(config, teacher)
    if shown is None:
        return None
    relative, factors = teacher.exposure.table()
    return Exposures(relative.log().to(device) + shown, factors.to(device), shown)


def expose(features: Tensor, log_exposure: Tensor | float) -> Tensor:
    """Return what a network reads in place of composited features (R, 14): logit(feature) + log E, (R, 1) or one."""
    return torch.logit(features.clamp(_LEAST, 1.0 - _LEAST)) + log_exposure
