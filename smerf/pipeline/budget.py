"""The plan of a run that is granted minutes: sizes, steps and submodels from the machine's rate and the table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smerf.engine.pace import MAX_MINUTES
from smerf.engine.progress import format_seconds
from smerf.errors import UsageError
from smerf.pipeline.ladder import Expected, Rung, Table, rung_of

if TYPE_CHECKING:
    from smerf.pipeline.rates import Rates
    from smerf.student.division import Division

__all__ = ["MIN_MINUTES", "Facts", "Plan", "check_minutes", "make_plan"]

MIN_MINUTES = 1.0
_FIXED_SECONDS = 8.0
"""Starting, baking and exporting, on the table's machine."""
_EVAL_QUERIES, _BAKED_QUERIES = 5.0, 1.5
"""What measuring three stages, and the baked scene alone, costs a pixel of a held-out photo, in rays that the teacher
answers."""
_EVAL_FRACTION = 0.12
"""Part of the grant beyond which the baked scene alone is measured."""
_LOADS = 3
"""How often photos are read."""
_MIN_TRAIN_FRACTION = 0.5
"""Part of the grant that training and distilling get at least."""
_SUBMODEL_MINUTES = 0.75
"""Least that a submodel needs, on the table's machine."""
_MIN_STEPS = 10
_LOOK_COST = 1.6
"""A ray of the last look, relative to one that the teacher answers."""
_POOL_FRACTION, _LOOK_FRACTION, _MIN_RAYS = 0.12, 0.1, 16384
"""Largest parts of a distillation for filling its pool and for the last look, and the least rays of each."""


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of a capture."""

    kind: str
    """``object`` (before white) or ``scene``."""
    train: int
    """Photos to train on."""
    test: int
    """Photos that are held out."""
    size: tuple[int, int]
    """Pixels of the largest photo."""
    trains: bool = True
    """Whether a teacher is trained."""
    is_whole: bool = True
    """Whether the grant is for a whole run, not for one stage."""


@dataclass(frozen=True)
class Plan:
    """What a grant of time becomes."""

    minutes: float
    settings: dict[str, Any]
    """By dotted key."""
    train_seconds: float
    distill_seconds: float
    rest_seconds: float
    speed: float
    """Of this machine on this capture, relative to the table's."""
    rates: Rates
    expected: Expected
    division: Division
    photos: int
    """Of the capture, held-out ones included."""
    memory_mb: float | None = None
    """MiB that the run takes at its peak (``smerf.pipeline.footprint``), if that is known."""

    def overrides(self) -> tuple[str, ...]:
        """Return the settings as ``--set`` takes them."""
        return tuple(f"{key}={_yaml(value)}" for key, value in self.settings.items())

    def record(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return {
            "minutes": self.minutes,
            "seconds": {
                "train": self.train_seconds,
                "distill": self.distill_seconds,
                "rest": self.rest_seconds,
            },
            "speed": self.speed,
            "rates": vars(self.rates),
            "settings": self.settings,
            "partition": self.division.reason,
            "expected": vars(self.expected)
            | ({} if self.memory_mb is None else {"memory_mb": self.memory_mb}),
        }

    def line(self) -> str:
        """Return the plan in one line."""
        settings, parts = self.settings, [f"photos of at most {self.settings['max_side']} px"]
        if self.train_seconds:
            parts.append(f"train {settings['teacher.steps']} steps in {format_seconds(self.train_seconds)}")
        if self.distill_seconds:
            parts += [
                f"distill {settings['student.steps']} steps in {format_seconds(self.distill_seconds)}",
                f"grids of {settings['student.voxel_resolution']}",
                f"K = {self.division.edge} ({self.division.reason})",
            ]
        if self.rest_seconds:
            parts.append(f"{format_seconds(self.rest_seconds)} for the rest")
        return f"{self.minutes:g} min: {', '.join(parts)}; {self.expected.quality}"

    def sentence(self) -> str:
        """Return what the plan comes to, for people who have not decided yet."""
        expected, size = self.expected, self.expected.megabytes * self.division.submodels
        return (
            f"{self.photos} photos at {self.settings['max_side']} px take {format_seconds(60.0 * self.minutes)} and "
            f"{self._memory}, for {expected.quality} and a page of {expected.word} {size:.0f} MB"
        )

    @property
    def _memory(self) -> str:
        if self.memory_mb is None:
            return f"{self.expected.word} {self.expected.memory_mb * 2**20 / 1e9:.1f} GB of memory"
        return f"about {self.memory_mb * 2**20 / 1e9:.1f} GB of memory"

    def table(self) -> str:
        """Return what ``--dry-run`` prints."""
        word = self.expected.word
        rows = [
            ("time", f"{self.minutes:g} min at {self.speed:.2f} of the speed that the table was measured at"),
            ("train", format_seconds(self.train_seconds)),
            ("distill", format_seconds(self.distill_seconds)),
            ("rest", f"{format_seconds(self.rest_seconds)} (reading, baking, the page, measuring)"),
            ("submodels", f"{self.division.submodels}, K = {self.division.edge}: {self.division.reason}"),
            ("memory", self._memory.removesuffix(" of memory")),
            ("page", f"{word} {self.expected.megabytes * self.division.submodels:.0f} MB"),
            ("quality", f"{self.expected.quality}, PSNR of held-out photos"),
            *((key, str(value)) for key, value in self.settings.items()),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name.ljust(width)}  {text}" for name, text in rows)


def check_minutes(minutes: float) -> float:
    """Return a grant of time.

    Raises:
        UsageError: If it is not 1 to 600.
    """
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise UsageError(f"--minutes {minutes:g}: expected {MIN_MINUTES:g} to {MAX_MINUTES:g}")
    return minutes


def make_plan(
    minutes: float, facts: Facts, rates: Rates, table: Table, divide: Any, spent: float = 0.0
) -> Plan:
    """Divide a grant of time.

    Args:
        minutes: The grant.
        facts: Of the capture.
        rates: Of this machine on it.
        table: What was measured before.
        divide: Returns the ``Division`` for a largest number of submodels.
        spent: Seconds of the grant that are over.
    """
    speed = table.speed(facts.kind, rates, facts.trains)
    seconds = max(0.25 * 60.0 * minutes, 60.0 * minutes - spent)
    rung = rung_of(minutes * speed)
    rest = min(_rest(rung, facts, rates, speed, seconds), (1.0 - _MIN_TRAIN_FRACTION) * seconds)
    work = seconds - rest
    train = rung.share * work if facts.trains else 0.0
    distill = work - train
    division = divide(max(1, int(distill * speed / 60.0 / _SUBMODEL_MINUTES)))
    settings = rung.settings()
    settings["max_side"] = min(rung.max_side, max(facts.size))
    settings["student.partition"] = division.edge
    for key, part, cost in (("pool", _POOL_FRACTION, 1.0), ("occupied_rays", _LOOK_FRACTION, _LOOK_COST)):
        most = int(part * distill / division.submodels / (cost * rates.query))
        settings[f"student.{key}"] = max(_MIN_RAYS, min(settings[f"student.{key}"], most))
    if facts.trains:
        per_ray = rates.teacher * table.pace(facts.kind, "teacher", minutes * speed)
        settings["teacher.minutes"] = round(train / 60.0, 4)
        settings["teacher.steps"] = max(_MIN_STEPS, int(train / (per_ray * _rays("teacher"))))
    per_ray = rates.student * table.pace(facts.kind, "student", minutes * speed)
    share = distill / division.submodels
    settings["student.minutes"] = round(distill / 60.0, 4)
    settings["student.steps"] = max(_MIN_STEPS, int(share / (per_ray * _rays("student"))))
    return Plan(
        minutes,
        settings,
        train,
        distill,
        rest,
        speed,
        rates,
        table.expected(facts.kind, minutes * speed),
        division,
        facts.train + facts.test,
    )


def _rest(rung: Rung, facts: Facts, rates: Rates, speed: float, seconds: float) -> float:
    """Return which of some seconds everything but training and distilling takes."""
    # Photos are scaled down by whole factors.
    factor = math.ceil(max(facts.size) / rung.max_side)
    pixels = facts.test * facts.size[0] * facts.size[1] / factor**2
    loading = _LOADS * (facts.train + facts.test) * rates.photo
    if not facts.is_whole:
        return loading
    least, most = (queries * rates.query * pixels for queries in (_BAKED_QUERIES, _EVAL_QUERIES))
    measuring = min(most, max(least, _EVAL_FRACTION * seconds))
    return loading + _FIXED_SECONDS / max(speed, 1e-3) + measuring


def _rays(stage: str) -> int:
    from smerf.pipeline.config import make_config

    config = make_config("preview")
    return int(getattr(config, stage).rays)


def _yaml(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
