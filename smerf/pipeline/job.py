"""A run at work: its folder, config and capture, begun or taken up again."""

from __future__ import annotations

import logging
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.environment import describe_environment
from smerf.engine.files import read_json, write_json
from smerf.engine.folder import RunFolder, describe_differences, stage_key
from smerf.engine.progress import WholeRun
from smerf.engine.settings import apply_overrides, to_dict
from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.pipeline.config import RunConfig, load_config, make_config, with_seed, write_config

if TYPE_CHECKING:
    from smerf.capture.types import Capture
    from smerf.export.about import About
    from smerf.pipeline.asset import AssetSource
    from smerf.pipeline.watch import Watch

__all__ = [
    "Job",
    "choose_config",
    "load_run_capture",
    "require_same",
    "resume_run",
    "run_about",
    "run_photos",
    "start_run",
    "teacher_key",
    "with_max_mb",
    "write_records",
]

_log = logging.getLogger(__name__)

_MIN_SIDE = 11
"""The window of SSIM, in pixels: smaller images cannot be measured."""


@dataclass
class Job:
    """A run at work: its folder (locked), what was asked for, its capture, and how to go about it."""

    run: RunFolder
    config: RunConfig
    """What the user asked for; ``config.yaml`` holds what ran."""
    capture: Capture
    capture_record: dict[str, Any]
    """What ``capture.json`` says of it."""
    device: str
    quiet: bool = False
    verbose: bool = False
    source: AssetSource | None = None
    """The file that is the teacher, if there is one."""
    whole: WholeRun | None = None
    """The stages of ``smerf run``, for the time that is left; not given where one stage runs alone."""
    watch: Watch | None = None
    """The page that shows the run at work, if there is one."""

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the capture."""
        return str(self.capture_record["fingerprint"])

    @property
    def masked_capture(self) -> Capture:
        """Return the capture without the pixels that the run's teacher left out as moving."""
        from smerf.capture.masks import MASKS, with_masks

        return with_masks(self.capture, self.run.folder("teacher") / MASKS)


def choose_config(
    run: RunFolder,
    preset: str | None = None,
    settings: tuple[str, ...] = (),
    seed: int | None = None,
    *,
    overwrite: bool = False,
) -> RunConfig:
    """Return the config of the command line; what it leaves open stays as an existing run has it.

    Raises:
        UsageError: If an existing run has another config and ``overwrite`` is off; the message names the keys.
    """
    if not run.exists():
        return make_config(preset or "preview", settings, seed)
    saved = load_config(run, asked=True)
    if preset is None and (seed is None or saved.minutes is not None):
        config = apply_overrides(with_seed(saved, seed), settings)
    else:
        config = make_config(preset or saved.preset, settings, seed)
    require_same(run, config, overwrite=overwrite)
    return config


def require_same(run: RunFolder, config: RunConfig, *, overwrite: bool = False) -> None:
    """Refuse a config that is not that of the run, unless what it touches may be redone.

    Raises:
        UsageError: If they differ and ``overwrite`` is off; the message names the keys.
    """
    if not run.exists():
        return
    saved = load_config(run, asked=True)
    differences = describe_differences(to_dict(saved), to_dict(config))
    # What the page says of itself takes no work to change.
    differences = [each for each in differences if not each.startswith("page.")]
    if differences and not overwrite:
        shown = ", ".join(differences[:6]) + (f" and {len(differences) - 6} more" if differences[6:] else "")
        raise UsageError(
            f"{run.path}: holds a run of another config: {shown}; give another folder with -o, "
            "or --overwrite to redo what the change touches"
        )


def with_max_mb(config: RunConfig, max_mb: float) -> RunConfig:
    """Return the config with a largest size of the baked scene, in MB.

    Raises:
        UsageError: If it is not a size.
    """
    if not (math.isfinite(max_mb) and max_mb > 0.0):
        raise UsageError(f"--max-mb {max_mb:g}: give a size above 0")
    return apply_overrides(config, (f"bake.max_mb={max_mb}",))


