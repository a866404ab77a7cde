"""Teacher rays: sampled around the training cameras, answered by the teacher, and kept in a pool for many steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from smerf.errors import UsageError
from smerf.fields.ray_bank import RayBank
from smerf.fields.rays import Rays
from smerf.student.config import StudentConfig
from smerf.teacher.model import Teacher

__all__ = [
    "Exposures",
    "RayPool",
    "TeacherBatch",
    "TeacherRays",
    "exposures_of",
    "jitter",
    "random_rotations",
    "rotate_at_random",
    "shown_exposure",
]

_CHUNK = 16384
_EMPTY, _EMPTY_FRACTION = 0.005, 0.125
_UNKNOWN = -1.0


@dataclass(frozen=True)
class TeacherBatch:
    """Rays with the teacher's interval ends (R, S + 1), weights (R, S) and colour over black (R, 3).

    ``rows`` (N,), N <= R, are the places in the pool of the first N rays' patches, if they come from it;
    ``log_exposure`` (R,) is log E of the photos that they are from, if the student is conditioned on it.
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
        """Concatenate two batches; ``rows`` indexes the first."""
        edges, weights, colour = (
            torch.cat([getattr(b, n) for b in (self, other)]) for n in ("edges", "weights", "colour")
        )
        one, two = self.log_exposure, other.log_exposure
        logs = None if one is None or two is None else torch.cat([one, two])
        rays = _concatenate([self.rays, other.rays])
        return TeacherBatch(rays, edges, weights, colour, self.rows, logs)


def _concatenate(parts: list[Rays]) -> Rays:
    return Rays(*(torch.cat([getattr(p, n) for p in parts]) for n in ("origins", "directions", "radii")))


def random_rotations(count: int, fraction: float | Tensor, generator: torch.Generator) -> Tensor:
    """Sample rotations (count, 3, 3): a uniform random one's axis, and ``fraction``, one or (count,), of its angle
    in [0, pi] (SMERF, arXiv 2312.07541, section 6.2).
    """
    quaternion = torch.randn(count, 4, generator=generator)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    w = quaternion[:, 0].abs().clamp_max(1.0)
    axis = quaternion[:, 1:] * torch.sign(quaternion[:, :1])
    axis = axis / axis.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    angle = 2.0 * torch.acos(w) * fraction
    x, y, z = axis.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).view(-1, 3, 3)
    sin, cos = torch.sin(angle)[:, None, None], torch.cos(angle)[:, None, None]
    return torch.eye(3) + sin * cross + (1.0 - cos) * (cross @ cross)


def jitter(
    rays: Rays, origin_sigma: float, direction_fraction: float, generator: torch.Generator, group: int = 1
) -> Rays:
    """Move origins by Gaussian noise and rotate directions by at most ``direction_fraction`` * pi.

    Rays in a row move together, ``group`` at a time.
    """
    count = len(rays) // group
    shift = origin_sigma * torch.randn(count, 3, generator=generator)
    origins = rays.origins + shift.repeat_interleave(group, 0)
    rotations = random_rotations(count, direction_fraction, generator).repeat_interleave(group, 0)
    directions = torch.einsum("rij,rj->ri", rotations, rays.directions)
    return Rays(origins, directions / directions.norm(dim=-1, keepdim=True), rays.radii)


def rotate_at_random(rays: Rays, fraction: float, generator: torch.Generator, group: int = 1) -> Rays:
    """Rotate the directions of a fraction of the rays uniformly at random, ``group`` in a row together."""
    count = len(rays) // group
    is_rotated = (torch.rand(count, generator=generator) < fraction).float()
    rotations = random_rotations(count, is_rotated, generator).repeat_interleave(group, 0)
    return Rays(rays.origins, torch.einsum("rij,rj->ri", rotations, rays.directions), rays.radii)


@dataclass(frozen=True)
class Exposures:
    """The training photos' exposures.

    ``logs`` (N,) are log E, E = shutter seconds x ISO / 1000 (SMERF, arXiv 2312.07541, section 4.3); ``factors``
    (N, 3) multiply the teacher's colours; ``shown`` is log E of the median photo, with which the scene is shown.
    """

    logs: Tensor
    factors: Tensor
    shown: float

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample the exposures of ``count`` random photos: log E (count,) and factors (count, 3)."""
        index = torch.randint(len(self.logs), (count,), generator=generator, device=self.logs.device)
        return self.logs[index], self.factors[index]


def shown_exposure(config: StudentConfig, teacher: Teacher) -> float | None:
    """Return log E of the median photo, or None if the networks are not conditioned on exposure.

    Raises:
        UsageError: If they are to be, but the teacher knows no exposures.
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
    """Return the exposures that a student is conditioned on; raises as ``shown_exposure`` does."""
    shown = shown_exposure(config, teacher)
    if shown is None:
        return None
    relative, factors = teacher.exposure.table()  # type: ignore[attr-defined]
    return Exposures(relative.log().to(device) + shown, factors.to(device), shown)


