"""Schedules of learning rates and loss weights over the steps of a training."""

from __future__ import annotations

__all__ = ["linear", "log_linear", "warm_decay"]


def warm_decay(step: int, steps: int, warmup: int, final: float) -> float:
    """Return the factor of the learning rates: linear warm-up, times a log-linear decay from 1 to ``final``.

    Args:
        step: Steps done so far, from 0.
        steps: Steps of the whole training.
        warmup: Steps of the warm-up; 0 for none.
        final: Fraction left at the end, above 0.
    """
    warm = min(1.0, (step + 1) / warmup) if warmup > 0 else 1.0
    return warm * final ** (step / max(1, steps))


def linear(start: float, end: float, fraction: float) -> float:
    """Return the value between ``start`` and ``end`` at ``fraction`` (clamped to [0, 1]) of the way."""
    return start + (end - start) * min(1.0, max(0.0, fraction))


def log_linear(start: float, end: float, fraction: float) -> float:
    """Return the value at ``fraction`` (clamped to [0, 1]) of the way, linear in the logarithm."""
    return start * (end / start) ** min(1.0, max(0.0, fraction))
