"""The stages of a run, one function each: work beside the finished result, call the stage, put the result in place.

A stage reads what the stage before it left on disk. It is skipped when its folder holds a finished result of
the same config and the same input.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine import distributed
from smerf.engine.environment import describe_environment, peak_gpu_mb, peak_memory_mb, reset_peak_memory
from smerf.engine.files import read_json, write_json
from smerf.engine.folder import FOREIGN, RunFolder, Stage, flatten, stage_key
from smerf.engine.memory import release_memory
from smerf.engine.progress import Progress, format_seconds
from smerf.engine.settings import from_dict, to_dict
from smerf.engine.signals import raise_if_stopped
from smerf.errors import UsageError
from smerf.pipeline.asset import AssetSource, name_teacher
from smerf.pipeline.config import RunConfig, load_config, part, write_config
from smerf.pipeline.footprint import require_grids
from smerf.pipeline.job import Job, load_run_capture, teacher_key, write_records

if TYPE_CHECKING:
    from smerf.teacher.asset_options import AssetOptions

__all__ = [
    "COMMAND_OF",
    "ONE_FILE",
    "bake",
    "distill",
    "export",
    "find_teacher",
    "follow_distillation",
    "follow_training",
    "train",
]

COMMAND_OF = {"teacher": "train", "student": "distill", "baked": "bake", "site": "export"}
"""The command that makes each stage, which is also its name in progress lines."""
ONE_FILE = "scene.html"
"""Beside ``site/``: the page as one file that opens by a double click."""
_MAX_ONE_FILE_BYTES = 150_000_000
"""Browsers fail to open the one file of a larger scene."""
_log = logging.getLogger(__name__)

_BEHIND = 0.9
"""Fraction of the planned steps below which a stage says so."""

Work = Callable[[Path, RunConfig, Progress], RunConfig | None]
"""Makes a stage's result in a folder, with settings; returns those that changed on the way, if any did."""
Resolve = Callable[[RunConfig], RunConfig]
"""Decides the settings that the user has left open."""


def train(job: Job) -> Stage:
    """Train the teacher, or name the file that is one."""
    if job.source is not None:
        return _name_source(job, job.source)

    def resolve(config: RunConfig) -> RunConfig:
        from smerf.teacher.plan import resolve_config

        world_size = distributed.this_process().world_size
        return dataclasses.replace(
            config, teacher=resolve_config(config.teacher, job.capture, job.device, world_size)
        )

    def work(folder: Path, config: RunConfig, progress: Progress) -> RunConfig | None:
        from smerf.teacher import train_teacher

        watch = job.watch
        preview = None if watch is None else lambda made: watch.teacher(made.render_image, job.capture)
        made = train_teacher(
            job.capture,
            config.teacher,
            folder=folder,
            progress=progress,
            preview=preview,
            device=job.device,
        )
        if getattr(config.teacher, "minutes", None) is None:
            return None
        return dataclasses.replace(config, teacher=made.config)

    return _stage(job, "teacher", teacher_key(job.config, job.fingerprint), work, resolve)


def _name_source(job: Job, source: AssetSource) -> Stage:
    def work(folder: Path, config: RunConfig, progress: Progress) -> None:
        from smerf.teacher.foreign import save_foreign

        save_foreign(source.asset, source.options, job.capture, folder)
        progress.update(1, 1)

    return _stage(job, "teacher", teacher_key(job.config, job.fingerprint), work)


def follow_training(run: RunFolder, data: Path, device: str) -> None:
    """Train as one of torchrun's processes beside the first, which has begun the run and writes it."""
    from smerf.capture import load_capture
    from smerf.teacher import train_teacher

    config = _settings_of_first(run, "teacher")
    if config is not None:
        capture = load_capture(data, max_side=config.max_side)
        train_teacher(capture, config.teacher, folder=run.work("teacher"), device=device)


