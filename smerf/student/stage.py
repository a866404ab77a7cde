"""The distillation stage: from a teacher to a student folder, resuming where it stopped.

Submodels are distilled one after the other, each from its start to its file, so that one submodel's grids are in
memory at a time. Under torchrun they are divided among the processes. Their order is that of ``Partition.wave``:
submodels of a wave don't touch each other, and each learns from its neighbours of earlier waves. What a submodel
becomes depends neither on the number of processes, nor on which is faster, nor on when it was stopped and resumed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from smerf.capture.types import Capture
from smerf.engine import distributed
from smerf.engine.device import require_device
from smerf.engine.files import read_json, write_json
from smerf.engine.loop import resume, run_steps
from smerf.engine.pace import keep_pace
from smerf.engine.signals import raise_if_stopped, stop_requested
from smerf.errors import InvalidDataError
from smerf.student.config import StudentConfig
from smerf.student.model import Student, StudentRecord
from smerf.student.partition import Partition
from smerf.student.plan import choose_partition, resolve_config
from smerf.student.ray_pool import shown_exposure
from smerf.student.store import (
    has_submodel,
    load_student,
    read_shared_rays,
    record_values,
    save_record,
    save_submodel,
)
from smerf.student.trainer import StudentTrainer
from smerf.teacher.model import Teacher

__all__ = ["distill", "order", "own_submodels"]

_PLAN = "plan.json"
_POLL_SECONDS = 0.2


def order(partition: Partition) -> list[int]:
    """Return the submodels in the order in which they are distilled: wave by wave."""
    return sorted(range(len(partition)), key=lambda k: (partition.wave(k), k))


def own_submodels(partition: Partition, process: distributed.Process) -> list[int]:
    """Return the submodels that a process distils, in order: every n-th of each wave.

    Waves are dealt on where the last one ended, so that no process gets more than one submodel above its part.
    """
    return order(partition)[process.rank :: process.world_size]


def distill(
    teacher: Teacher,
    capture: Capture,
    config: StudentConfig,
    *,
    folder: Path,
    progress: Callable[..., None] | None = None,
    preview: Callable[[Callable[[], Student]], None] | None = None,
    device: str = "cpu",
) -> Student | None:
    """Distil a teacher.

    Args:
        teacher: Anything that answers rays with intervals, weights and colours.
        capture: The photos' cameras, around which the teacher is queried.
        config: Sizes and schedule; resolved if it is not (``smerf.student.plan.resolve_config``).
        folder: Where checkpoints and the student are written; an unfinished distillation there goes on, and ends
            with the bytes of one that was never stopped (on the same kind of device).
        progress: Called as ``progress(step, steps, unit="steps", **losses)`` over the steps of all submodels, and with
            ``unit="rays"`` while a pool of teacher rays is filled and while a finished submodel is looked at.
        preview: Called after every step with a function that returns the submodel at work as a student of its own, to
            be used before the next step. The result does not depend on it.
        device: ``cpu`` or ``cuda``, where the teacher is moved too if it can be.

    Under torchrun every process distils its part of the submodels, in the same folder.

    Returns:
        The student, whose submodels are read from the folder when asked for. None if a stop was requested: a
        checkpoint of where it stopped is in the folder.

    Raises:
        MissingPartError: If the device is not there.
        UsageError: If the student is to be conditioned on exposure and the teacher knows none.
        InvalidDataError: If the folder holds an unfinished distillation that can't be resumed.
    """
    folder, where = Path(folder), require_device(device)
    with distributed.process_group(str(where)) as process:
        config = resolve_config(config, teacher, capture, where)
        partition = choose_partition(capture, config)
        record = StudentRecord.of(config, partition, capture, shown_exposure(config, teacher))
        if process.is_first:
            _begin(folder, record_values(record))
        distributed.barrier()
        mine = own_submodels(partition, process)
        count = _Count(progress if process.is_first else None, len(mine))
        seconds = None if config.minutes is None else 60.0 * config.minutes / max(1, len(mine))
        for number in mine:
            steps = config.steps
            if not has_submodel(folder, partition.cells[number]):
                before = _before(partition, number)
                _wait(folder, before)
                shared = [read_shared_rays(folder, c) for c in before] if config.consistency_fraction else []
                trainer = StudentTrainer(
                    teacher,
                    capture,
                    config,
                    where,
                    partition=partition,
                    number=number,
                    shared_rays=shared,
                    seconds=seconds,
                )
                if not _distil_submodel(trainer, folder, count, preview):
                    return None
                steps = trainer.step
                # Its grids go before the next one's come.
                del trainer
            _clear(folder, partition, number)
            count.next_submodel(steps)
        _wait(folder, list(partition.cells))
        if process.is_first:
            if config.minutes is not None:
                record = replace(record, config=replace(config, steps=max(1, count.steps)))
            save_record(record, folder)
        distributed.barrier()
        student = load_student(folder)
        student.teacher = teacher
        return student.to(where)


class _Count:
    """Turns steps of the process's submodels into the progress of the whole."""

    def __init__(self, progress: Callable[..., None] | None, submodels: int) -> None:
        self._progress, self._left, self._done, self._submodels = progress, submodels, 0, 0

    @property
    def steps(self) -> int:
        """Return the mean steps of the submodels so far."""
        return round(self._done / max(1, self._submodels))

    def next_submodel(self, steps: int) -> None:
        """Count a submodel as finished after its steps."""
        self._done, self._left = self._done + steps, self._left - 1
        self._submodels += 1

    def step(self, step: int, steps: int, figures: dict[str, float]) -> None:
        """Report a step of the current submodel, which takes ``steps`` as the others are expected to."""
        if self._progress:
            self._progress(self._done + step, self._done + steps * self._left, unit="steps", **figures)

    def rays(self, done: int, total: int) -> None:
        """Report teacher rays before or after the steps; raises as ``raise_if_stopped`` does."""
        if self._progress:
            self._progress(done, total, unit="rays")
        raise_if_stopped()


