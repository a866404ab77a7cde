"""The training stage: from a capture to a teacher folder, resuming where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from smerf.capture import save_transforms
from smerf.capture.masks import MASKS, write_masks
from smerf.capture.types import Capture
from smerf.engine import distributed, trace
from smerf.engine.device import require_device
from smerf.engine.loop import resume, run_steps
from smerf.engine.pace import keep_pace
from smerf.engine.signals import stop_requested
from smerf.teacher.config import TeacherConfig
from smerf.teacher.exposures import save_factors
from smerf.teacher.model import FieldTeacher
from smerf.teacher.plan import resolve_config
from smerf.teacher.store import save_teacher
from smerf.teacher.trainer import TeacherTrainer

__all__ = ["train_teacher"]


def train_teacher(
    capture: Capture,
    config: TeacherConfig,
    *,
    folder: Path,
    progress: Callable[..., None] | None = None,
    preview: Callable[[FieldTeacher], None] | None = None,
    device: str = "cpu",
) -> FieldTeacher:
    """Fit a teacher to the training photos of a capture.

    Args:
        capture: Posed photos.
        config: Sizes and schedule; resolved here if it is not yet (``smerf.teacher.plan.resolve_config``).
        folder: Where checkpoints and the teacher are written; an unfinished training there continues.
        progress: Called as ``progress(step, steps, **losses)``.
        preview: Called by the first process after every step with the teacher as it is, which it only reads.
        device: ``cpu`` or ``cuda``.

    Under torchrun every process trains on its rows of each batch, and the first one writes. Refined cameras go to
    ``transforms.json`` beside the teacher, and masks of what moved to ``masks``.

    Returns:
        The teacher. When a stop is requested, a checkpoint is written and the unfinished teacher is returned.

    Raises:
        MissingPartError: If the device is not there.
        InvalidDataError: If there is nothing to train on.
    """
    require_device(device)
    with distributed.process_group(device) as process:
        config = resolve_config(config, capture, device, process.world_size)
        # Whoever writes may have cleared the folder just now.
        distributed.barrier()
        trainer = TeacherTrainer(capture, config, device)
        resume(trainer, folder)
        noted = trainer.schedule
        if process.is_first:
            trace.note_schedule(folder, trainer.step, noted)

        def report(step: int, figures: dict[str, float]) -> None:
            if trace.is_noted(step):
                trace.note(folder, step, figures)
            if progress:
                progress(step, trainer.schedule.steps, **figures)

        def after_step() -> None:
            nonlocal noted
            keep_pace(trainer)
            if process.is_first and trainer.schedule is not noted:
                noted = trainer.schedule
                trace.note_schedule(folder, trainer.step, noted)
            if preview and process.is_first:
                preview(trainer.model)

        is_done = run_steps(
            trainer,
            lambda: trainer.schedule.steps,
            folder,
            checkpoint_seconds=config.checkpoint_seconds,
            report=report,
            after_step=after_step,
            stop=stop_requested,
        )
        trainer.model.gains = trainer.evening.gains
        if is_done and config.minutes is not None:
            trainer.model.config = replace(config, steps=trainer.step)
        if is_done and process.is_first:
            save_teacher(trainer.model, folder)
            _save_masks(trainer, capture, folder)
            save_factors(folder, capture, trainer.evening.gains)
            if trainer.objective.cameras:
                save_transforms(trainer.objective.cameras.refine(capture), folder / "transforms.json")
        distributed.barrier()
        return trainer.model


def _save_masks(trainer: TeacherTrainer, capture: Capture, folder: Path) -> None:
    """Write masks of what the training left out; none where it used every pixel."""
    used = trainer.watch.used()
    if used:
        names = [frame.name for frame in capture.split("train")]
        record = {"sources": [{"kind": "residual", "robust": trainer.config.robust}]}
        write_masks(folder / MASKS, capture, dict(zip(names, used)), record)