def start_run(
    run: RunFolder,
    data: Path,
    config: RunConfig,
    device: str,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    source: AssetSource | None = None,
) -> Job:
    """Begin or resume the run in a locked folder; ``source`` is the file that ``data`` was rendered from.

    Raises:
        UsageError: If the folder holds a run of another capture and ``overwrite`` is off.
        InvalidDataError: If the photos are no capture, or too small to be measured.
    """
    from smerf.capture import fingerprint, load_capture

    capture = load_capture(data, max_side=config.max_side)
    for frame in capture.frames:
        width, height = frame.camera.intrinsics.width, frame.camera.intrinsics.height
        if min(width, height) < _MIN_SIDE:
            raise InvalidDataError(
                f"{frame.image_path}: {width}x{height} pixels to train on; photos need at least {_MIN_SIDE} a side. "
                "Give larger photos, or a larger max_side"
            )
    record = _describe_capture(run, data, capture, fingerprint(capture))
    saved = _saved_capture(run) if run.capture.is_file() else record
    if saved.get("fingerprint") != record["fingerprint"] and not overwrite:
        raise UsageError(
            f"{run.path}: holds a run of other photos ({saved.get('path')}, "
            "or they have changed); give another folder with -o, or --overwrite to redo what changes"
        )
    _log.info("begin: %s", " ".join(sys.argv[1:]))
    job = Job(run, config, capture, record, device, quiet, verbose, source)
    write_records(job)
    return job


def resume_run(
    run: RunFolder,
    config: RunConfig,
    device: str,
    *,
    data: Path | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> Job:
    """Take up an existing run, in a locked folder, with its own capture."""
    capture = load_run_capture(run, config, data)
    _log.info("resume: %s", " ".join(sys.argv[1:]))
    job = Job(run, config, capture, _saved_capture(run), device, quiet, verbose)
    write_records(job)
    return job


def write_records(job: Job) -> None:
    """Write config.yaml, capture.json and environment.json, each as far as it speaks of the results that are there.

    What a new command asks for becomes part of them when the stage that it redoes is finished.
    """
    run = job.run
    if run.stage("teacher") is None or run.is_done("teacher", teacher_key(job.config, job.fingerprint)):
        write_json(run.capture, job.capture_record)
    if not run.environment.is_file():
        write_json(run.environment, describe_environment(["smerf", *sys.argv[1:]], job.device))
    write_config(run, job.config)


def teacher_key(config: RunConfig, fingerprint: str) -> str:
    """Return the key of the first stage."""
    return stage_key({"teacher": to_dict(config.teacher), "max_side": config.max_side}, fingerprint)


def load_run_capture(run: RunFolder, config: RunConfig, data: Path | None = None) -> Capture:
    """Load the capture of an existing run, from where it was or from ``data``.

    Raises:
        UsageError: If the photos are gone.
        InvalidDataError: If they are not those the run was made from.
    """
    from smerf.capture import fingerprint, load_capture

    record = _saved_capture(run)
    places = [data] if data else [Path(record["path"]), run.path / record["relative"]]
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise UsageError(f"{places[0]}: the run's capture is not there any more; say where it is with --data")
    capture = load_capture(place, max_side=config.max_side)
    if fingerprint(capture) != record["fingerprint"]:
        raise InvalidDataError(
            f"{place}: is not the capture that {run.path} was made from, or it has changed; "
            f"smerf run {place} -o {run.path} --overwrite redoes the run"
        )
    return capture


def run_about(path: Path, given: tuple[str, ...] = ()) -> About:
    """Return what the page of the run at ``path`` says of itself; ``given`` settings come first.

    Raises:
        UsageError: If a value is not allowed.
    """
    run = RunFolder(path)
    config = load_config(run, asked=True) if run.exists() else make_config()
    return apply_overrides(config, given).page


def run_photos(path: Path, data: Path | None = None) -> Capture | None:
    """Return the capture that the run at ``path`` was made from, for showing its photos.

    ``None`` outside a run, and, with a warning that says why, where the photos are gone and ``data`` names no other
    place.
    """
    run = RunFolder(path)
    if not run.exists():
        return None
    try:
        return load_run_capture(run, load_config(run), data)
    except SmerfError as error:
        if data is not None:
            raise
        _log.warning("no photos: %s", error)
        return None


def _saved_capture(run: RunFolder) -> dict[str, Any]:
    """Return what is known of the photos that the run's results were made from."""
    record = read_json(run.capture)
    teacher = run.stage("teacher")
    made_from = (teacher.settings or {}).get("capture") if teacher else None
    # A process that was killed after it replaced the teacher did not reach capture.json.
    if made_from and made_from["fingerprint"] != record.get("fingerprint"):
        record = made_from
    if not {"path", "relative", "fingerprint"} <= record.keys():
        raise InvalidDataError(
            f"{run.capture}: does not say which photos; smerf run DATA -o {run.path} writes it"
        )
    return dict(record)


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
