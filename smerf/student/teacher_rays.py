"""A stream of fresh teacher rays: a pool that the student draws from and that is renewed as it is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smerf.fields.ray_bank import RayBank
from smerf.fields.rays import Rays
from smerf.student.exposure import Exposures
from smerf.student.jitter import jitter, look_anywhere
from smerf.teacher.model import Teacher

__all__ = ["TeacherBatch", "TeacherRays"]

_CHUNK = 16384
_EMPTY, _EMPTY_SHARE = 0.005, 0.125
_UNKNOWN = -1.0
_RAY_PARTS = ("origins", "directions", "radii")


@dataclass(frozen=True)
class TeacherBatch:
    """Rays with the teacher's interval ends (R, S + 1), weights (R, S) and colour over black (R, 3).

    ``rows`` (N,), N <= R, are the places in the pool of the first N rays' patches, if they come from it;
    ``log_exposure`` (R,) is log E of the photos that they are from, if the student is told.
    """

    rays: Rays
    edges: Tensor
    weights: Tensor
    colour: Tensor
    rows: Tensor | None = None
    log_exposure: Tensor | None = None

    def __getitem__(self, index: Tensor) -> TeacherBatch:
        rows, logs = (None if each is None else each[index] for each in (self.rows, self.log_exposure))
        return TeacherBatch(
            self.rays[index], self.edges[index], self.weights[index], self.colour[index], rows, logs
        )

    def joined(self, other: TeacherBatch) -> TeacherBatch:
        """Return these rays, and behind them others; ``rows`` speak of these alone."""
        rays = Rays(*(torch.cat([getattr(b.rays, n) for b in (self, other)]) for n in _RAY_PARTS))
        parts = (torch.cat([getattr(b, n) for b in (self, other)]) for n in ("edges", "weights", "colour"))
        one, two = self.log_exposure, other.log_exposure
        logs = None if one is None or two is None else torch.cat([one, two])
        return TeacherBatch(rays, *parts, self.rows, logs)


class TeacherRays:
    """Jittered patches of training rays, answered by the teacher; the rays of a patch stay together."""

    def __init__(
        self,
        teacher: Teacher,
        bank: RayBank,
        size: int,
        *,
        patch: int = 1,
        origin_jitter: float,
        direction_jitter: float,
        between: float = 0.0,
        around: float = 0.0,
        generator: torch.Generator,
        share: Callable[[Tensor], Tensor] | None = None,
        exposures: Exposures | None = None,
    ) -> None:
        """Start empty: room for ``size`` rays, rounded down to patches of ``patch``^2.

        A share ``between`` of the patches is from cameras between the photos', and a share ``around`` of those looks
        anywhere. ``share`` takes the jittered origins (N, 3) of patches to the chance (N,) with which each is taken.
        With ``exposures`` every patch is seen with that of a random photo.
        """
        self.teacher, self.bank, self.share, self.exposures = teacher, bank, share, exposures
        self.patch, self.pixels = patch, patch * patch
        self._patches = max(1, size // self.pixels)
        self._noise, self._between, self._around = (origin_jitter, direction_jitter), between, around
        self._generator = generator
        self._next = self._held = 0
        shape = self._patches, self.pixels
        self._data = {
            "origins": torch.empty(*shape, 3),
            "directions": torch.empty(*shape, 3),
            "edges": torch.empty(*shape, teacher.samples + 1),
            "weights": torch.empty(*shape, teacher.samples),
            "colour": torch.empty(*shape, 3),
        }
        if exposures:
            self._data["log_exposure"] = torch.empty(*shape, 1)
        self._error = torch.full((self._patches,), _UNKNOWN)
        self._mean_error = 1.0

    @property
    def size(self) -> int:
        """Return the number of rays that there is room for."""
        return self._patches * self.pixels

    @property
    def filled(self) -> int:
        """Return the number of rays that are there."""
        return self._held * self.pixels

    def renew(self, count: int) -> TeacherBatch:
        """Answer about ``count`` fresh rays, put them in place of the oldest ones, and return them.

        Of the patches that meet nothing, which teach little, one in eight is kept.
        """
        batch = self.fresh(min(count, self.size))
        opacity = batch.weights.sum(-1).view(-1, self.pixels).amax(-1)
        chance = torch.rand(len(opacity), generator=self._generator)
        keep = (opacity >= _EMPTY) | (chance < _EMPTY_SHARE)
        if not keep.all():
            batch = batch[keep.repeat_interleave(self.pixels)]
        count = int(keep.sum())
        where = (torch.arange(count) + self._next) % self._patches
        for name, value in (
            ("origins", batch.rays.origins),
            ("directions", batch.rays.directions),
            ("edges", batch.edges),
            ("weights", batch.weights),
            ("colour", batch.colour),
            ("log_exposure", batch.log_exposure),
        ):
            if value is not None:
                self._data[name][where] = value.view(count, self.pixels, -1)
        self._error[where] = _UNKNOWN
        self._next = (self._next + count) % self._patches
        self._held = min(self._patches, self._held + count)
        return batch

    def fresh(self, count: int) -> TeacherBatch:
        """Answer ``count`` fresh jittered rays, rounded up to patches, without storing them."""
        batch = self.ask(self._draw(-(-count // self.pixels)))
        if self.exposures is None:
            return batch
        drawn = self.exposures.draw(len(batch.rays) // self.pixels, self._generator)
        logs, factors = (each.repeat_interleave(self.pixels, 0) for each in drawn)
        return replace(batch, colour=batch.colour * factors, log_exposure=logs)

    def ask(self, rays: Rays) -> TeacherBatch:
        """Return the teacher's answer to rays, with the exposure that the scene is shown with."""
        answers = [self.teacher.query(rays[start : start + _CHUNK]) for start in range(0, len(rays), _CHUNK)]
        shown = self.exposures and torch.full((len(rays),), self.exposures.shown)
        return TeacherBatch(
            rays,
            torch.cat([a.edges for a in answers]),
            torch.cat([a.weights for a in answers]),
            torch.cat([a.colour for a in answers]),
            log_exposure=shown,
        )

    def _draw(self, count: int) -> Rays:
        """Draw ``count`` jittered patches of rays that are ours to take."""
        parts, found = [], 0
        while found < count:
            rays = self._views(count)
            rays = jitter(rays, *self._noise, self._generator, self.pixels)
            if self.share is None:
                return rays
            chance = torch.rand(count, generator=self._generator)
            ours = chance < self.share(rays.origins[:: self.pixels])
            parts.append(rays[ours.repeat_interleave(self.pixels)])
            found += int(ours.sum())
        joined = Rays(*(torch.cat([getattr(p, n) for p in parts]) for n in _RAY_PARTS))
        return joined[: count * self.pixels]

    def _views(self, count: int) -> Rays:
        """Draw ``count`` patches of training photos and of cameras between them, in random order."""
        between = round(self._between * count)
        if not between:
            return self.bank.sample_patches(count, self.patch, self._generator)
        unseen = self.bank.sample_between(between, self.patch, self._generator)
        parts = [
            self.bank.sample_patches(count - between, self.patch, self._generator),
            look_anywhere(unseen, self._around, self._generator, self.pixels),
        ]
        rays = Rays(*(torch.cat([getattr(p, n) for p in parts]) for n in _RAY_PARTS))
        order = torch.randperm(count, generator=self._generator)[:, None] * self.pixels
        return rays[(order + torch.arange(self.pixels)).flatten()]

    def sample(self, count: int) -> TeacherBatch:
        """Draw about ``count`` rays in random patches of the pool, those with a large error more often.

        Of twice as many candidates, a patch is taken with a chance that grows with its share of the mean error.
        """
        count = max(1, count // self.pixels)
        index = torch.randint(self._held, (2 * count,), generator=self._generator)
        error = self._error[index]
        share = torch.where(error < 0.0, 1.0, error / self._mean_error).clamp(0.1, 10.0)
        race = torch.rand(2 * count, generator=self._generator).log() / share
        index = index[race.topk(count, sorted=False).indices]
        data = {name: value[index].flatten(0, 1) for name, value in self._data.items()}
        rays = Rays(data["origins"], data["directions"], torch.zeros(count * self.pixels))
        rows = index.repeat_interleave(self.pixels)
        logs = data["log_exposure"].view(-1) if self.exposures else None
        return TeacherBatch(rays, data["edges"], data["weights"], data["colour"], rows, logs)

    def note_errors(self, rows: Tensor, errors: Tensor) -> None:
        """Remember the student's errors (R,) on rays whose patches are at ``rows`` (R,) of the pool."""
        self._error[rows[:: self.pixels]] = errors.view(-1, self.pixels).mean(-1)
        self._mean_error += 0.1 * (max(float(errors.mean()), 1e-6) - self._mean_error)
