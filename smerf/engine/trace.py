"""What a training must repeat: its figures at steps 1, 2, 4, 8 ..., kept beside its result."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["FILE", "is_noted", "note", "read_trace"]

FILE = "trace.jsonl"


def is_noted(step: int) -> bool:
    """Return whether the figures of a step are kept: those of powers of two."""
    return step & (step - 1) == 0


def note(folder: Path, step: int, figures: dict[str, float]) -> None:
    """Append the figures of a step, exactly as they are; a resumed training notes some of them twice."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / FILE, "a") as file:
        file.write(json.dumps({"step": step, **figures}) + "\n")


def read_trace(folder: Path) -> dict[int, dict[str, float]]:
    """Return the figures by step; empty where there are none, and without a line that was cut off."""
    trace: dict[int, dict[str, float]] = {}
    path = folder / FILE
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            figures = json.loads(line)
        except ValueError:
            continue
        trace[int(figures.pop("step"))] = figures
    return trace
