"""Time that the user grants: measured against the machine and the capture, and turned into settings."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from smerf.engine.folder import flatten
from smerf.engine.memory import held_memory
from smerf.engine.pace import budget_clock
from smerf.engine.settings import apply_overrides, to_dict
from smerf.errors import UsageError
from smerf.pipeline.budget import Facts, Plan, check_minutes, make_plan
from smerf.pipeline.config import RunConfig, make_config
from smerf.pipeline.footprint import Photos, peak_bytes
from smerf.pipeline.job import Job, require_same
from smerf.pipeline.ladder import Table
from smerf.pipeline.rates import measure_rates

if TYPE_CHECKING:
    from smerf.capture.types import Capture
    from smerf.teacher.asset import Asset
    from smerf.teacher.model import Teacher

__all__ = [
    "DEFAULT_MINUTES",
    "Start",
    "choose_minutes",
    "choose_stage_minutes",
    "grant_distillation",
    "plan_distillation",
    "plan_run",
    "plan_training",
    "require_alone",
    "say",
]

DEFAULT_MINUTES = 10.0
"""What ``smerf run`` grants where nothing else is asked for."""
_PROBE_SIDE = 480
_PROBE_FRACTION, _MAX_PROBE_SECONDS = 0.01, 2.0
_REST = {"bake": 0.25, "export": 0.05, "eval": 0.6}
"""Parts of the time for everything else; some of it is over when training begins."""
_FIXED = ("teacher.steps", "student.steps", "teacher.minutes", "student.minutes")


@dataclasses.dataclass(frozen=True)
class Start:
    """When a grant of time began, on the clock that it is counted on."""

    time: float

    @classmethod
    def now(cls) -> Start:
        """Begin now."""
        return cls(budget_clock()())

    @property
    def used(self) -> float:
        """Seconds since then."""
        return budget_clock()() - self.time


def choose_minutes(
    minutes: float | None, preset: str | None, settings: tuple[str, ...], *, is_new: bool, device: str
) -> float | None:
    """Return the time that is granted: as asked, the default for new runs that ask for nothing, else None.

    Raises:
        UsageError: If a preset is asked for as well.
    """
    if minutes is not None:
        if preset is not None:
            raise UsageError("--minutes and --preset: give one; a preset is a fixed number of steps")
        return check_minutes(minutes)
    fixes_time = any(_gives(settings, key) for key in _FIXED)
    if not is_new or preset is not None or fixes_time or device != "cpu":
        return None
    return DEFAULT_MINUTES


def _gives(settings: tuple[str, ...], key: str) -> bool:
    return any(one.partition("=")[0].strip().replace("-", "_") == key for one in settings)


def choose_stage_minutes(minutes: float | None, preset: str | None = None) -> float | None:
    """Return the time that one stage is granted, if any; raises as ``choose_minutes`` does."""
    return choose_minutes(minutes, preset, (), is_new=False, device="cpu")


def require_alone(minutes: float | None, world_size: int) -> None:
    """Refuse a grant of time to several processes, whose machines are not measured.

    Raises:
        UsageError: If there are several.
    """
    if minutes is not None and world_size > 1:
        raise UsageError("--minutes: is for one process; give steps (--set) to those of torchrun")


def plan_run(
    data: Path,
    minutes: float,
    start: Start,
    device: str,
    settings: tuple[str, ...] = (),
    seed: int | None = None,
    asset: Asset | None = None,
) -> tuple[RunConfig, Plan]:
    """Return the settings of a whole run, and the plan that they are from; of ``asset`` nothing is trained."""
    from smerf.teacher.foreign import placed

    capture = _load_probe(data)
    teacher = None if asset is None else placed(asset, capture)
    plan = _plan_of(capture, minutes, start, device, teacher=teacher, is_whole=True)
    # Steps that are given count; they take what time they take.
    free = [f"{stage}.minutes=null" for stage in ("teacher", "student") if _gives(settings, f"{stage}.steps")]
    config = make_config("preview", (*plan.overrides(), *free, *settings), seed)
    values = flatten(to_dict(config))
    plan = dataclasses.replace(plan, settings={key: values[key] for key in plan.settings})
    held = held_memory() if device == "cpu" else None
    if held is not None:
        photos = Photos.of(capture, config.max_side)
        plan = dataclasses.replace(plan, memory_mb=peak_bytes(config, photos, held) / 2**20)
    return dataclasses.replace(config, minutes=minutes), plan


def plan_training(
    data: Path,
    minutes: float,
    start: Start,
    device: str,
    settings: tuple[str, ...] = (),
    seed: int | None = None,
) -> tuple[RunConfig, Plan]:
    """Return the settings of a run whose teacher gets all of the time."""
    plan = _whole_to(_plan_of(_load_probe(data), minutes, start, device, is_whole=False), "teacher")
    return make_config("preview", (*plan.overrides(), *settings), seed), plan


def plan_distillation(
    config: RunConfig,
    capture: Capture,
    teacher: Teacher,
    minutes: float,
    start: Start,
    device: str,
    settings: tuple[str, ...] = (),
) -> tuple[RunConfig, Plan]:
    """Return the settings of a run whose student gets all of the time; the teacher and the photos' size stay."""
    plan = _whole_to(_plan_of(capture, minutes, start, device, teacher=teacher, is_whole=False), "student")
    plan = dataclasses.replace(plan, settings=plan.settings | {"max_side": config.max_side})
    return apply_overrides(config, (*plan.overrides(), *settings)), plan


