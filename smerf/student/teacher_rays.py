"""A stream of fresh teacher rays: a pool that the student draws from and that is renewed as it is used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.fields.ray_bank import RayBank
from smerf.fields.rays import Rays
from smerf.student.jitter import jitter
from smerf.teacher.model import Teacher

__all__ = ["TeacherBatch", "TeacherRays"]

_CHUNK = 16384
_EMPTY, _EMPTY_SHARE = 0.005, 0.125
_UNKNOWN = -1.0


@dataclass(frozen=True)
class TeacherBatch:
    """Rays with the teacher's interval ends (R, S + 1), weights (R, S) and colour over black (R, 3).

    ``rows`` (R,) are their places in the pool, if they come from it.
    """

    rays: Rays
    edges: Tensor
    weights: Tensor
    colour: Tensor
    rows: Tensor | None = None

    def __getitem__(self, index: Tensor) -> TeacherBatch:
        rows = None if self.rows is None else self.rows[index]
        return TeacherBatch(
            self.rays[index], self.edges[index], self.weights[index], self.colour[index], rows
        )


class TeacherRays:
    """Jittered training rays, answered by the teacher."""

    def __init__(
        self,
        teacher: Teacher,
        bank: RayBank,
        size: int,
        *,
        origin_jitter: float,
        direction_jitter: float,
        generator: torch.Generator,
    ) -> None:
        self.teacher, self.bank, self.size = teacher, bank, size
        self._noise = origin_jitter, direction_jitter
        self._generator = generator
        self._next = 0
        self._data = {
            "origins": torch.empty(size, 3),
            "directions": torch.empty(size, 3),
            "edges": torch.empty(size, teacher.samples + 1),
            "weights": torch.empty(size, teacher.samples),
            "colour": torch.empty(size, 3),
        }
        self._error = torch.full((size,), _UNKNOWN)
        self._mean_error = 1.0
        self.filled = 0

    def renew(self, count: int) -> TeacherBatch:
        """Answer ``count`` fresh rays, put them in place of the oldest ones, and return them.

        Of the rays that meet nothing, which teach little, one in eight is kept.
        """
        batch = self.fresh(count)
        is_empty = batch.weights.sum(-1) < _EMPTY
        keep = ~is_empty | (torch.rand(count, generator=self._generator) < _EMPTY_SHARE)
        if not keep.all():
            batch = batch[keep]
            count = len(batch.rays)
        where = (torch.arange(count) + self._next) % self.size
        for name, value in (
            ("origins", batch.rays.origins),
            ("directions", batch.rays.directions),
            ("edges", batch.edges),
            ("weights", batch.weights),
            ("colour", batch.colour),
        ):
            self._data[name][where] = value
        self._error[where] = _UNKNOWN
        self._next = (self._next + count) % self.size
        self.filled = min(self.size, self.filled + count)
        return batch

    def fresh(self, count: int) -> TeacherBatch:
        """Answer ``count`` fresh jittered rays, without storing them."""
        rays = jitter(self.bank.sample(count, self._generator).rays, *self._noise, self._generator)
        answers = [self.teacher.query(rays[start : start + _CHUNK]) for start in range(0, count, _CHUNK)]
        return TeacherBatch(
            rays,
            torch.cat([a.edges for a in answers]),
            torch.cat([a.weights for a in answers]),
            torch.cat([a.colour for a in answers]),
        )

    def sample(self, count: int) -> TeacherBatch:
        """Draw ``count`` random rays of the pool, those with a large error more often.

        Of twice as many candidates, a ray is taken with a chance that grows with its share of the mean error.
        """
        index = torch.randint(self.filled, (2 * count,), generator=self._generator)
        error = self._error[index]
        share = torch.where(error < 0.0, 1.0, error / self._mean_error).clamp(0.1, 10.0)
        race = torch.rand(2 * count, generator=self._generator).log() / share
        index = index[race.topk(count, sorted=False).indices]
        data = {name: value[index] for name, value in self._data.items()}
        rays = Rays(data["origins"], data["directions"], torch.zeros(count))
        return TeacherBatch(rays, data["edges"], data["weights"], data["colour"], index)

    def note_errors(self, rows: Tensor, errors: Tensor) -> None:
        """Remember the student's errors (R,) on the rays at ``rows`` (R,) of the pool."""
        self._error[rows] = errors
        self._mean_error += 0.1 * (max(float(errors.mean()), 1e-6) - self._mean_error)
