"""The stages of a run, one function each: prepare the folder, call the stage, mark it done.

A stage reads what the stage before it left on disk. It is skipped when its folder holds a finished result of
the same config and the same input.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.environment import describe_environment, peak_gpu_mb, peak_memory_mb, reset_peak_memory
from smerf.engine.files import read_json, write_json
from smerf.engine.folder import RunFolder, Stage, describe_differences, stage_key
from smerf.engine.progress import Progress, format_seconds
from smerf.engine.settings import apply_overrides, to_dict
from smerf.engine.signals import raise_if_stopped
from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.pipeline.config import RunConfig, load_config, make_config, save_config

if TYPE_CHECKING:
    from smerf.capture.types import Capture

__all__ = [
    "COMMAND_OF",
    "Job",
    "bake",
    "choose_config",
    "distill",
    "export",
    "load_run_capture",
    "resume_run",
    "run_photos",
    "start_run",
    "train",
]

COMMAND_OF = {"teacher": "train", "student": "distill", "baked": "bake", "site": "export"}
"""The command that makes each stage, which is also its name in progress lines."""
_log = logging.getLogger(__name__)


@dataclass
class Job:
    """A run at work: its folder (locked), config, capture, and how to go about it."""

    run: RunFolder
    config: RunConfig
    capture: Capture
    fingerprint: str
    device: str
    quiet: bool = False


def choose_config(
    run: RunFolder,
    preset: str | None,
    settings: tuple[str, ...],
    seed: int | None = None,
    *,
    overwrite: bool = False,
) -> RunConfig:
    """Return the config of the command line; what it leaves open stays as an existing run has it.

    Raises:
        UsageError: If an existing run has another config and ``overwrite`` is off; the message names the
        keys.
    """
    if not run.exists():
        return make_config(preset or "preview", settings, seed)
    saved = load_config(run.config)
    if preset is None and seed is None:
        config = apply_overrides(saved, settings)
    else:
        config = make_config(preset or saved.preset, settings, seed)
    differences = describe_differences(to_dict(saved), to_dict(config))
    if differences and not overwrite:
        shown = ", ".join(differences[:6]) + (f" and {len(differences) - 6} more" if differences[6:] else "")
        raise UsageError(
            f"{run.path}: holds a run of another config: {shown}; give another folder with -o, "
            "or --overwrite to redo what the change touches"
        )
    return config


def start_run(
    run: RunFolder,
    data: Path,
    config: RunConfig,
    device: str,
    *,
    overwrite: bool = False,
    quiet: bool = False,
) -> Job:
    """Begin or resume the run in a locked folder.

    Raises:
        UsageError: If the folder holds a run of another capture and ``overwrite`` is off.
    """
    from smerf.capture import fingerprint, load_capture

    capture = load_capture(data, max_side=config.max_side)
    mark = fingerprint(capture)
    if run.capture.is_file() and not overwrite and read_json(run.capture).get("fingerprint") != mark:
        raise UsageError(
            f"{run.path}: holds a run of other photos ({read_json(run.capture).get('path')}, "
            "or they have changed); give another folder with -o, or --overwrite to redo what changes"
        )
    write_json(run.capture, _describe_capture(run, data, capture, mark))
    write_json(run.environment, describe_environment(["smerf", *sys.argv[1:]], device))
    save_config(run.config, config)
    _log.info("begin: %s", " ".join(sys.argv[1:]))
    return Job(run, config, capture, mark, device, quiet)


def resume_run(
    run: RunFolder, config: RunConfig, device: str, *, data: Path | None = None, quiet: bool = False
) -> Job:
    """Take up an existing run, in a locked folder, with its own capture."""
    capture, mark = load_run_capture(run, config, data)
    save_config(run.config, config)
    _log.info("resume: %s", " ".join(sys.argv[1:]))
    return Job(run, config, capture, mark, device, quiet)


def load_run_capture(run: RunFolder, config: RunConfig, data: Path | None = None) -> tuple[Capture, str]:
    """Load the capture of an existing run, from where it was or from ``data``; return it with its
    fingerprint.

    Raises:
        UsageError: If the photos are gone.
        InvalidDataError: If they are not those the run was made from.
    """
    from smerf.capture import fingerprint, load_capture

    record = read_json(run.capture)
    places = [data] if data else [Path(record["path"]), run.path / record["relative"]]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise UsageError(f"{places[0]}: the run's capture is not there any more; say where it is with --data")
    capture = load_capture(place, max_side=config.max_side)
    mark = fingerprint(capture)
    if mark != record["fingerprint"]:
        raise InvalidDataError(
            f"{place}: is not the capture that {run.path} was made from, or it has changed; "
            f"smerf run {place} -o {run.path} --overwrite redoes the run"
        )
    return capture, mark


def run_photos(path: Path, data: Path | None = None) -> Capture | None:
    """Return the capture that the run at ``path`` was made from, for showing its photos.

    ``None`` outside a run, and, with a word of why, where the photos are gone and ``data`` names no other place.
    """
    run = RunFolder(path)
    if not run.exists():
        return None
    try:
        return load_run_capture(run, load_config(run.config), data)[0]
    except SmerfError as error:
        if data is not None:
            raise
        print(f"no photos: {error}", file=sys.stderr)
        return None


def train(job: Job, number: tuple[int, int] | None = None) -> Stage:
    """Train the teacher."""

    def work(folder: Path, progress: Progress) -> None:
        from smerf.teacher import train_teacher

        train_teacher(job.capture, job.config.teacher, folder=folder, progress=progress, device=job.device)

    return _stage(job, "teacher", _teacher_key(job.config, job.fingerprint), work, number, saves=True)


def _teacher_key(config: RunConfig, mark: str) -> str:
    return stage_key({"teacher": to_dict(config.teacher), "max_side": config.max_side}, mark)


def follow_training(run: RunFolder, data: Path, device: str) -> None:
    """Train as one of torchrun's processes beside the first, which has begun the run and writes it."""
    from smerf.capture import fingerprint, load_capture
    from smerf.teacher import train_teacher

    config = load_config(run.config)
    capture = load_capture(data, max_side=config.max_side)
    if not run.is_done("teacher", _teacher_key(config, fingerprint(capture))):
        train_teacher(capture, config.teacher, folder=run.folder("teacher"), device=device)