def distill(job: Job, teacher: Path | None = None, options: AssetOptions | None = None) -> Stage:
    """Distil the run's teacher, or the one that ``teacher`` is, a folder or a file, into the student.

    Raises:
        UsageError: If there are options of a file and ``teacher`` is none.
    """
    if teacher is not None and teacher.is_file():
        teacher = name_teacher(job.run, teacher, job.capture, options)
    elif options is not None:
        raise UsageError("--focal, --splat-mode, --keep-all and --light are for --teacher FILE")
    from smerf.capture.masks import MASKS, with_masks

    upstream = _foreign_digest(teacher) if teacher else _upstream(job.run, "teacher").digest
    source = teacher or job.run.folder("teacher")
    capture = with_masks(job.capture, source / MASKS)

    def resolve(config: RunConfig) -> RunConfig:
        from smerf.student.plan import resolve_config
        from smerf.teacher import load_teacher

        require_grids(config.student, job.device)
        chosen = resolve_config(config.student, load_teacher(source), capture, job.device)
        return dataclasses.replace(config, student=chosen)

    def work(folder: Path, config: RunConfig, progress: Progress) -> RunConfig | None:
        from smerf.student import distill as distill_student
        from smerf.teacher import load_teacher

        watch = job.watch
        preview = None if watch is None else lambda snapshot: watch.student(snapshot, capture)
        made = distill_student(
            load_teacher(source),
            capture,
            config.student,
            folder=folder,
            progress=progress,
            preview=preview,
            device=job.device,
        )
        (folder / FOREIGN).unlink(missing_ok=True)
        if (source / FOREIGN).is_file():
            from smerf.teacher.foreign import copy_record

            copy_record(source, folder)
        if getattr(config.student, "minutes", None) is None or made is None:
            return None
        return dataclasses.replace(config, student=made.config)

    key = stage_key({"student": to_dict(job.config.student)}, upstream)
    return _stage(job, "student", key, work, resolve)


def follow_distillation(
    run: RunFolder, device: str, *, data: Path | None = None, teacher: Path | None = None
) -> None:
    """Distil as one of torchrun's processes beside the first, which has begun the stage and ends it."""
    from smerf.capture.masks import MASKS, with_masks
    from smerf.student import distill as distill_student
    from smerf.teacher import load_teacher

    config = _settings_of_first(run, "student")
    if config is not None:
        place = teacher or run.folder("teacher")
        capture = with_masks(load_run_capture(run, config, data), place / MASKS)
        distill_student(
            load_teacher(place), capture, config.student, folder=run.work("student"), device=device
        )
        raise_if_stopped()


def bake(job: Job) -> Stage:
    """Bake the student."""
    upstream = _upstream(job.run, "student").digest

    def work(folder: Path, config: RunConfig, progress: Progress) -> None:
        from smerf.baking import bake as bake_student
        from smerf.student import load_student

        made = job.run.folder("student")
        extra: dict[str, object] | None = None
        if (made / FOREIGN).is_file():
            from smerf.teacher.foreign import source_teacher

            extra = {"source_teacher": source_teacher(made)}
        bake_student(
            load_student(made), job.capture, config.bake, folder=folder, progress=progress, extra=extra
        )
        labels = job.run.path / "labels"
        if labels.is_dir():
            from smerf.pipeline.object_ids import keep_objects

            keep_objects(folder, job.capture, labels, quiet=job.quiet)

    return _stage(job, "baked", stage_key({"bake": to_dict(job.config.bake)}, upstream), work)


def export(job: Job) -> Stage:
    """Write the web page."""
    upstream = _upstream(job.run, "baked").digest

    def work(folder: Path, config: RunConfig, progress: Progress) -> None:
        from smerf.export.page import Page
        from smerf.export.poster import render_poster
        from smerf.export.site import export_site

        baked, one_file = job.run.folder("baked"), job.run.path / ONE_FILE
        page = Page(config.page, render_poster(baked, job.device))
        export_site(baked, folder, capture=job.capture, page=page)
        one_file.unlink(missing_ok=True)
        if sum(path.stat().st_size for path in baked.rglob("*") if path.is_file()) <= _MAX_ONE_FILE_BYTES:
            export_site(baked, one_file, single_file=True, capture=job.capture, page=page)
        progress.update(1, 1)

    return _stage(job, "site", stage_key({"page": to_dict(job.config.page)}, upstream), work)


