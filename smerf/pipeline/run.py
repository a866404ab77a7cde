"""The whole run: every stage that is not done yet, from photos to the page and the report."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.files import write_json
from smerf.engine.folder import RunFolder
from smerf.engine.progress import Progress, WholeRun
from smerf.engine.signals import catch_signals
from smerf.errors import UsageError
from smerf.pipeline import stages
from smerf.pipeline.asset import AssetSource, render_capture
from smerf.pipeline.evaluate import evaluate
from smerf.pipeline.footprint import require_grids
from smerf.pipeline.grant import Start, choose_minutes, granted_seconds, plan_run, say
from smerf.pipeline.job import Job, choose_config, require_same, start_run
from smerf.pipeline.metrics import current_metrics, is_current

if TYPE_CHECKING:
    from smerf.pipeline.budget import Plan
    from smerf.pipeline.watch import Watch
    from smerf.teacher.asset_options import AssetOptions

__all__ = ["PLAN", "RunResult", "default_output", "plan", "posed", "require_capture", "run"]

PLAN = "plan.json"
"""What a granted time was to be spent on, and the rates that were measured, in the run's folder."""
_WEIGHTS = {"train": 0.4, "distill": 0.56, "bake": 0.01, "export": 0.005, "eval": 0.025}
"""First estimate of each stage's fraction of the time: processor time of a preview of the tabletop on AVX2."""


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    folder: RunFolder
    """Where everything lies."""
    metrics: dict[str, dict[str, Any]]
    """The summary of each stage's figures on the held-out photos, by stage; empty without such photos."""

    @property
    def page(self) -> Path:
        """The web page, which a server or ``smerf serve`` shows."""
        return self.folder.folder("site") / "index.html"

    @property
    def scene(self) -> Path:
        """The baked scene, for ``smerf.load_scene``."""
        return self.folder.folder("baked")


def run(
    what: Path | str,
    output: Path | str | None = None,
    *,
    minutes: float | None = None,
    preset: str | None = None,
    settings: tuple[str, ...] = (),
    seed: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    source: AssetOptions | None = None,
    watch: Watch | None = None,
) -> RunResult:
    """Turn photos, a video or a capture into a page: find poses, train, distill, bake, export, measure.

    A splat or mesh file is its own teacher: its photos are its own renders, and nothing is trained.

    Stages that are done are skipped, so the same call continues a run that was stopped.

    Args:
        what: Folder of photos, a video, a posed capture, or a splat or mesh file. Photos and videos are prepared to
            ``capture/`` in the run.
        output: Run folder; ``runs/NAME`` if not given.
        minutes: Time for all of it, 1 to 600, from which everything else is chosen. New runs of photos on a CPU get
            10 if neither a preset nor steps are given; finding poses and rendering a file are not part of it.
        preset: A fixed amount of work instead: ``preview``, ``standard``, ``paper``.
        settings: Dotted ``key=value`` pairs, such as ``teacher.steps=4000``.
        seed: Random seed of every stage.
        device: ``auto``, ``cpu`` or ``cuda``.
        overwrite: Accept a changed config or capture; what the change touches is redone.
        quiet: Show no progress.
        verbose: Show losses as well.
        source: What is known of a file beside its content.
        watch: A page of the same run folder that shows the run at work.

    Raises:
        UsageError: If something does not exist, or the folder holds another run and ``overwrite`` is off.
        InvalidDataError: If the capture is unusable.
        MissingPartError: If the device is not there.
        Interrupted: If Ctrl-C was pressed; the work is saved.
    """
    what = Path(what)
    require_capture(what)
    folder = RunFolder(Path(output) if output is not None else default_output(what))
    opened, is_new, start = _open_source(what, source), not folder.exists(), Start.now()
    if not quiet:
        first = ["capture"] if opened is not None else ["prepare"] if _lacks_poses(what) else []
        names = ", ".join([*first, *_WEIGHTS])
        print(f"run: {what} -> {folder.path}: {names}", file=sys.stderr, flush=True)
    from smerf.engine.device import resolve_device

    device = resolve_device(device)
    minutes = choose_minutes(minutes, preset, settings, is_new=is_new and opened is None, device=device)
    with catch_signals(), folder:
        config = choose_config(folder, preset, settings, seed, overwrite=overwrite)
        how = {"overwrite": overwrite, "quiet": quiet}
        if opened is not None:
            data = render_capture(folder, opened, config.preset, **how, verbose=verbose)
        else:
            data = posed(what, folder, **how)
        chosen = None
        if minutes is not None and config.minutes != minutes:
            # Finding the poses, or rendering a file's photos, is not part of the grant.
            start = start if data == what else Start.now()
            asset = None if opened is None else opened.asset
            config, chosen = plan_run(data, minutes, start, device, settings, seed, asset)
            require_same(folder, config, overwrite=overwrite)
            if not quiet:
                say(chosen, "run")
        if folder.stage("student") is None:
            require_grids(config.student, device)
        job = start_run(folder, data, config, device, **how, verbose=verbose, source=opened)
        job.watch = watch
        if chosen is not None:
            write_json(folder.path / PLAN, chosen.record())
        return _run_stages(job)


