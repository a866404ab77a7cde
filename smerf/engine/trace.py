"""What a training must repeat: its figures at steps 1, 2, 4, 8 ..., kept beside its result.

A training that is granted a time moves the end of its schedule on the way, by the clock: each move is kept too, so that
it can be repeated.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from smerf.engine.schedule import Schedule

__all__ = ["FILE", "Trace", "is_noted", "note", "note_schedule", "read_trace"]

FILE = "trace.jsonl"


@dataclass
class Trace:
    """What a training noted."""

    figures: dict[int, dict[str, float]] = field(default_factory=dict)
    """Losses and PSNR by step."""
    schedules: dict[int, Schedule] = field(default_factory=dict)
    """Which schedule holds behind a step; the first entry is what the training began with."""


def is_noted(step: int) -> bool:
    """Return whether the figures of a step are kept: those of powers of two."""
    return step & (step - 1) == 0


def note(folder: Path, step: int, figures: dict[str, float]) -> None:
    """Append the figures of a step, exactly as they are; a resumed training notes some of them twice."""
    _append(folder, {"step": step, **figures})


def note_schedule(folder: Path, step: int, schedule: Schedule) -> None:
    """Append the schedule that holds behind a step; what was noted of later steps holds no more."""
    _append(folder, {"step": step, "schedule": schedule.state()})


def _append(folder: Path, line: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / FILE, "a") as file:
        file.write(json.dumps(line) + "\n")


def read_trace(folder: Path) -> Trace:
    """Return what a training noted; empty where there is nothing, and without a line that was cut off."""
    trace = Trace()
    path = folder / FILE
    for text in path.read_text().splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        step = int(line.pop("step"))
        if "schedule" in line:
            trace.schedules = {at: each for at, each in trace.schedules.items() if at < step}
            trace.schedules[step] = Schedule.from_state(line["schedule"])
        else:
            trace.figures[step] = line
    return trace