class TeacherRays:
    """Jittered patches of training rays with the teacher's answers; the rays of a patch stay together."""

    def __init__(
        self,
        teacher: Teacher,
        bank: RayBank,
        config: StudentConfig,
        generator: torch.Generator,
        *,
        acceptance: Callable[[Tensor], Tensor] | None = None,
        exposures: Exposures | None = None,
    ) -> None:
        """Sample around a bank's cameras, as configured.

        Args:
            teacher: Answers the rays.
            bank: The photos' cameras.
            config: Patch size, jitter, and fraction of interpolated views (resolved).
            generator: The only source of randomness.
            acceptance: Takes the jittered origins (N, 3) of patches to the probability (N,) with which each is kept.
            exposures: If given, every patch is seen with that of a random photo.
        """
        self.teacher, self.bank, self.config = teacher, bank, config
        self.generator, self.acceptance, self.exposures = generator, acceptance, exposures
        self.pixels = config.patch**2

    def sample(self, count: int) -> TeacherBatch:
        """Return ``count`` new rays, rounded up to patches: jittered ones, and the photos' own."""
        own = round(self.config.photo_fraction * count) if self.pixels == 1 and not self.exposures else 0
        batch = self.query(self._sample_rays(-(-(count - own) // self.pixels)))
        if own:
            return self._shuffled(batch.joined(self._sample_photos(own)))
        if self.exposures is None:
            return batch
        sampled = self.exposures.sample(len(batch.rays) // self.pixels, self.generator)
        logs, factors = (each.repeat_interleave(self.pixels, 0) for each in sampled)
        return replace(batch, colour=batch.colour * factors, log_exposure=logs)

    def query(self, rays: Rays) -> TeacherBatch:
        """Return the teacher's answer to rays, with the exposure that the scene is shown with."""
        answers = [self.teacher.query(rays[start : start + _CHUNK]) for start in range(0, len(rays), _CHUNK)]
        return TeacherBatch(
            rays,
            torch.cat([a.edges for a in answers]),
            torch.cat([a.weights for a in answers]),
            torch.cat([a.colour for a in answers]),
            log_exposure=None if self.exposures is None else torch.full((len(rays),), self.exposures.shown),
        )

    def _sample_photos(self, count: int) -> TeacherBatch:
        """Return ``count`` rays of the photos' pixels: the teacher's intervals and weights, the photos' colours."""
        parts, found = [], 0
        while found < count:
            pixels = self.bank.gather(torch.randint(len(self.bank), (count,), generator=self.generator))
            if self.acceptance is not None:
                threshold = torch.rand(count, generator=self.generator)
                pixels = pixels[threshold < self.acceptance(pixels.rays.origins)]
            parts.append(pixels)
            found += len(pixels.rays)
        rays = _concatenate([part.rays for part in parts])[:count]
        colours, alpha = (
            torch.cat([getattr(p, name) for p in parts])[:count] for name in ("colours", "alpha")
        )
        batch = self.query(rays)
        # Photos without transparency show something everywhere; what the teacher misses is the background's.
        opacity = alpha if self.bank.has_alpha else batch.weights.sum(-1, keepdim=True).clamp_max(1.0)
        return replace(batch, colour=colours * opacity)

    def _shuffled(self, batch: TeacherBatch) -> TeacherBatch:
        return batch[torch.randperm(len(batch.rays), generator=self.generator)]

    def _sample_rays(self, count: int) -> Rays:
        """Sample ``count`` jittered patches of rays that are accepted."""
        noise = self.config.origin_jitter, self.config.direction_jitter
        parts, found = [], 0
        while found < count:
            rays = jitter(self._sample_views(count), *noise, self.generator, self.pixels)
            if self.acceptance is None:
                return rays
            threshold = torch.rand(count, generator=self.generator)
            ours = threshold < self.acceptance(rays.origins[:: self.pixels])
            parts.append(rays[ours.repeat_interleave(self.pixels)])
            found += int(ours.sum())
        return _concatenate(parts)[: count * self.pixels]

    def _sample_views(self, count: int) -> Rays:
        """Sample ``count`` patches of training photos and of cameras between them, in random order."""
        config, generator = self.config, self.generator
        between = round((config.view_interpolation or 0.0) * count)
        if not between:
            return self.bank.sample_patches(count, config.patch, generator)
        interpolated = self.bank.sample_between(between, config.patch, generator)
        rays = _concatenate(
            [
                self.bank.sample_patches(count - between, config.patch, generator),
                rotate_at_random(interpolated, config.random_rotation, generator, self.pixels),
            ]
        )
        order = torch.randperm(count, generator=generator)[:, None] * self.pixels
        return rays[(order + torch.arange(self.pixels)).flatten()]


@dataclass(frozen=True)
class _Refill:
    """What it takes to repeat a refill: the generator's state before it, rays asked for, patches that it kept."""

    generator: Tensor
    rays: int
    patches: int


class RayPool:
    """A ring of patches of teacher rays that a step samples from, and that is refilled as it is used.

    A checkpoint holds no rays, but the generator's states before the refills that the pool consists of: sampling and
    querying them again gives the same rays.
    """

    def __init__(self, source: TeacherRays, size: int) -> None:
        """Start empty, with room for ``size`` rays, rounded down to patches."""
        self.source, self.pixels = source, source.pixels
        self._patches = max(1, size // self.pixels)
        shape, samples = (self._patches, self.pixels), source.teacher.samples
        widths = {"origins": 3, "directions": 3, "edges": samples + 1, "weights": samples, "colour": 3}
        if source.exposures:
            widths["log_exposure"] = 1
        self._data = {name: torch.empty(*shape, width) for name, width in widths.items()}
        self._error = torch.full((self._patches,), _UNKNOWN)
        self._mean_error = 1.0
        self._refills: list[_Refill] = []
        self._next = self._held = 0

    @property
    def size(self) -> int:
        """Return the number of rays that there is room for."""
        return self._patches * self.pixels

    @property
    def filled(self) -> int:
        """Return the number of rays that are there."""
        return self._held * self.pixels

    def refill(self, count: int) -> TeacherBatch:
        """Sample about ``count`` new rays, put them in place of the oldest ones, and return them.

        Of the patches that meet nothing, which teach little, one in eight is kept.
        """
        generator = self.source.generator
        before, asked = generator.get_state(), min(count, self.size)
        batch = self.source.sample(asked)
        opacity = batch.weights.sum(-1).view(-1, self.pixels).amax(-1)
        chance = torch.rand(len(opacity), generator=generator)
        keep = (opacity >= _EMPTY) | (chance < _EMPTY_FRACTION)
        if not keep.all():
            batch = batch[keep.repeat_interleave(self.pixels)]
        kept = int(keep.sum())
        self._store(batch, kept)
        self._refills.append(_Refill(before, asked, kept))
        while sum(one.patches for one in self._refills[1:]) >= self._patches:
            del self._refills[0]
        return batch

    def _store(self, batch: TeacherBatch, count: int) -> None:
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

    def sample(self, count: int) -> TeacherBatch:
        """Sample about ``count`` rays in random patches of the pool, those with a large error more often.

        Of twice as many candidates, a patch is taken with a probability that grows with its error, relative to the
        mean.
        """
        count, generator = max(1, count // self.pixels), self.source.generator
        index = torch.randint(self._held, (2 * count,), generator=generator)
        error = self._error[index]
        priority = torch.where(error < 0.0, 1.0, error / self._mean_error).clamp(0.1, 10.0)
        race = torch.rand(2 * count, generator=generator).log() / priority
        index = index[race.topk(count, sorted=False).indices]
        data = {name: value[index].flatten(0, 1) for name, value in self._data.items()}
        rays = Rays(data["origins"], data["directions"], torch.zeros(count * self.pixels))
        rows = index.repeat_interleave(self.pixels)
        logs = data["log_exposure"].view(-1) if self.source.exposures else None
        return TeacherBatch(rays, data["edges"], data["weights"], data["colour"], rows, logs)

    def held(self) -> Iterator[TeacherBatch]:
        """Return all rays of the pool, some at a time."""
        chunk = max(1, _CHUNK // self.pixels)
        for start in range(0, self._held, chunk):
            stop = min(self._held, start + chunk)
            data = {name: value[start:stop].flatten(0, 1) for name, value in self._data.items()}
            rays = Rays(data["origins"], data["directions"], torch.zeros(len(data["origins"])))
            yield TeacherBatch(rays, data["edges"], data["weights"], data["colour"])

    def note_errors(self, rows: Tensor, errors: Tensor) -> None:
        """Remember the student's errors (R,) on rays whose patches are at ``rows`` (R,) of the pool."""
        self._error[rows[:: self.pixels]] = errors.view(-1, self.pixels).mean(-1)
        self._mean_error += 0.1 * (max(float(errors.mean()), 1e-6) - self._mean_error)

    def tensors(self) -> dict[str, Tensor]:
        """Return what ``restore`` needs beside ``state``, by name."""
        return {"error": self._error, "generators": torch.stack([one.generator for one in self._refills])}

    def state(self) -> dict[str, object]:
        """Return what ``restore`` needs beside ``tensors``, as JSON values."""
        refills = [(one.rays, one.patches) for one in self._refills]
        return {"next": self._next, "refills": refills, "mean_error": self._mean_error}

    def restore(self, tensors: dict[str, Tensor], state: dict) -> None:
        """Sample the same rays again. The generator is left elsewhere: set its state afterwards."""
        refills, states = state["refills"], tensors["generators"].cpu()
        generator = self.source.generator
        if states.shape[1] != generator.get_state().numel():
            # Saved on another kind of device, whose numbers can't be repeated here: other rays do as well.
            while self.filled < self.size:
                self.refill(2 * _CHUNK)
            return
        self._next = (state["next"] - sum(patches for _, patches in refills)) % self._patches
        for (rays, patches), before in zip(refills, states, strict=True):
            # A copy is aligned as set_state reads it.
            generator.set_state(before.clone())
            self.refill(rays)
            if self._refills[-1].patches != patches:
                raise ValueError("the teacher answers differently than when the checkpoint was written")
        self._error.copy_(tensors["error"])
        self._mean_error = state["mean_error"]
