"""The distillation stage: from a teacher to a student folder, resuming where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from smerf.capture.types import Capture
from smerf.kernels.device import require_device
from smerf.runs.checkpoint import load_latest, save_checkpoint
from smerf.runs.signals import stop_requested
from smerf.student.config import StudentConfig
from smerf.student.model import Student
from smerf.student.store import save_student
from smerf.student.train import StudentTrainer
from smerf.teacher.model import Teacher

__all__ = ["distill"]


def distill(
    teacher: Teacher,
    capture: Capture,
    config: StudentConfig,
    *,
    folder: Path,
    progress: Callable[..., None] | None = None,
    device: str = "cpu",
) -> Student:
    """Distil a teacher.

    Args:
        teacher: Anything that answers rays with intervals, weights and colours.
        capture: The photos' cameras, whose jittered rays the teacher is asked about.
        config: Sizes and schedule.
        folder: Where checkpoints and the student are written; an unfinished distillation there goes on.
        progress: Called as ``progress(step, steps, **losses)``.
        device: ``cpu`` or ``cuda``, where the teacher is moved too if it can be.

    Returns:
        The student. When a stop is requested, a checkpoint is written and the unfinished student is returned.

    Raises:
        MissingPartError: If the device is not there.
        UsageError: If the configuration asks for a parameterisation that is not known.
    """
    trainer = StudentTrainer(teacher, capture, config, require_device(device))
    saved = load_latest(folder)
    # Filling the pool and the last look around count as a tenth of the work each.
    before = after = config.steps // 10
    total = before + config.steps + after
    if saved:
        _, tensors, state = saved
        trainer.restore(tensors, state)
    else:
        trainer.prepare(lambda done, size: progress(before * done / size, total) if progress else None)

    def save() -> None:
        save_checkpoint(folder, trainer.step, trainer.tensors(), {"step": trainer.step})

    def report(step: int, losses: dict[str, float]) -> None:
        if progress:
            progress(before + step, total, **losses)

    for _ in trainer.run(report=report, save=save, stop=stop_requested):
        pass
    if trainer.step == config.steps:
        trainer.finish(
            lambda done, size: progress(total - after + after * done / size, total) if progress else None
        )
        save_student(trainer.student, folder)
        # The finished student is all that later stages read; its checkpoints are gigabytes.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return trainer.student