def plan(
    what: Path | str,
    *,
    minutes: float | None = None,
    preset: str | None = None,
    settings: tuple[str, ...] = (),
    device: str = "auto",
) -> Plan:
    """Return how ``run`` would spend a time on posed photos: the machine is measured, and nothing is written.

    Raises:
        UsageError: If there are no posed photos, or a preset is asked for.
        InvalidDataError: If the capture is unusable.
    """
    from smerf.capture.readers import has_poses
    from smerf.engine.device import resolve_device
    from smerf.teacher.asset import is_asset

    what, start = Path(what), Start.now()
    require_capture(what)
    if is_asset(what):
        raise UsageError(f"{what}: --dry-run plans for photos; a file's own cameras are known once it runs")
    if not has_poses(what):
        raise UsageError(f"{what}: has no poses to plan with; smerf prepare {what} -o CAPTURE finds them")
    minutes = choose_minutes(minutes, preset, (), is_new=True, device="cpu")
    if minutes is None:
        raise UsageError("--dry-run: shows how a time is spent; give --minutes, and no preset")
    return plan_run(what, minutes, start, resolve_device(device), settings)[1]


def _open_source(path: Path, options: AssetOptions | None) -> AssetSource | None:
    """Return the file at ``path`` if it is a teacher, None for a capture.

    Raises:
        UsageError: If options of files are given for a capture.
    """
    is_plain = path.is_dir() and not any((path / name).is_file() for name in ("meta.json", "lod-meta.json"))
    if is_plain and options is None:
        return None
    from smerf.capture.readers import has_poses
    from smerf.prepare import holds_photos
    from smerf.teacher.asset import is_asset, open_asset
    from smerf.teacher.asset_options import AssetOptions

    if is_asset(path) or (path.is_file() and not has_poses(path) and not holds_photos(path)):
        options = options or AssetOptions()
        return AssetSource(open_asset(path, options), options)
    if options is not None:
        raise UsageError(
            f"{path}: --cameras, --up, --focal, --splat-mode, --keep-all and --light are for splat and mesh files"
        )
    return None


def require_capture(path: Path) -> None:
    """Refuse what is not there, before a run folder is made for it.

    Raises:
        UsageError: If there is nothing at ``path``, or it is an address.
    """
    if (address := re.match(r"(https?|ftp|s3|gs):/", str(path))) is not None:
        raise UsageError(
            f"{str(path).replace(address[0], address[0] + '/', 1)}: is an address; download it and give the folder"
        )
    if not path.exists():
        raise UsageError(
            f"{path}: does not exist; give a folder of photos, a video, a posed capture, or a splat or mesh file"
        )


def default_output(what: Path) -> Path:
    """Return where the run of a capture goes when the user does not say."""
    return Path("runs") / ((what.resolve().name if what.is_dir() else what.name.split(".")[0]) or "scene")


def posed(what: Path, folder: RunFolder, *, overwrite: bool = False, quiet: bool = False) -> Path:
    """Return a posed capture of ``what``: itself, or what ``smerf prepare`` makes of its photos."""
    from smerf.prepare import prepare

    if not _lacks_poses(what):
        return what

    def progress(step: str, unit: str, total: float | None) -> Progress:
        return Progress(f"prepare: {step}", total, unit, folder, stops=True, quiet=quiet)

    prepared = prepare(what, folder.path / "capture", overwrite=overwrite, progress=progress)
    if not quiet:
        print(f"prepare: {prepared.verdict.summary}; {prepared.report}", file=sys.stderr, flush=True)
    return prepared.folder


def _lacks_poses(what: Path) -> bool:
    from smerf.capture.readers import has_poses
    from smerf.prepare import holds_photos

    return not has_poses(what) and holds_photos(what)


def _run_stages(job: Job) -> RunResult:
    has_test = bool(job.capture.split("test"))
    weights = granted_seconds(job.config, trains=job.source is None) or _WEIGHTS
    job.whole = WholeRun(
        {name: weight for name, weight in weights.items() if has_test or name != "eval"},
        is_granted=weights is not _WEIGHTS,
    )
    stages.train(job)
    stages.distill(job)
    stages.bake(job)
    stages.export(job)
    if job.watch is not None:
        job.watch.finish()
    if has_test and not is_current(job.run):
        # What there is no time for is measured when the same command is given again.
        evaluate(job, seconds=job.whole.spare("eval"))
    return RunResult(job.run, current_metrics(job.run) if has_test else {})
