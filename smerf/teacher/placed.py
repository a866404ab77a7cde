"""Where a file that is a teacher lies in training space, and what its teachers know of that."""

from __future__ import annotations

from dataclasses import dataclass

from smerf.capture.types import Similarity
from smerf.fields.rays import Spacing

__all__ = ["PlacedTeacher", "Placement"]


@dataclass(frozen=True)
class Placement:
    """How a file of splats or triangles is put before a student."""

    training_from_source: Similarity
    """From the file's space to training space."""
    spacing: Spacing
    """Of intervals along rays, in training units."""
    scene_scale: float
    """Factor from training units to the student's grids."""
    background: float
    """Grey level behind the scene when rendering."""
    samples: int = 32
    """Intervals of each ray."""


class PlacedTeacher:
    """What every ``smerf.teacher.model.Teacher`` of a file has; none has density and colour at points."""

    tests_nearby = False
    """Whether intervals are dense also where rays pass close to a surface without meeting it."""

    def __init__(self, placement: Placement) -> None:
        self.place = placement.training_from_source
        self.spacing, self.scene_scale = placement.spacing, placement.scene_scale
        self.background, self.samples = placement.background, placement.samples
