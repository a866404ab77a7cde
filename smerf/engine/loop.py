"""The training loop of every stage: steps, reports, checkpoints, stopping and resuming."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from smerf.engine import distributed
from smerf.engine.checkpoint import load_latest, save_checkpoint
from smerf.engine.signals import stop_requested
from smerf.errors import SmerfError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Trainer", "resume", "run_steps", "save"]

_POLL_STEPS = 10


class Trainer(Protocol):
    """What one step is, and everything that the next step depends on."""

    step: int
    """Optimiser steps done so far."""

    def advance(self) -> dict[str, float]:
        """Take one optimiser step and return its figures (losses, psnr) by name."""

    def tensors(self) -> dict[str, Tensor]:
        """Return every tensor that resuming needs, by name."""

    def state(self) -> dict[str, Any]:
        """Return the rest of what resuming needs, as JSON values; ``step`` among it."""

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from what ``tensors`` and ``state`` returned."""


def resume(trainer: Trainer, folder: Path, *, is_shared: bool = True) -> bool:
    """Restore a trainer from the newest checkpoint of a folder; return whether there was one.

    Raises:
        SmerfError: If the processes of a shared training see different checkpoints.
    """
    saved = load_latest(folder)
    if saved:
        trainer.restore(saved[1], saved[2])
    if is_shared and not distributed.same_everywhere(trainer.step):
        raise SmerfError(
            f"{folder}: the processes see different checkpoints; give all of them the same folder"
        )
    return saved is not None


def save(trainer: Trainer, folder: Path) -> None:
    """Write a checkpoint of a trainer."""
    save_checkpoint(folder, trainer.step, trainer.tensors(), trainer.state())


def run_steps(
    trainer: Trainer,
    steps: int | Callable[[], int],
    folder: Path | None = None,
    *,
    checkpoint_seconds: float = 30.0,
    report: Callable[[int, dict[str, float]], None] | None = None,
    after_step: Callable[[], None] | None = None,
    stop: Callable[[], bool] = stop_requested,
    is_shared: bool = True,
) -> bool:
    """Train up to step number ``steps``, with checkpoints in between and when a stop is requested.

    Args:
        trainer: What is trained.
        steps: Steps of the whole training, or what returns them where they may change on the way.
        folder: Where checkpoints go; none are written if not given.
        checkpoint_seconds: Time between checkpoints.
        report: Called after every step with its number and figures.
        after_step: Called after every step, for example to evaluate.
        stop: Asked after every step.
        is_shared: Whether all processes train this together: the first one writes and reports, and all leave at
            the same step. Otherwise this process trains on its own.

    Returns:
        Whether the last step was reached; if not, a checkpoint of where it stopped is in the folder.
    """
    process = distributed.this_process() if is_shared else distributed.Process()
    saved = time.monotonic()
    while trainer.step < (steps if isinstance(steps, int) else steps()):
        figures = trainer.advance()
        if report and process.is_first:
            report(trainer.step, figures)
        if after_step:
            after_step()
        stopping = stop()
        if process.world_size > 1:
            # All processes leave at the same step; asking each other every step would cost time.
            stopping = trainer.step % _POLL_STEPS == 0 and distributed.any_process(stopping)
        if folder and process.is_first and (stopping or time.monotonic() - saved > checkpoint_seconds):
            save(trainer, folder)
            saved = time.monotonic()
        if stopping:
            return False
    return True
