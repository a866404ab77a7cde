"""Schedules of learning rates and loss weights over the steps of a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Schedule", "linear", "log_linear"]


@dataclass(frozen=True)
class Schedule:
    """How far a training of ``steps`` steps is: what everything that changes on the way depends on.

    A schedule that got another end at step ``start`` goes on from the fraction ``done`` that it had reached there, so
    that nothing jumps, and still ends annealed.
    """

    steps: int
    start: int = 0
    done: float = 0.0

    def position(self, step: int) -> float:
        """Return how far a step is, as a step of a schedule of the same length that never changed."""
        if not self.start:
            return step
        ahead = (step - self.start) / max(1, self.steps - self.start)
        return self.steps * (self.done + (1.0 - self.done) * ahead)

    def fraction(self, step: int, part: float = 1.0) -> float:
        """Return which fraction of the first ``part`` of the training is over at a step; it may exceed 1."""
        return self.position(step) / max(1.0, part * self.steps)

    def rate(self, step: int, warmup: int, final: float) -> float:
        """Return the factor of the learning rates: linear warm-up, times a log-linear decay from 1 to ``final``.

        Args:
            step: Steps done so far, from 0.
            warmup: Steps of the warm-up; 0 for none.
            final: Fraction left at the end, above 0.
        """
        warm = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
        return float(warm * final ** self.fraction(step))

    def ending_at(self, steps: int, step: int) -> Schedule:
        """Return this schedule with another number of steps, above ``step``, from that step on."""
        return Schedule(max(steps, step + 1), step, self.fraction(step))

    def state(self) -> list[float]:
        """Return what ``from_state`` needs, as JSON values."""
        return [self.steps, self.start, self.done]

    @classmethod
    def from_state(cls, values: Sequence[float]) -> Schedule:
        """Return the schedule that ``state`` was called on."""
        steps, start, done = values
        return cls(int(steps), int(start), float(done))


def linear(start: float, end: float, fraction: float) -> float:
    """Return the value between ``start`` and ``end`` at ``fraction`` (clamped to [0, 1]) of the way."""
    return start + (end - start) * min(1.0, max(0.0, fraction))


def log_linear(start: float, end: float, fraction: float) -> float:
    """Return the value at ``fraction`` (clamped to [0, 1]) of the way, linear in the logarithm."""
    return start * (end / start) ** min(1.0, max(0.0, fraction))
