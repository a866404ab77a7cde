"""``metrics.json`` and ``report.html`` of a run: which figures still speak of its results, and writing both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from smerf.engine.files import read_json, write_json
from smerf.engine.folder import STAGES, RunFolder
from smerf.engine.settings import to_dict
from smerf.pipeline.config import load_config

if TYPE_CHECKING:
    from smerf.pipeline.job import Job

__all__ = ["EVALUATED", "current_metrics", "is_current", "publish", "stage_digests"]

EVALUATED = ("teacher", "student", "baked")
"""The stages that can be compared with photos."""


def stage_digests(run: RunFolder) -> dict[str, str]:
    """Return the digest of the result of every finished stage that can be measured."""
    records = {name: run.stage(name) for name in EVALUATED}
    return {name: record.digest for name, record in records.items() if record is not None}


def is_current(run: RunFolder) -> bool:
    """Return whether metrics.json and report.html speak of all the results that the run now holds."""
    if not (run.metrics.is_file() and run.report.is_file()):
        return False
    return bool(read_json(run.metrics).get("digests") == stage_digests(run))


def current_metrics(run: RunFolder) -> dict[str, dict[str, Any]]:
    """Return the summaries in metrics.json, by stage, that speak of results that the run still holds."""
    if not run.metrics.is_file():
        return {}
    record, digests = read_json(run.metrics), stage_digests(run)
    measured = record.get("digests", {})
    return {
        name: summary
        for name, summary in record.get("stages", {}).items()
        if name in digests and measured.get(name) == digests[name]
    }


def publish(
    job: Job, stages: dict[str, dict[str, Any]], files: dict[str, str], diagnosis: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Write report.html and metrics.json, and return the summaries.

    Args:
        job: The run.
        stages: Summary of each measured stage, in the stages' order.
        files: Name of each view's image files, by the view's name.
        diagnosis: What ``diagnose_run`` returned.
    """
    from smerf.evaluation.report import ReportContext, write_report

    run, digests = job.run, stage_digests(job.run)
    last = list(stages)[-1]
    timings = {
        name: {
            "seconds": stage.seconds,
            "peak_memory_mb": stage.peak_memory_mb,
            "peak_gpu_mb": stage.peak_gpu_mb,
        }
        for name in STAGES
        if (stage := run.stage(name)) is not None
    }
    context = ReportContext(
        title=run.path.resolve().name,
        config=to_dict(load_config(run)),
        environment=read_json(run.environment) if run.environment.is_file() else {},
        timings=timings,
        site="site/index.html" if (run.folder("site") / "index.html").is_file() else None,
        capture=read_json(run.capture) | _moving(job),
        diagnosis=diagnosis,
        cameras={frame.name: frame.camera for frame in job.capture.split("test")},
    )
    write_report(run.path, stages, files, context)
    document = {
        "format": "smerf-metrics",
        "version": 1,
        "experiment_name": run.path.resolve().name,
        "method_name": "smerf",
        "checkpoint": last,
        **stages[last],
        "stages": stages,
        "diagnosis": diagnosis,
        "timings": timings,
        "digests": {stage: digests[stage] for stage in stages},
    }
    # Last: it says that the report is up to date.
    write_json(run.metrics, document)
    return stages


def _moving(job: Job) -> dict[str, Any]:
    """Return what the report says of pixels that the teacher left out, as ``smerf.teacher.robust`` found them."""
    from smerf.capture.masks import MASKS, read_record

    record = read_record(job.run.folder("teacher") / MASKS)
    if record is None:
        return {}
    shares = [photo["share"] for photo in record["photos"].values()]
    met = sum(share > 0.0 for share in shares)
    return {
        "left out as moving": f"{100.0 * sum(shares) / len(shares):.1f} % of the training photos, in {met} of "
        f"{len(shares)}; masks in teacher/{MASKS}"
    }
