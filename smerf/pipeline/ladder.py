"""What the minutes buy: the settings for each amount of work, and the table of what they came to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from smerf.engine.files import data_folder, read_json
from smerf.pipeline.rates import Rates

__all__ = ["LADDER", "Expected", "Rung", "Table", "rung_of"]

_UNIT = "unit.json"
"""The document of the machine whose minutes are the unit of work."""
_ALIKE = 1.0
"""Decibels by which captures of a kind differ at most to be promised one figure."""
_PHOTO_FRACTION = 0.5
"""Photos teach the student what a teacher that was trained for minutes has not learnt."""


@dataclass(frozen=True)
class Rung:
    """Settings from an amount of work on: minutes of the machine on which the table was measured."""

    minutes: float
    max_side: int
    """Pixels of the photos' longer side."""
    share: float
    """Fraction of the time of training and distilling that is the teacher's."""
    voxel_resolution: int
    max_blocks: int
    """Voxel blocks up to which resolutions are doubled."""
    pool: int
    occupied_rays: int
    lattice: int

    def settings(self) -> dict[str, Any]:
        """Return the settings by dotted key, but for time, steps and submodels."""
        return {
            "max_side": self.max_side,
            "student.voxel_resolution": self.voxel_resolution,
            "student.plane_resolution": 4 * self.voxel_resolution,
            "student.max_blocks": self.max_blocks,
            "student.pool": self.pool,
            "student.occupied_rays": self.occupied_rays,
            "student.lattice": self.lattice,
            "student.photo_fraction": _PHOTO_FRACTION,
        }


LADDER = (
    Rung(0.0, 320, 0.45, 64, 0, 131072, 65536, 1),
    Rung(0.5, 480, 0.45, 128, 0, 131072, 65536, 1),
    Rung(1.5, 480, 0.45, 128, 0, 262144, 131072, 3),
    Rung(3.0, 480, 0.45, 256, 0, 524288, 262144, 3),
    Rung(6.0, 640, 0.40, 256, 16384, 524288, 524288, 5),
    Rung(12.0, 960, 0.40, 256, 16384, 1048576, 524288, 5),
    Rung(24.0, 1280, 0.40, 256, 32768, 1048576, 1048576, 5),
    Rung(48.0, 1600, 0.40, 256, 65536, 2097152, 1048576, 5),
)
"""From little work to much; nothing becomes smaller on the way."""


def rung_of(work: float) -> Rung:
    """Return the rung for an amount of work, in minutes of the table's machine."""
    return [rung for rung in LADDER if rung.minutes <= max(0.0, work)][-1]


@dataclass(frozen=True)
class Expected:
    """What a plan comes to, as far as captures of its kind were measured."""

    psnr: float
    """Mean over these captures."""
    range: tuple[float, float]
    """Least and most of them."""
    megabytes: float
    memory_mb: float
    is_beyond: bool = False
    """Whether the work is more than was measured: then these are the values of the most that was."""

    @property
    def word(self) -> str:
        """Return how sure the values are, for people."""
        return "at least" if self.is_beyond else "about"

    @property
    def quality(self) -> str:
        """Return the PSNR in words, and how much captures differ, if they do."""
        low, high = self.range
        if high - low < _ALIKE:
            return f"{self.word} {self.psnr:.1f} dB"
        return f"{self.word} {self.psnr:.0f} dB ({low:.0f} to {high:.0f} by how hard the capture is)"


class Table:
    """The points that ``benchmarks.minutes`` measured: whole runs with a grant of time.

    Args:
        records: Points of the machine whose minutes are the unit of work.
        elsewhere: Points of other machines; their work is their minutes times their speed.
    """

    def __init__(self, records: Sequence[dict[str, Any]], elsewhere: Sequence[dict[str, Any]] = ()) -> None:
        self.records = [record | {"work": record["minutes"]} for record in records]
        self._unit = _by_kind(self.records)
        for record in elsewhere:
            speed = self.speed(record["kind"], Rates(**record["rates"]), trains=True)
            self.records.append(record | {"work": record["minutes"] * speed})
        self.records.sort(key=lambda record: record["work"])
        self._points = _by_kind(self.records)

    @classmethod
    def load(cls) -> Table:
        """Return the table that belongs to this version: every document of ``data/minutes``."""
        folder = data_folder() / "minutes"
        others = sorted(path for path in folder.glob("*.json") if path.name != _UNIT)
        elsewhere = [record for path in others for record in read_json(path)["records"]]
        return cls(read_json(folder / _UNIT)["records"], elsewhere)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the points of a kind of capture, or all if there are none, by work."""
        return self._points.get(kind, self.records)

    def speed(self, kind: str, rates: Rates, trains: bool) -> float:
        """Return how fast this machine is on its capture, relative to the table's: harmonic mean over the work."""
        parts = [("query", 0.15), ("student", 0.45)] + ([("teacher", 0.4)] if trains else [])
        known, total = self._unit.get(kind, self.records), 0.0
        for name, weight in parts:
            usual = _mean([record["rates"][name] for record in known])
            total += weight * getattr(rates, name) / usual
        return sum(weight for _, weight in parts) / max(total, 1e-9)

    def pace(self, kind: str, stage: str, work: float) -> float:
        """Return what a ray of a stage costs on average, relative to an early one: steps become cheaper on the way."""
        points = self.of(kind)
        nearest = min(points, key=lambda record: abs(math.log(record["work"] / max(work, 0.1))))
        return float(nearest[f"{stage}_ray"] / nearest["rates"][stage])

    def expected(self, kind: str, work: float) -> Expected:
        """Return what was measured for an amount of work; between two points by its logarithm.

        For more than was measured these are the values of the most that was. For less, quality goes on falling as
        between the two least: a slow machine does less in its first minute than the table's.
        """
        points = self.of(kind)
        names = sorted({record["capture"] for record in points})
        series = [[record for record in points if record["capture"] == name] for name in names]
        least = points[0]["work"]
        psnr = [_between(one, work, "psnr") for one in series]
        if work < least:
            gained = [_between(one, least**2 / work, "psnr") - _between(one, least, "psnr") for one in series]
            psnr = [here - _mean(gained) for here in psnr]
        megabytes, memory = (
            _mean([_between(one, work, key) for one in series]) for key in ("megabytes", "memory_mb")
        )
        beyond = work > min(one[-1]["work"] for one in series)
        return Expected(_mean(psnr), (min(psnr), max(psnr)), megabytes, memory, is_beyond=beyond)


def _by_kind(records: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    kinds = sorted({record["kind"] for record in records})
    return {kind: [record for record in records if record["kind"] == kind] for kind in kinds}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _between(points: list[dict[str, Any]], work: float, key: str) -> float:
    if work <= points[0]["work"]:
        return float(points[0][key])
    for low, high in itertools.pairwise(points):
        if work < high["work"]:
            part = math.log(work / low["work"]) / math.log(high["work"] / low["work"])
            return float((1.0 - part) * low[key] + part * high[key])
    return float(points[-1][key])
