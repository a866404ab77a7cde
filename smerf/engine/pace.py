"""A training that is granted a time: its schedule is made shorter or longer, so that it ends then and annealed."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from smerf.engine.schedule import Schedule
from smerf.errors import UsageError

__all__ = ["MAX_MINUTES", "Paced", "Pacer", "budget_clock", "keep_pace", "pace_state", "restore_pace"]

MAX_MINUTES = 600.0
"""Most that can be granted."""
_CLOCK = "SMERF_CLOCK"
_WINDOW_SECONDS = 15.0
"""The rate that is counted on is that of the last seconds: steps become cheaper as a field becomes sparse."""
_FIRST_SECONDS, _EVERY_SECONDS = 2.0, 1.0
_TOLERANCE = 0.02
"""Smaller changes of the steps that are left are not worth one."""
_MIN_STEPS = 8


class Paced(Protocol):
    """A training whose schedule may change on the way."""

    step: int
    schedule: Schedule
    pacer: Pacer | None


def budget_clock() -> Callable[[], float]:
    """Return the clock that granted time is counted on.

    That of the wall; with ``SMERF_CLOCK=processor`` this process's processor time over the number of processors, for
    measurements on machines that do other work as well.

    Raises:
        UsageError: If the variable holds anything else.
    """
    name = os.environ.get(_CLOCK, "wall")
    if name == "processor":
        processors = os.cpu_count() or 1
        return lambda: time.process_time() / processors
    if name != "wall":
        raise UsageError(f"{_CLOCK}={name}: expected wall or processor")
    return time.monotonic


class Pacer:
    """Fits the steps of a training into a time.

    Args:
        seconds: Time of the whole training, earlier sessions included.
        clock: Returns seconds; ``budget_clock`` if not given.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] | None = None) -> None:
        self.seconds = seconds
        self._clock = clock or budget_clock()
        self._began = self._clock()
        self._marks: deque[tuple[float, int]] = deque()
        self._first = self._changed = 0.0

    @property
    def spent(self) -> float:
        """Seconds used so far, earlier sessions included."""
        return self._clock() - self._began

    def resume(self, seconds: float, spent: float) -> None:
        """Go on where an earlier session stopped, after ``spent`` of ``seconds``."""
        self.seconds, self._began = seconds, self._clock() - spent

    def after_step(self, trainer: Paced) -> None:
        """Move the end of a trainer's schedule to where its time ends, at the rate of the last seconds."""
        now, schedule = self.spent, trainer.schedule
        left = self.seconds - now
        if not self._marks:
            self._first = now
        self._marks.append((now, trainer.step))
        while len(self._marks) > _MIN_STEPS and now - self._marks[0][0] > _WINDOW_SECONDS:
            self._marks.popleft()
        planned = schedule.steps - trainer.step
        if left <= 0.0:
            # One more step, with everything at its end.
            if planned > 1:
                trainer.schedule = schedule.ending_at(trainer.step + 1, trainer.step)
            return
        is_early = now - self._first < _FIRST_SECONDS or now - self._changed < _EVERY_SECONDS
        if len(self._marks) < _MIN_STEPS or (is_early and left > _FIRST_SECONDS):
            return
        then, before = self._marks[0]
        possible = int(left * (trainer.step - before) / max(1e-9, now - then))
        self._changed = now
        if abs(possible - planned) > _TOLERANCE * planned:
            trainer.schedule = schedule.ending_at(trainer.step + possible, trainer.step)


def keep_pace(trainer: Paced) -> None:
    """Let a trainer's pacer, if it has one, change its schedule after a step."""
    if trainer.pacer is not None:
        trainer.pacer.after_step(trainer)


def pace_state(trainer: Paced) -> dict[str, Any]:
    """Return what ``restore_pace`` needs, as JSON values; empty for a training of a fixed number of steps."""
    pacer = trainer.pacer
    if pacer is None:
        return {}
    return {
        "pace": {
            "schedule": trainer.schedule.state(),
            "seconds": pacer.seconds,
            "spent": pacer.spent,
        }
    }


def restore_pace(trainer: Paced, state: dict[str, Any]) -> None:
    """Continue with the schedule and the time left that ``pace_state`` returned."""
    if trainer.pacer is not None and (pace := state.get("pace")):
        trainer.schedule = Schedule.from_state(pace["schedule"])
        trainer.pacer.resume(float(pace["seconds"]), float(pace["spent"]))
