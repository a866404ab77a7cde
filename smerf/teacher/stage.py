"""The training stage: from a capture to a teacher folder, resuming where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from smerf.capture import save_transforms
from smerf.capture.types import Capture
from smerf.engine import distributed
from smerf.engine.checkpoint import load_latest, save_checkpoint
from smerf.engine.device import require_device
from smerf.engine.signals import stop_requested
from smerf.errors import SmerfError
from smerf.teacher.config import TeacherConfig
from smerf.teacher.general import GeneralTeacher
from smerf.teacher.model import HashTeacher
from smerf.teacher.store import save_teacher
from smerf.teacher.trainer import TeacherTrainer

__all__ = ["train_teacher"]


def train_teacher(
    capture: Capture,
    config: TeacherConfig,
    *,
    folder: Path,
    progress: Callable[..., None] | None = None,
    device: str = "cpu",
) -> HashTeacher | GeneralTeacher:
    """Fit a teacher to the training photos of a capture.

    Args:
        capture: Posed photos.
        config: Sizes and schedule.
        folder: Where checkpoints and the teacher are written; an unfinished training there goes on.
        progress: Called as ``progress(step, steps, **losses)``.
        device: ``cpu`` or ``cuda``.

    Under torchrun every process trains on its share of each batch, and the first one writes. Refined cameras go to
    ``transforms.json`` beside the teacher.

    Returns:
        The teacher. When a stop is requested, a checkpoint is written and the unfinished teacher is returned.

    Raises:
        MissingPartError: If the device is not there.
        InvalidDataError: If there is nothing to train on.
    """
    require_device(device)
    with distributed.process_group(device):
        return _train(capture, config, folder, progress, device)


def _train(
    capture: Capture,
    config: TeacherConfig,
    folder: Path,
    progress: Callable[..., None] | None,
    device: str,
) -> HashTeacher | GeneralTeacher:
    # Whoever writes may have cleared the folder just now.
    distributed.barrier()
    trainer = TeacherTrainer(capture, config, device)
    saved = load_latest(folder)
    if saved:
        trainer.restore(saved[1], saved[2])
    if not distributed.same_everywhere(trainer.step):
        raise SmerfError(
            f"{folder}: the processes see different checkpoints; give all of them the same folder"
        )
    is_first = trainer.share.is_first

    def save() -> None:
        if is_first:
            save_checkpoint(folder, trainer.step, trainer.tensors(), trainer.state())

    def report(step: int, losses: dict[str, float]) -> None:
        if progress and is_first:
            progress(step, config.steps, **losses)

    for _ in trainer.run(report=report, save=save, stop=stop_requested):
        pass
    if trainer.step == config.steps and is_first:
        save_teacher(trainer.model, folder)
        if trainer.objective and trainer.objective.cameras:
            save_transforms(trainer.objective.cameras.refine(capture), folder / "transforms.json")
    distributed.barrier()
    return trainer.model
