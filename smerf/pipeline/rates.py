"""How fast this machine is on a capture: a few timed steps of a small teacher and student on some of its photos."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smerf.engine.pace import budget_clock

if TYPE_CHECKING:
    from smerf.capture.types import Capture
    from smerf.teacher.model import Teacher

__all__ = ["Rates", "measure_rates"]

_PHOTOS = 6
_POOL = 16384
_MIN_CALLS = 4


@dataclass(frozen=True)
class Rates:
    """Seconds of a piece of work, on all processors that the process may use."""

    photo: float
    """Reading a photo at training size."""
    teacher: float
    """A ray of an early training step of the teacher."""
    query: float
    """A ray that the teacher answers."""
    student: float
    """A ray of an early training step of the student."""


def measure_rates(
    capture: Capture, device: str, *, seconds: float = 1.0, teacher: Teacher | None = None
) -> Rates:
    """Time about ``seconds`` of each kind of work, with the settings of ``preview`` on small grids.

    Args:
        capture: Photos at the size at which they will be trained on; a few of them are read.
        device: ``cpu`` or ``cuda``.
        seconds: Time for the steps of the teacher, and for those of the student.
        teacher: What will be distilled, if it is not trained.
    """
    from smerf.fields.ray_bank import RayBank
    from smerf.student.config import PRESETS as STUDENTS
    from smerf.student.plan import resolve_config as resolve_student
    from smerf.student.trainer import StudentTrainer
    from smerf.teacher.config import PRESETS as TEACHERS
    from smerf.teacher.plan import resolve_config
    from smerf.teacher.trainer import TeacherTrainer

    clock, some = budget_clock(), _some_photos(capture)
    began = clock()
    RayBank(some.split("train"))
    photo = (clock() - began) / len(some.split("train"))
    per_teacher_ray = 0.0
    if teacher is None:
        settings = dataclasses.replace(TEACHERS["preview"], steps=1000, checkpoint_seconds=1e6)
        # The scale is that of the whole capture, as in the run.
        trainer = TeacherTrainer(some, resolve_config(settings, capture, device, 1), device)
        per_teacher_ray = _time(trainer.advance, clock, seconds) / settings.rays
        teacher = trainer.model
    student = dataclasses.replace(
        STUDENTS["preview"],
        voxel_resolution=64,
        plane_resolution=256,
        max_blocks=0,
        pool=_POOL,
        steps=1000,
        submodel_scale=float(teacher.scene_scale),
        view_interpolation=0.0,
    )
    distillation = StudentTrainer(teacher, some, resolve_student(student, teacher, some, device), device)
    began = clock()
    distillation.rays.sample(_POOL)
    query = (clock() - began) / _POOL
    distillation.prepare()
    return Rates(photo, per_teacher_ray, query, _time(distillation.advance, clock, seconds) / student.rays)


def _some_photos(capture: Capture) -> Capture:
    """Return a few photos, without their depth maps: photos that are far apart confirm nothing of each other."""
    frames = capture.split("train")
    stride = max(1, len(frames) // _PHOTOS)
    some = [dataclasses.replace(frame, depth_path=None) for frame in frames[::stride][:_PHOTOS]]
    return dataclasses.replace(capture, frames=tuple(some))


def _time(step: Callable[[], object], clock: Callable[[], float], seconds: float) -> float:
    """Return the seconds of a step, the first one left out, which allocates."""
    step()
    began, calls = clock(), 0
    while calls < _MIN_CALLS or clock() - began < seconds:
        step()
        calls += 1
    return (clock() - began) / calls
