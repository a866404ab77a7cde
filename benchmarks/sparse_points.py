"""What the sparse points of structure from motion are worth to the teacher: trained with and without their distances.

    python -m benchmarks.sparse_points CAPTURE... [--steps 3000] [--side 480] [--json FILE]

Each CAPTURE is a COLMAP model or was written by ``smerf prepare``. The teacher of preset ``preview`` is trained for the
same number of steps, with the preset's ``distance_fraction`` and with 0. PSNR is the mean over at most eight held-out
photos, CPU seconds are those of the steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.common import Benchmark, HeldOut, Report
from smerf.capture import load_capture
from smerf.capture.types import Capture
from smerf.teacher.config import PRESETS
from smerf.teacher.model import FieldTeacher
from smerf.teacher.plan import resolve_config
from smerf.teacher.trainer import TeacherTrainer


def train(
    capture: Capture, steps: int, fraction: float = PRESETS["preview"].distance_fraction
) -> tuple[FieldTeacher, dict[str, float]]:
    """Train a teacher; return it, how good it is on held-out photos, and what it took."""
    config = replace(PRESETS["preview"], steps=steps, distance_fraction=fraction)
    trainer = TeacherTrainer(capture, resolve_config(config, capture, "cpu", 1))
    began = time.process_time()
    for _ in range(steps):
        trainer.advance()
    seconds, views = time.process_time() - began, HeldOut(capture)
    found = {"psnr": views.psnr(views.render(trainer.model.render_image)), "cpu_seconds": seconds}
    return trainer.model, found


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captures", type=Path, nargs="+", metavar="CAPTURE")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--side", type=int, default=480, help="pixels of the photos' longer side")


def measure(options: argparse.Namespace, report: Report) -> None:
    print(f"{'capture':16} {'photos':>6} {'seen':>7} {'without':>8} {'with':>6} {'CPU s':>12}")
    for path in options.captures:
        capture = load_capture(path, max_side=options.side)
        frames = capture.split("train")
        seen = sum(len(frame.sees) for frame in frames if frame.sees is not None)
        without, known = (
            train(capture, options.steps, fraction)[1]
            for fraction in (0.0, PRESETS["preview"].distance_fraction)
        )
        report.add(
            f"sparse_points/{path.name}", photos=len(frames), sightings=seen, steps=options.steps, **known,
            peer="photos alone", peer_psnr=without["psnr"], peer_cpu_seconds=without["cpu_seconds"],
        )  # fmt: skip
        seconds = f"{without['cpu_seconds']:.0f} {known['cpu_seconds']:.0f}"
        print(
            f"{path.name:16} {len(frames):6d} {seen:7d} {without['psnr']:8.2f} {known['psnr']:6.2f} {seconds:>12}",
            flush=True,
        )


BENCHMARK = Benchmark(__doc__, measure, options, needs="captures with the points of structure from motion")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