def _begin(folder: Path, plan: dict[str, Any]) -> None:
    """Clear what was left by a distillation of other settings.

    Raises:
        InvalidDataError: If it was left by an earlier version.
    """
    path = folder / _PLAN
    if path.is_file() and (found := read_json(path)) != plan:
        if not isinstance(found, dict) or found.get("format") != plan["format"]:
            raise InvalidDataError(
                f"{path}: an earlier version began this distillation, which can't be resumed; delete the folder, or "
                "start over with --overwrite"
            )
        for leftover in folder.glob("sm_*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    (folder / "student.json").unlink(missing_ok=True)
    write_json(path, plan)


def _before(partition: Partition, number: int) -> list[int]:
    """Return the cells of the neighbours that a submodel learns from: those of earlier waves."""
    wave = partition.wave(number)
    return [partition.cells[j] for j in partition.adjacent(number) if partition.wave(j) < wave]


def _wait(folder: Path, cells: list[int]) -> None:
    """Wait until other processes have finished submodels. Raises as ``raise_if_stopped`` does."""
    while not all(has_submodel(folder, cell) for cell in cells):
        raise_if_stopped()
        time.sleep(_POLL_SECONDS)


def _workplace(folder: Path, partition: Partition, number: int) -> Path:
    """Return the folder of a submodel's checkpoints."""
    return folder if len(partition) == 1 else folder / f"sm_{partition.cells[number]:03d}"


def _clear(folder: Path, partition: Partition, number: int) -> None:
    """Remove a finished submodel's checkpoints: its file is all that others read."""
    place = _workplace(folder, partition, number)
    shutil.rmtree(place / "checkpoints" if place == folder else place, ignore_errors=True)


def _distil_submodel(
    trainer: StudentTrainer,
    folder: Path,
    count: _Count,
    preview: Callable[[Callable[[], Student]], None] | None,
) -> bool:
    """Distil a submodel to its file, or to a checkpoint if a stop is requested; return whether it is finished."""
    config, place = trainer.config, _workplace(folder, trainer.partition, trainer.number)

    def after_step() -> None:
        keep_pace(trainer)
        if preview:
            preview(trainer.snapshot)

    try:
        is_resumed = resume(trainer, place, is_shared=False)
    except ValueError as error:
        raise InvalidDataError(
            f"{place / 'checkpoints'}: {error}; delete the folder, or start over with --overwrite"
        ) from error
    if not is_resumed:
        trainer.prepare(count.rays)
    is_done = run_steps(
        trainer,
        lambda: trainer.schedule.steps,
        place,
        checkpoint_seconds=config.checkpoint_seconds,
        report=lambda step, figures: count.step(step, trainer.schedule.steps, figures),
        after_step=after_step,
        stop=stop_requested,
        is_shared=False,
    )
    if is_done:
        trainer.finish(count.rays)
        save_submodel(trainer.submodel, folder, trainer.shared_rays())
    return is_done
