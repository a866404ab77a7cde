"""What submodels show each other, so that pictures don't jump where a camera crosses from cell to cell.

SMERF (arXiv 2312.07541, section 6.6) renders a step's rays a second time with a neighbouring submodel, and both learn
from the difference. Here one submodel's grids are in memory at a time: a finished submodel renders rays that its
neighbours serve too, and those trained after it learn these colours as they learn the teacher's, on a share of their
rays. Both also learn from the same teacher, so it makes little difference that the earlier one no longer moves.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.student.model import Student
from smerf.student.partition import Partition
from smerf.student.teacher_rays import TeacherBatch, TeacherRays

__all__ = ["Agreement", "show"]

_CHUNK = 16384
_MOST_DRAWS = 8
"""Draws, in multiples of the rays wanted, after which a submodel with little in common with others gives up."""


def show(
    student: Student, source: TeacherRays, partition: Partition, submodel: int, count: int
) -> dict[str, Tensor]:
    """Render ``count`` rays of a finished submodel that its neighbours serve too, or fewer if they are rare.

    Args:
        student: Holds that submodel alone.
        source: Where its rays come from.
        partition: All submodels.
        submodel: Which one it is among them.
        count: Rays to show.

    Returns:
        ``origins``, ``directions`` and ``colour``, (N, 3) each, over the student's background.
    """
    parts: list[dict[str, Tensor]] = []
    found = drawn = 0
    while found < count and drawn < _MOST_DRAWS * count:
        batch = source.fresh(min(_CHUNK, count))
        drawn += len(batch.rays)
        home, near = partition.served(batch.rays.origins)
        batch = batch[near.any(-1) | (home != submodel)]
        colour = student.render_rays(batch.rays, batch.edges, 0)
        parts.append({"origins": batch.rays.origins, "directions": batch.rays.directions, "colour": colour})
        found += len(colour)
    # Rays of a patch stand in one place, so patches are whole up to here.
    count -= count % source.pixels
    return {name: torch.cat([part[name] for part in parts])[:count] for name in parts[0]}


class Agreement:
    """The rays on which a submodel is to agree with neighbours that are finished.

    They are like the teacher's, but for their colour, which is what a neighbour shows.
    """

    def __init__(
        self,
        source: TeacherRays,
        shown: Iterable[dict[str, Tensor]],
        partition: Partition,
        submodel: int,
        background: tuple[float, float, float],
    ) -> None:
        """Keep, of what neighbours have shown over a background, what the submodel serves.

        ``source`` asks the teacher for intervals and weights, and says how many rays a patch has.
        """
        self.pixels = source.pixels
        parts = []
        for part in shown:
            home, near = partition.served(part["origins"])
            ours = near[:, submodel] | (home == submodel)
            rays = Rays(part["origins"][ours], part["directions"][ours], torch.zeros(int(ours.sum())))
            answer = source.ask(rays)
            rest = (1.0 - answer.weights.sum(-1, keepdim=True)).clamp_min(0.0)
            colour = part["colour"][ours] - rest * torch.tensor(background)
            parts.append(replace(answer, colour=colour))
        self._rays = functools.reduce(TeacherBatch.joined, parts) if parts else None

    def __len__(self) -> int:
        return 0 if self._rays is None else len(self._rays.rays)

    def sample(self, count: int, generator: torch.Generator) -> TeacherBatch:
        """Draw about ``count`` rays in whole patches."""
        count = max(1, count // self.pixels)
        first = torch.randint(len(self) // self.pixels, (count,), generator=generator) * self.pixels
        return self._rays[(first[:, None] + torch.arange(self.pixels)).flatten()]
