"""Measure the stages of a run on its held-out photos, and write metrics.json and report.html."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.files import read_json, write_json
from smerf.engine.folder import RunFolder
from smerf.engine.progress import Progress
from smerf.engine.settings import to_dict
from smerf.errors import SmerfError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from smerf.capture.types import Camera, Capture, Frame
    from smerf.pipeline.stages import Job

__all__ = ["EVALUATED", "evaluate", "is_current", "truth_of"]

EVALUATED = ("teacher", "student", "baked")
"""The stages that can be compared with photos."""


def is_current(run: RunFolder) -> bool:
    """Return whether metrics.json and report.html speak of the results that the run now holds."""
    if not (run.metrics.is_file() and run.report.is_file()):
        return False
    return read_json(run.metrics).get("digests") == _digests(run)


def evaluate(
    job: Job, stages: tuple[str, ...] = (), number: tuple[int, int] | None = None
) -> dict[str, dict[str, Any]]:
    """Measure ``stages`` (all finished ones by default) and return the summary of every stage measured so
    far.

    Figures of other stages that are still those of the run's results are kept.

    Raises:
        UsageError: If a stage is not done or the capture holds no test photos.
        SmerfError: If a picture holds values that are not numbers.
    """
    from smerf.evaluation.summary import hash_images, summarise

    run, frames = job.run, job.capture.split("test")
    if not frames:
        raise UsageError(f"{job.capture.root}: has no test photos to compare with; see its split")
    digests = _digests(run)
    stages = stages or tuple(digests)
    for stage in stages:
        if stage not in digests:
            raise UsageError(f"{run.path}: the stage {stage} is not done, so it cannot be measured")
    record = _kept_record(run, digests, stages)
    total = len(stages) * len(frames)
    truth_mark = hash_images(truth_of(frame, job.capture) for frame in frames)
    with Progress("eval", total, "views", run, number=number, stops=True, quiet=job.quiet) as progress:
        for position, stage in enumerate(stages):
            views: dict[str, dict[str, float]] = {}
            done = position * len(frames)
            # Hashed as they come, so that one picture is in memory at a time.
            mark = hash_images(_measured(job, stage, frames, views, progress, done))
            record["stages"][stage] = summarise(
                views, _protocol(job.capture), predictions_sha=mark, ground_truth_sha=truth_mark
            )
    record["digests"] = {stage: digests[stage] for stage in record["stages"]}
    return _publish(job, record)


def truth_of(frame: Frame, capture: Capture) -> np.ndarray:
    """Return a photo as float32 (H, W, 3) in [0, 1], composited over the capture's background."""
    from smerf.capture import load_composited

    return load_composited(frame, capture.background)


def _measured(
    job: Job,
    stage: str,
    frames: tuple[Frame, ...],
    views: dict[str, dict[str, float]],
    progress: Progress,
    done: int,
) -> Iterator[np.ndarray]:
    """Yield the stage's picture of each frame, once its figures are in ``views``."""
    render = _renderer(job.run, stage, job.device)
    for index, frame in enumerate(frames):
        prediction, views[frame.name] = _measure(job.run, stage, frame, render, job.capture)
        progress.update(done + index + 1, psnr=views[frame.name]["psnr"])
        yield prediction


def _measure(
    run: RunFolder, stage: str, frame: Frame, render: Callable[[Camera], np.ndarray], capture: Capture
) -> tuple[np.ndarray, dict[str, float]]:
    """Render one view, compare it with its photo, and keep small pictures for the report."""
    import numpy as np

    from smerf.capture import load_mask
    from smerf.evaluation.metrics import image_metrics
    from smerf.evaluation.report_images import save_report_images

    prediction = np.asarray(render(frame.camera), dtype=np.float32)
    if not np.isfinite(prediction).all():
        raise SmerfError(
            f"{stage}: the picture of {frame.name} holds values that are not numbers; the training diverged. "
            f"Delete {run.folder(stage)} and train again with a lower learning rate (--set)"
        )
    truth, mask = truth_of(frame, capture), load_mask(frame)
    save_report_images(run.path / "report", stage, view_file(frame.name), prediction, truth)
    varies = len({other.exposure for other in capture.frames}) > 1
    return prediction, image_metrics(prediction, truth, mask, colour_corrected=varies)


def view_file(name: str) -> str:
    """Return a file name for a view, without folders and suffix."""
    return re.sub(r"[^\w.-]+", "_", str(Path(name).with_suffix("")))


def _renderer(run: RunFolder, stage: str, device: str) -> Callable[[Camera], np.ndarray]:
    folder = run.folder(stage)
    if stage == "teacher":
        from smerf.teacher import load_teacher

        return _on(load_teacher(folder), device).render_image
    if stage == "student":
        from smerf.student import load_student
        from smerf.teacher import load_teacher

        student = load_student(folder)
        student.teacher = load_teacher(run.folder("teacher"))
        return _on(student, device).render_image
    from smerf.render.march import renderer
    from smerf.scene import load_scene

    return renderer(load_scene(folder, cache_size=1), device)


def _on(model: Any, device: str) -> Any:
    return model if device == "cpu" else model.to(device)


def _protocol(capture: Capture) -> dict[str, Any]:
    from smerf.evaluation.metrics import METRIC_PROTOCOL

    sizes = {(f.camera.intrinsics.width, f.camera.intrinsics.height) for f in capture.split("test")}
    return {
        **METRIC_PROTOCOL,
        "scene": capture.root.name,
        "resolution": sorted(f"{width}x{height}" for width, height in sizes),
        "split": f"{len(capture.split('test'))} of {len(capture.frames)} photos held out",
        "background": capture.background or "none",
    }


def _digests(run: RunFolder) -> dict[str, str]:
    records = {name: run.stage(name) for name in EVALUATED}
    return {name: record.digest for name, record in records.items() if record is not None}


def _kept_record(run: RunFolder, digests: dict[str, str], redone: tuple[str, ...]) -> dict[str, Any]:
    """Return the stages of metrics.json whose results are still there and are not about to be measured."""
    if not run.metrics.is_file():
        return {"stages": {}}
    old = read_json(run.metrics)
    marks = old.get("digests", {})
    return {
        "stages": {
            name: summary
            for name, summary in old.get("stages", {}).items()
            if name not in redone and marks.get(name) == digests.get(name)
        }
    }


def _publish(job: Job, record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    from smerf.evaluation.report import ReportContext, write_report

    run = job.run
    order = [stage for stage in EVALUATED if stage in record["stages"]]
    stages = {stage: record["stages"][stage] for stage in order}
    last = stages[order[-1]]
    timings = {
        name: {
            "seconds": stage.seconds,
            "peak_memory_mb": stage.peak_memory_mb,
            "peak_gpu_mb": stage.peak_gpu_mb,
        }
        for name in ("teacher", "student", "baked", "site")
        if (stage := run.stage(name)) is not None
    }
    document = {
        "experiment_name": run.path.resolve().name,
        "method_name": "smerf",
        "checkpoint": order[-1],
        **last,
        "stages": stages,
        "timings": timings,
        "digests": record["digests"],
    }
    write_json(run.metrics, document)
    context = ReportContext(
        title=run.path.resolve().name,
        config=to_dict(job.config),
        environment=read_json(run.environment) if run.environment.is_file() else {},
        timings=timings,
        site="site/index.html" if (run.folder("site") / "index.html").is_file() else None,
        capture=read_json(run.capture),
    )
    views = {view_file(frame.name): frame.name for frame in job.capture.split("test")}
    write_report(run.path, stages, views, context)
    return stages
