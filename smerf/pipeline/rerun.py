"""Train a run's teacher again for a while and hold its figures against those that the run noted."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from smerf.engine.files import read_json
from smerf.engine.folder import RunFolder
from smerf.engine.loop import run_steps
from smerf.engine.progress import Progress
from smerf.engine.signals import raise_if_stopped, stop_requested
from smerf.engine.trace import is_noted, read_trace
from smerf.errors import UsageError
from smerf.pipeline.config import load_config
from smerf.pipeline.job import load_run_capture

__all__ = ["ALIKE_STEPS", "TOLERANCE", "Rerun", "rerun_teacher"]

TOLERANCE = 0.02
"""Relative difference that another instruction set may make within the first ``ALIKE_STEPS`` steps."""
ALIKE_STEPS = 64


@dataclass(frozen=True)
class Rerun:
    """What training again gave."""

    recorded: dict[int, dict[str, float]]
    """Figures by step, as the run noted them, as far as they were repeated."""
    repeated: dict[int, dict[str, float]]
    """The figures of the same steps now."""
    instructions: tuple[str | None, str | None]
    """Instruction sets of the run and of this machine."""

    @property
    def is_equal(self) -> bool:
        """Return whether every figure is the same number."""
        return self.recorded == self.repeated

    @property
    def complaint(self) -> str | None:
        """Return what is wrong, if anything is: any difference, or too large a one for other instructions."""
        same = self.instructions[0] == self.instructions[1]
        for step, figures in self.recorded.items():
            for name, value in figures.items():
                again = self.repeated[step].get(name, math.nan)
                alike = math.isclose(value, again, rel_tol=TOLERANCE, abs_tol=1e-6)
                if again != value if same else step <= ALIKE_STEPS and not alike:
                    return f"step {step}: {name} was {value:.9g} and is {again:.9g} now"
        return None


def rerun_teacher(run: RunFolder, device: str, seconds: float = 60.0, *, quiet: bool = False) -> Rerun:
    """Train the teacher of a run from its first step, as its config says, and note what the run noted.

    Args:
        run: A run with a trained teacher; nothing in it is changed.
        device: ``cpu`` or ``cuda``.
        seconds: How long to train.
        quiet: Show no progress.

    Raises:
        UsageError: If the run has no trained teacher, or noted nothing.
        InvalidDataError: If its photos cannot be read.
        SmerfError: If its photos are no longer those that it was trained on.
    """
    from smerf.capture import fingerprint
    from smerf.teacher.plan import resolve_config
    from smerf.teacher.trainer import TeacherTrainer

    trace = read_trace(run.folder("teacher"))
    recorded = trace.figures
    if run.stage("teacher") is None or not recorded:
        raise UsageError(f"{run.path}: holds no teacher that was trained with a trace of its figures")
    config = load_config(run)
    if config.teacher.minutes is not None and not trace.schedules:
        raise UsageError(f"{run.path}: its record does not say how its schedule moved; train it again")
    capture = load_run_capture(run, config, None)
    saved = read_json(run.capture)
    if saved.get("fingerprint") != fingerprint(capture):
        raise UsageError(f"{run.path}: its photos have changed since it was trained")
    # The clock moves nothing now: the moves that it made are repeated.
    settings = replace(config.teacher, minutes=None)
    trainer = TeacherTrainer(capture, resolve_config(settings, capture, device, 1), device)
    repeated: dict[int, dict[str, float]] = {}
    deadline = time.monotonic() + seconds
    steps = max(recorded)

    def follow() -> None:
        trainer.schedule = trace.schedules.get(trainer.step, trainer.schedule)

    follow()
    with Progress("rerun", None, "steps", stops=True, quiet=quiet) as progress:

        def report(step: int, figures: dict[str, float]) -> None:
            if is_noted(step):
                repeated[step] = figures
            progress.update(step, steps)

        run_steps(
            trainer,
            steps,
            report=report,
            after_step=follow,
            stop=lambda: stop_requested() or time.monotonic() > deadline,
        )
    raise_if_stopped()
    environment = read_json(run.environment) if run.environment.is_file() else {}
    from smerf.kernels.native import instructions

    return Rerun(
        {step: recorded[step] for step in sorted(repeated) if step in recorded},
        {step: repeated[step] for step in sorted(repeated) if step in recorded},
        (environment.get("instructions"), instructions()),
    )