def distill(job: Job, number: tuple[int, int] | None = None, teacher: Path | None = None) -> Stage:
    """Distil the run's teacher, or the one in the folder ``teacher``, into the student."""
    from smerf.engine import distributed

    source = teacher or job.run.folder("teacher")

    def work(folder: Path, progress: Progress) -> None:
        from smerf.student import distill as distill_student
        from smerf.teacher import load_teacher

        # The folder is cleared and the config is written: others may follow.
        distributed.barrier()
        distill_student(
            load_teacher(source),
            job.capture,
            job.config.student,
            folder=folder,
            progress=progress,
            device=job.device,
        )

    key = _student_key(job.run, job.config, teacher)
    if job.run.is_done("student", key):
        distributed.barrier()
    return _stage(job, "student", key, work, number, saves=True)


def _student_key(run: RunFolder, config: RunConfig, teacher: Path | None) -> str:
    upstream = _foreign_digest(teacher) if teacher else _upstream(run, "teacher").digest
    return stage_key({"student": to_dict(config.student)}, upstream)


def follow_distillation(
    run: RunFolder, device: str, *, data: Path | None = None, teacher: Path | None = None
) -> None:
    """Distil as one of torchrun's processes beside the first, which has begun the stage and ends it."""
    from smerf.engine import distributed
    from smerf.engine.signals import raise_if_stopped
    from smerf.student import distill as distill_student
    from smerf.teacher import load_teacher

    distributed.barrier()
    config = load_config(run.config)
    if run.is_done("student", _student_key(run, config, teacher)):
        return
    capture, _ = load_run_capture(run, config, data)
    source = load_teacher(teacher or run.folder("teacher"))
    distill_student(source, capture, config.student, folder=run.folder("student"), device=device)
    raise_if_stopped()


