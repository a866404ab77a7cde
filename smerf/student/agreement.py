"""What submodels show each other, so that pictures don't jump where a camera crosses from cell to cell.

SMERF (arXiv 2312.07541, section 6.6) renders a step's rays a second time with a neighbouring submodel, and both learn
from the difference. Here one submodel's grids are in memory at a time: a finished submodel renders rays that its
neighbours serve too, and those trained after it learn from the difference to these colours. Both also learn from the
same teacher, so it makes little difference that the earlier one no longer moves.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.student.model import Student
from smerf.student.partition import Partition
from smerf.student.teacher_rays import TeacherRays
from smerf.teacher.model import Teacher

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
    if not parts:
        return {name: torch.zeros(0, 3) for name in ("origins", "directions", "colour")}
    return {name: torch.cat([part[name] for part in parts])[:count] for name in parts[0]}


class Agreement:
    """The rays on which a submodel is to agree with neighbours that are finished."""

    def __init__(
        self, teacher: Teacher, shown: Iterable[dict[str, Tensor]], partition: Partition, submodel: int
    ) -> None:
        """Keep, of what neighbours have shown, the rays that the submodel serves; the teacher places the samples."""
        origins, directions, colours = [torch.zeros(0, 3)], [torch.zeros(0, 3)], [torch.zeros(0, 3)]
        for part in shown:
            home, near = partition.served(part["origins"])
            ours = near[:, submodel] | (home == submodel)
            origins.append(part["origins"][ours])
            directions.append(part["directions"][ours])
            colours.append(part["colour"][ours])
        start = torch.cat(origins)
        self.rays = Rays(start, torch.cat(directions), torch.zeros(len(start)))
        self.colour = torch.cat(colours)
        answers = [teacher.query(self.rays[i : i + _CHUNK]).edges for i in range(0, len(start), _CHUNK)]
        self.edges = torch.cat(answers) if answers else torch.zeros(0, teacher.samples + 1)

    def __len__(self) -> int:
        return len(self.colour)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Rays, Tensor, Tensor]:
        """Draw rays, with their interval ends (R, S + 1) and the colours (R, 3) to agree with."""
        index = torch.randint(len(self), (count,), generator=generator)
        return self.rays[index], self.edges[index], self.colour[index]
