"""Measure the stages of a run on its held-out photos."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine.folder import EXPOSURES
from smerf.engine.progress import Progress
from smerf.errors import InvalidDataError, SmerfError, UsageError
from smerf.pipeline.asset import rendered_from
from smerf.pipeline.metrics import EVALUATED, current_metrics, publish, stage_digests

if TYPE_CHECKING:
    import numpy as np

    from smerf.capture.types import Capture, Frame
    from smerf.pipeline.job import Job
    from smerf.pipeline.renderers import Render

_MORE_OF_A_STAGE = 2.0
"""Time to measure a stage before the baked scene, relative to the mean of those measured so far."""

__all__ = ["evaluate", "truth_of", "view_files"]


def evaluate(
    job: Job, stages: tuple[str, ...] = (), *, seconds: float | None = None
) -> dict[str, dict[str, Any]]:
    """Measure ``stages`` (all finished ones by default), write metrics.json and report.html, and return the summary
    of every stage measured so far.

    Figures of other stages that are still those of the run's results are kept. With ``seconds``, what visitors see is
    measured first, and the stages before it only as far as they are likely to fit.

    Raises:
        UsageError: If a stage is not done or the capture holds no test photos.
        InvalidDataError: If the masks of all test photos are black.
        SmerfError: If an image holds values that are not numbers.
    """
    from smerf.pipeline.diagnose import diagnose_run
    from smerf.pipeline.renderers import stage_renderer

    frames = job.capture.split("test")
    if not frames:
        raise UsageError(f"{job.capture.root}: has no test photos to compare with; see its split")
    done = tuple(stage_digests(job.run))
    for stage in stages:
        if stage not in done:
            raise UsageError(f"{job.run.path}: the stage {stage} is not done, so it cannot be measured")
    # The last stage is what visitors see.
    stages = (stages or done) if seconds is None else (stages or done)[::-1]
    measured, files = current_metrics(job.run), view_files([frame.name for frame in frames])
    total = len(stages) * len(frames)
    with Progress(
        "eval", total, "views", job.run, whole=job.whole, stops=True, quiet=job.quiet, verbose=job.verbose
    ) as progress:
        for number, stage in enumerate(stages):
            expected = progress.elapsed * (1.0 + _MORE_OF_A_STAGE / max(1, number))
            if seconds is not None and number and expected > seconds:
                progress.update(progress.done, progress.done)
                break
            render = stage_renderer(job.run, stage, job.device)
            measured[stage] = _Measurement(job, stage, frames, files, render, progress).summary()
        measured = {stage: measured[stage] for stage in EVALUATED if stage in measured}
        quick = stage_renderer(job.run, list(measured)[-1], job.device, is_quick=True)
        diagnosis = diagnose_run(job, measured, quick)
    return publish(job, measured, files, diagnosis)


@dataclass
class _Measurement:
    """One stage against the held-out photos, one image in memory at a time."""

    job: Job
    stage: str
    frames: tuple[Frame, ...]
    files: dict[str, str]
    render: Render
    progress: Progress
    views: dict[str, dict[str, float]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        from smerf.evaluation.summary import hash_images, summarise

        capture = self.job.capture
        # Both go through all views; the first also measures them.
        predictions = hash_images(self._predictions())
        truth = hash_images(truth_of(frame, capture) for frame in self.frames)
        shas = {"predictions_sha": predictions, "ground_truth_sha": truth}
        unused = [frame.name for frame in self.frames if frame.name not in self.views]
        if not self.views:
            raise InvalidDataError(f"{capture.root}: the masks of all test photos use no pixel; correct them")
        facts: dict[str, Any] = {"unused_images": unused} if unused else {}
        return summarise(self.views, _protocol(capture), **shas, **facts)

    def _predictions(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            yield self._measure(frame)
            figures = self.views.get(frame.name, {})
            shown: dict[str, Any] = {key: figures[key] for key in ("psnr",) if key in figures}
            self.progress.update(self.progress.done + 1, **shown)

    def _measure(self, frame: Frame) -> np.ndarray:
        """Render one view, compare it with its photo, and keep small images for the report."""
        import numpy as np

        from smerf.capture import load_mask
        from smerf.evaluation.metrics import image_metrics
        from smerf.evaluation.report_images import save_report_images

        run, capture = self.job.run, self.job.capture
        prediction = np.asarray(self.render(frame.camera), dtype=np.float32)
        if not np.isfinite(prediction).all():
            raise SmerfError(
                f"{self.stage}: the image of {frame.name} holds values that are not numbers; the training diverged. "
                f"Delete {run.folder(self.stage)} and train again with a lower learning rate (--set)"
            )
        truth = truth_of(frame, capture)
        save_report_images(run.path / "report", self.stage, self.files[frame.name], prediction, truth)
        is_evened = (run.folder("teacher") / EXPOSURES).is_file()
        varies = is_evened or len({other.exposure for other in capture.frames}) > 1
        figures = image_metrics(prediction, truth, load_mask(frame), colour_corrected=varies)
        if figures:
            self.views[frame.name] = figures
        return prediction


def truth_of(frame: Frame, capture: Capture) -> np.ndarray:
    """Return a photo as float32 (H, W, 3) in [0, 1], composited over the capture's background."""
    from smerf.capture import load_composited

    return load_composited(frame, capture.background)


def view_files(names: Sequence[str]) -> dict[str, str]:
    """Return a file name for each view, by the view's name, without folders and suffix.

    Names that become alike, also where case does not count, are told apart by a number.
    """
    files: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", str(Path(name).with_suffix("")))
        numbered = (plain if number == 1 else f"{plain}-{number}" for number in count(1))
        files[name] = next(file for file in numbered if file.casefold() not in taken)
        taken.add(files[name].casefold())
    return files


def _protocol(capture: Capture) -> dict[str, Any]:
    from smerf.evaluation.metrics import METRIC_PROTOCOL

    sizes = {(f.camera.intrinsics.width, f.camera.intrinsics.height) for f in capture.split("test")}
    return {
        **METRIC_PROTOCOL,
        "scene": capture.root.name,
        "resolution": sorted(f"{width}x{height}" for width, height in sizes),
        "split": f"{len(capture.split('test'))} of {len(capture.frames)} photos held out",
        "background": capture.background or "none",
    } | (
        {"compared with": f"the file's own renders ({name})"} if (name := rendered_from(capture.root)) else {}
    )