def bake(job: Job, number: tuple[int, int] | None = None) -> Stage:
    """Bake the student."""
    upstream = _upstream(job.run, "student").digest

    def work(folder: Path, progress: Progress) -> None:
        from smerf.baking import bake as bake_student
        from smerf.student import load_student

        student = load_student(job.run.folder("student"))
        bake_student(student, job.capture, job.config.bake, folder=folder, progress=progress)

    return _stage(
        job, "baked", stage_key({"bake": to_dict(job.config.bake)}, upstream), work, number, saves=False
    )


def export(job: Job, number: tuple[int, int] | None = None) -> Stage:
    """Write the web page."""
    upstream = _upstream(job.run, "baked").digest

    def work(folder: Path, progress: Progress) -> None:
        from smerf.export.site import export_site

        export_site(job.run.folder("baked"), folder, capture=job.capture)
        progress.update(1, 1)

    return _stage(job, "site", stage_key({}, upstream), work, number, saves=False)


def _stage(
    job: Job,
    name: str,
    key: str,
    work: Callable[[Path, Progress], None],
    number: tuple[int, int] | None,
    saves: bool,
) -> Stage:
    """Do one stage unless it is done. ``saves`` says that it polls for signals and saves checkpoints
    itself.
    """
    run, command = job.run, COMMAND_OF[name]
    if run.is_done(name, key):
        stage = _upstream(run, name)
        if not job.quiet:
            title = f"[{number[0]}/{number[1]}] {command}" if number else command
            print(f"{title}: done before, in {format_seconds(stage.seconds)}", file=sys.stderr)
        return stage
    folder = run.begin(name, key, resumes=saves)
    reset_peak_memory()
    began = time.monotonic()
    progress = Progress(command, run=run, number=number, stops=not saves, quiet=job.quiet)
    try:
        with progress:
            work(folder, progress)
            if saves:
                # A training loop that was asked to stop returns early, with its checkpoint saved.
                raise_if_stopped()
    except BaseException:
        run.pause(name, key, time.monotonic() - began)
        raise
    stage = run.finish(name, key, time.monotonic() - began, peak_memory_mb(), peak_gpu_mb())
    _log.info("%s: done in %.1f s", command, stage.seconds)
    raise_if_stopped()
    return stage


def _upstream(run: RunFolder, name: str) -> Stage:
    stage = run.stage(name)
    if stage is None:
        raise UsageError(
            f"{run.path}: the stage {name} is not done; smerf {COMMAND_OF[name]} does it, smerf run does all"
        )
    return stage


def _foreign_digest(teacher: Path) -> str:
    """Name a teacher outside the run: by the digest of its stage, or by its place."""
    done = teacher / "done.json"
    return str(read_json(done)["digest"]) if done.is_file() else str(teacher.resolve())


def _describe_capture(run: RunFolder, data: Path, capture: Capture, mark: str) -> dict[str, Any]:
    test, train_frames = capture.split("test"), capture.split("train")
    if not train_frames:
        raise InvalidDataError(f"{data}: has no photos to train on")
    similarity = capture.training_from_source
    return {
        "path": str(data.resolve()),
        "relative": os.path.relpath(data.resolve(), run.path.resolve()),
        "kind": capture.kind,
        "fingerprint": mark,
        "frames": {"train": len(train_frames), "test": len(test)},
        "training_from_source": {
            "scale": float(similarity.scale),
            "rotation": [[float(x) for x in row] for row in similarity.rotation],
            "translation": [float(x) for x in similarity.translation],
        },
        "test_frames": [frame.name for frame in test],
    }