def _stage(job: Job, name: str, key: str, work: Work, resolve: Resolve | None = None) -> Stage:
    """Do one stage unless it is done.

    ``resolve`` is given for stages that train: they save checkpoints and poll for signals themselves.
    """
    run, command, trains = job.run, COMMAND_OF[name], resolve is not None
    done = run.stage(name)
    if done is not None and done.key == key:
        distributed.any_process(False)
        _report_done(job, command, done)
        return done
    folder = run.begin(name, key, resumes=trains)
    # What the stage before has left would be held beside what this one needs.
    release_memory()
    reset_peak_memory()
    began, config = time.monotonic(), job.config
    try:
        with _progress(job, command, stops=not trains) as progress:
            if resolve is not None:
                config = _settle(job, name, resolve)
            # The folder is ready and says what to do with it: the other processes may follow.
            distributed.any_process(True)
            planned, config = config, work(folder, config, progress) or config
            if trains:
                # A training loop that was asked to stop returns early, with its checkpoint saved.
                raise_if_stopped()
                _say_pace(job, name, planned, config)
    except BaseException:
        run.pause(name, key, time.monotonic() - began)
        raise
    seconds, peak = time.monotonic() - began, (peak_memory_mb(), peak_gpu_mb())
    settings = _record_settings(job, name, config)
    stage = run.finish(name, key, seconds, *peak, settings)
    write_json(run.environment, describe_environment(["smerf", *sys.argv[1:]], job.device))
    write_records(job)
    _log.info("%s: done in %.1f s", command, stage.seconds)
    raise_if_stopped()
    return stage


def _settle(job: Job, name: str, resolve: Resolve) -> RunConfig:
    """Return the settings that a stage runs with: those of the work that it resumes, or as ``resolve`` decides."""
    begun = job.run.started(name).get("settings")
    if begun:
        config = from_dict(RunConfig, to_dict(job.config) | begun["ran"])
    else:
        config = resolve(job.config)
        job.run.note_settings(name, _record_settings(job, name, config))
    asked, ran = flatten(part(job.config, name)), flatten(part(config, name))
    chosen = [f"{key.split('.')[-1]} {_short(ran[key])}" for key in ran if ran[key] != asked.get(key)]
    if chosen and not job.quiet:
        print(f"{COMMAND_OF[name]}: {', '.join(chosen)} (chosen)", file=sys.stderr)
    write_config(job.run, job.config)
    return config


def _say_pace(job: Job, name: str, planned: RunConfig, ran: RunConfig) -> None:
    """Say so if a stage that was granted a time took clearly fewer steps than planned."""
    before, after = (getattr(getattr(config, name), "steps", 0) for config in (planned, ran))
    if after >= _BEHIND * before:
        return
    text = (
        f"{COMMAND_OF[name]}: fell behind its plan: {after} steps of {before}, annealed all the same to end on "
        "time; more minutes or an idle machine do better"
    )
    _log.warning(text)
    if not job.quiet:
        print(text, file=sys.stderr)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _record_settings(job: Job, name: str, config: RunConfig) -> dict[str, Any]:
    settings: dict[str, Any] = {"ran": part(config, name), "asked": part(job.config, name)}
    return settings | ({"capture": job.capture_record} if name == "teacher" else {})


def _settings_of_first(run: RunFolder, name: str) -> RunConfig | None:
    """Return the config that the first process trains with, or None if the stage is done."""
    if not distributed.any_process(False):
        return None
    return from_dict(RunConfig, to_dict(load_config(run)) | run.started(name)["settings"]["ran"])


def _progress(job: Job, command: str, *, stops: bool) -> Progress:
    return Progress(command, run=job.run, whole=job.whole, stops=stops, quiet=job.quiet, verbose=job.verbose)


def _report_done(job: Job, command: str, stage: Stage) -> None:
    title = command
    if job.whole is not None:
        title = job.whole.title(command)
        job.whole.finish(command, stage.seconds)
    if not job.quiet:
        print(f"{title}: already done (took {format_seconds(stage.seconds)})", file=sys.stderr)


def _upstream(run: RunFolder, name: str) -> Stage:
    stage = run.stage(name)
    if stage is None:
        raise UsageError(
            f"{run.path}: the stage {name} is not done; smerf {COMMAND_OF[name]} does it, smerf run does all"
        )
    return stage


def find_teacher(path: Path) -> Path:
    """Return the teacher that a path means: a run's folder of it, the folder itself, or a splat or mesh file.

    Raises:
        UsageError: If nothing is there.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise UsageError(f"--teacher {path}: is neither a folder nor a file")
    return RunFolder(path).folder("teacher") if RunFolder(path).exists() else path


def _foreign_digest(teacher: Path) -> str:
    """Name a teacher outside the run: by its file, by the digest of its stage, or by its place."""
    if (teacher / FOREIGN).is_file():
        from smerf.teacher.foreign import record_digest

        return record_digest(teacher)
    done = teacher / "done.json"
    return str(read_json(done)["digest"]) if done.is_file() else str(teacher.resolve())