def grant_distillation(
    job: Job,
    teacher: Path | None,
    minutes: float,
    start: Start,
    settings: tuple[str, ...],
    *,
    overwrite: bool,
) -> Job:
    """Return a job whose student gets all of the time, and say how it is spent.

    Raises:
        UsageError: If the run has another config and ``overwrite`` is off, or no teacher.
    """
    from smerf.pipeline.asset import name_teacher
    from smerf.teacher import load_teacher

    if teacher is not None and teacher.is_file():
        teacher = name_teacher(job.run, teacher, job.capture)
    source = load_teacher(teacher or job.run.folder("teacher"))
    config, plan = plan_distillation(job.config, job.capture, source, minutes, start, job.device, settings)
    require_same(job.run, config, overwrite=overwrite)
    if not job.quiet:
        say(plan, "distill")
    return dataclasses.replace(job, config=config)


def _whole_to(plan: Plan, stage: str) -> Plan:
    """Return a plan that gives one stage exactly the time that is granted, and the other one none."""
    seconds, other = 60.0 * plan.minutes, {"teacher": "student", "student": "teacher"}[stage]
    before = plan.train_seconds if stage == "teacher" else plan.distill_seconds
    steps = max(1, int(plan.settings[f"{stage}.steps"] * seconds / before))
    chosen = {key: value for key, value in plan.settings.items() if not key.startswith(f"{other}.")}
    chosen |= {f"{stage}.minutes": plan.minutes, f"{stage}.steps": steps}
    times = (seconds, 0.0) if stage == "teacher" else (0.0, seconds)
    return dataclasses.replace(
        plan, settings=chosen, train_seconds=times[0], distill_seconds=times[1], rest_seconds=0.0
    )


def _load_probe(data: Path) -> Capture:
    """Open a capture at the size at which the machine is measured on it."""
    from smerf.capture import load_capture

    return load_capture(data, max_side=_PROBE_SIDE)


def _plan_of(
    capture: Capture,
    minutes: float,
    start: Start,
    device: str,
    *,
    teacher: Teacher | None = None,
    is_whole: bool,
) -> Plan:
    from smerf.student.division import divide

    seconds = min(_MAX_PROBE_SECONDS, _PROBE_FRACTION * 60.0 * minutes)
    rates = measure_rates(capture, device, seconds=seconds, teacher=teacher)
    frames = capture.frames
    largest = max(frames, key=lambda frame: frame.camera.intrinsics.width * frame.camera.intrinsics.height)
    size = largest.camera.intrinsics
    facts = Facts(
        "object" if capture.background is not None else "scene",
        len(capture.split("train")),
        len(capture.split("test")),
        (size.width * largest.downscale, size.height * largest.downscale),
        trains=teacher is None,
        is_whole=is_whole,
    )
    return make_plan(minutes, facts, rates, Table.load(), lambda most: divide(capture, most), start.used)


def granted_seconds(config: RunConfig, *, trains: bool = True) -> dict[str, float] | None:
    """Return the seconds of each command of a run that was granted a time; None for others.

    ``trains`` says whether the run has a teacher to train.
    """
    minutes = config.teacher.minutes if trains else 0.0, config.student.minutes
    if config.minutes is None or None in minutes:
        return None
    train, distill = (60.0 * float(each or 0.0) for each in minutes)
    rest = max(0.0, 60.0 * config.minutes - train - distill)
    return {"train": train, "distill": distill} | {name: part * rest for name, part in _REST.items()}


def say(plan: Plan, command: str) -> None:
    """Say a plan in one line, and how to grant more."""
    print(f"{command}: {plan.line()} (--minutes M grants more)", file=sys.stderr, flush=True)
