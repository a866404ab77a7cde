"""The distillation stage: from a teacher to a student folder, resuming where it stopped.

Submodels are distilled one after the other, each from its start to its file, so that one submodel's grids are in
memory at a time. Under torchrun they are divided among the processes. Their order is that of ``Partition.wave``:
submodels of a wave don't touch each other, and each learns from what its neighbours of earlier waves show. What a
submodel becomes so depends neither on the number of processes nor on which is faster.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from smerf.capture.types import Capture
from smerf.engine import distributed
from smerf.engine.checkpoint import load_latest, save_checkpoint
from smerf.engine.device import require_device
from smerf.engine.files import read_json, write_json
from smerf.engine.signals import raise_if_stopped, stop_requested
from smerf.student.config import StudentConfig
from smerf.student.exposure import shown_exposure
from smerf.student.model import Student
from smerf.student.partition import Partition
from smerf.student.resolution import choose_resolution
from smerf.student.store import (
    describe,
    has_submodel,
    load_student,
    read_shown,
    save_record,
    save_submodel,
)
from smerf.student.trainer import StudentTrainer, choose_partition
from smerf.teacher.model import Teacher

__all__ = ["distill", "order", "own_submodels"]

_PLAN = "plan.json"
_POLL_SECONDS = 0.2


def order(partition: Partition) -> list[int]:
    """Return the submodels in the order in which they are distilled: wave by wave."""
    return sorted(range(len(partition)), key=lambda k: (partition.wave(k), k))


def own_submodels(partition: Partition, part: distributed.Process) -> list[int]:
    """Return the submodels that a process distils, in order: every n-th of each wave.

    Waves are dealt on where the last one ended, so that no process gets more than one submodel above its share.
    """
    return order(partition)[part.rank :: part.world_size]


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

    Under torchrun every process distils its share of the submodels, in the same folder.

    Returns:
        The student, whose submodels are read from the folder when asked for. When a stop is requested, a checkpoint is
        written and the unfinished submodel is returned, as a student of its own.

    Raises:
        MissingPartError: If the device is not there.
        UsageError: If the configuration asks for a parameterisation that is not known.
    """
    folder = Path(folder)
    where = require_device(device)
    with distributed.process_group(str(where)) as part:
        partition = choose_partition(capture, config, teacher)
        config = choose_resolution(config, teacher, capture, partition, where)
        record = describe(config, partition, capture, shown_exposure(config, teacher))
        if part.is_first:
            _begin(folder, record)
        distributed.barrier()
        mine = own_submodels(partition, part)
        count = _Count(progress if part.is_first else None, config, len(mine))
        for number, k in enumerate(mine):
            count.begin(number)
            if has_submodel(folder, partition.cells[k]):
                continue
            before = _before(partition, k)
            _wait(folder, before)
            shown = [read_shown(folder, cell) for cell in before] if config.consistency else []
            trainer = StudentTrainer(
                teacher, capture, config, where, partition=partition, submodel=k, shown=shown
            )
            if not _distil_one(trainer, folder, count):
                return trainer.student
            # Its grids go before the next one's come.
            del trainer
        _wait(folder, list(partition.cells))
        if part.is_first:
            save_record(record, folder)
        distributed.barrier()
        student = load_student(folder)
        student.teacher = teacher
        return student.to(where)


class _Count:
    """Turns steps of the process's submodels into the progress of the whole."""

    def __init__(self, progress: Callable[..., None] | None, config: StudentConfig, submodels: int) -> None:
        self._progress, self.config, self._done = progress, config, 0
        # Filling the pool and the last look around count as a tenth of the work each.
        self.before = self.after = config.steps // 10
        self.each = self.before + config.steps + self.after
        self._total = self.each * submodels

    def begin(self, number: int) -> None:
        """Turn to the process's submodel of that number."""
        self._done = number * self.each

    def __call__(self, step: float, **losses: float) -> None:
        """Report ``step`` of the submodel's ``each``."""
        if self._progress:
            self._progress(self._done + step, self._total, **losses)


def _begin(folder: Path, record: dict) -> None:
    """Clear what was left by a distillation of other settings."""
    path = folder / _PLAN
    if path.is_file() and read_json(path) != record:
        for leftover in folder.glob("sm_*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "student.json").unlink(missing_ok=True)
    write_json(path, record)


def _before(partition: Partition, k: int) -> list[int]:
    """Return the cells of the neighbours that a submodel learns from: those of earlier waves."""
    wave = partition.wave(k)
    return [partition.cells[j] for j in partition.adjacent(k) if partition.wave(j) < wave]


def _wait(folder: Path, cells: list[int]) -> None:
    """Wait until other processes have finished submodels. Raises as ``raise_if_stopped`` does."""
    while not all(has_submodel(folder, cell) for cell in cells):
        raise_if_stopped()
        time.sleep(_POLL_SECONDS)


def _workplace(folder: Path, partition: Partition, k: int) -> Path:
    """Return the folder of a submodel's checkpoints."""
    return folder if len(partition) == 1 else folder / f"sm_{partition.cells[k]:03d}"


def _distil_one(trainer: StudentTrainer, folder: Path, count: _Count) -> bool:
    """Distil a submodel to its file, or to a checkpoint if a stop is requested; return whether it is finished."""
    config, place = trainer.config, _workplace(folder, trainer.whole, trainer.submodel)
    saved = load_latest(place)
    if saved:
        trainer.restore(saved[1], saved[2])
    else:
        trainer.prepare(lambda done, size: count(count.before * done / size))

    def save() -> None:
        save_checkpoint(place, trainer.step, trainer.tensors(), {"step": trainer.step})

    def report(step: int, losses: dict[str, float]) -> None:
        count(count.before + step, **losses)

    for _ in trainer.run(report=report, save=save, stop=stop_requested):
        pass
    if trainer.step < config.steps:
        return False
    trainer.finish(lambda done, size: count(count.each - count.after + count.after * done / size))
    save_submodel(trainer.student, 0, folder, trainer.show())
    # The finished submodel is all that others read; its checkpoints are gigabytes.
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    if place != folder:
        shutil.rmtree(place, ignore_errors=True)
    return True
