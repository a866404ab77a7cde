"""How fast the teacher learns: held-out quality over time on captures, and a step's time against plain PyTorch.

    python -m benchmarks.teacher [--data FOX@480:60,240 LEGO@200:60,180] [--json FILE]

Each capture names the longest side of its photos in pixels and the lengths in seconds of the trainings to run;
every training's schedule is stretched to end at its length. Time is that of the training alone: what measuring takes
is left out. PSNR is the mean over at most eight held-out photos. The step's peer is the same step by the PyTorch
reference kernels and autograd. Without --data a small built-in tabletop is learnt for 20 seconds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.common import ROOT, Benchmark, HeldOut, Report, median_ms, write_tabletop
from smerf.capture import load_capture
from smerf.capture.types import Capture
from smerf.teacher.config import PRESETS, TeacherConfig
from smerf.teacher.plan import resolve_config
from smerf.teacher.trainer import TeacherTrainer

MARKS = (0.25, 0.5, 0.75, 1.0)
WARM_UP, TIMED = 3, 10
_STEPS = 10_000
"""Planned steps, until the first second is over."""


@dataclass(frozen=True)
class Job:
    """A capture, its size and the lengths of its trainings."""

    path: Path
    side: int
    seconds: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Job:
        path, _, rest = text.rpartition("@")
        side, _, seconds = rest.partition(":")
        if not path or not side.isdigit() or not seconds:
            raise argparse.ArgumentTypeError(f"{text!r}: expected PATH@SIDE:SECONDS[,SECONDS...]")
        return cls(Path(path), int(side), tuple(float(s) for s in seconds.split(",")))


def make_trainer(capture: Capture, config: TeacherConfig) -> TeacherTrainer:
    """Return a trainer of a preset, resolved for the capture on a CPU."""
    return TeacherTrainer(capture, resolve_config(config, capture, "cpu", 1))


def curve(capture: Capture, preset: str, seconds: float) -> list[dict]:
    """Train for some seconds; return time, steps, rays per second and PSNR at each quarter."""
    trainer = make_trainer(capture, replace(PRESETS[preset], steps=_STEPS))
    views, records, spent, planned = HeldOut(capture), [], 0.0, 0.0
    for mark in MARKS:
        while spent < mark * seconds:
            started = time.perf_counter()
            trainer.advance()
            spent += time.perf_counter() - started
            if spent >= planned:  # the schedule ends when the time does: steps are planned again every second
                planned = spent + 1.0
                left = max(0.0, seconds - spent) * trainer.step / spent
                trainer.schedule = trainer.schedule.ending_at(trainer.step + round(left) + 1, trainer.step)
        records.append(
            {
                "seconds": spent,
                "steps": trainer.step,
                "rays_per_second": trainer.step * trainer.config.rays / spent,
                "psnr": views.psnr(views.render(trainer.model.render_image)),
            }
        )
    return records


def step_milliseconds(capture: Capture, preset: str) -> tuple[float, float]:
    """Return the median and the spread of a step's time."""
    return median_ms(make_trainer(capture, PRESETS[preset]).advance, TIMED, WARM_UP)


def reference_step(job: Job, preset: str) -> float:
    """Return the time of a step by the reference kernels, measured in a process of its own, in ms."""
    command = [
        sys.executable, "-m", "benchmarks.teacher", "--step-of", f"{job.path}@{job.side}:1", "--preset", preset,
    ]  # fmt: skip
    environment = {**os.environ, "SMERF_KERNELS": "reference", "PYTHONPATH": str(ROOT)}
    return float(subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Job.parse, nargs="*", default=[], metavar="PATH@SIDE:SECONDS")
    parser.add_argument("--preset", default="preview", choices=sorted(PRESETS))
    parser.add_argument("--step-of", type=Job.parse, help=argparse.SUPPRESS)


def measure_job(job: Job, preset: str, report: Report) -> None:
    """Measure one capture."""
    capture = load_capture(job.path, max_side=job.side)
    intrinsics = capture.frames[0].camera.intrinsics
    common = {"preset": preset, "data": job.path.name, "width": intrinsics.width, "height": intrinsics.height}
    print(f"{job.path.name}, {intrinsics.width} x {intrinsics.height}, preset {preset}", flush=True)
    milliseconds, spread = step_milliseconds(capture, preset)
    peer = reference_step(job, preset)
    print(
        f"  step {milliseconds:.1f} ms, reference {peer:.1f} ms: {peer / milliseconds:.1f} times", flush=True
    )
    report.add(
        "teacher/step", **common, median_ms=milliseconds, spread=spread, peer="PyTorch reference", peer_ms=peer,
        speedup=peer / milliseconds,
    )  # fmt: skip
    for seconds in job.seconds:
        print(f"  {'scheduled s':>11} {'s':>7} {'steps':>7} {'k rays/s':>9} {'PSNR':>7}")
        for point in curve(capture, preset, seconds):
            report.add("teacher/curve", **common, scheduled_seconds=seconds, **point)
            print(
                f"  {seconds:11.0f} {point['seconds']:7.1f} {point['steps']:7d} "
                f"{point['rays_per_second'] / 1e3:9.1f} {point['psnr']:7.2f}",
                flush=True,
            )


def measure(options: argparse.Namespace, report: Report) -> None:
    if options.step_of:
        capture = load_capture(options.step_of.path, max_side=options.step_of.side)
        print(step_milliseconds(capture, options.preset)[0])
        return
    with tempfile.TemporaryDirectory() as temporary:
        for job in options.data or [
            Job(write_tabletop(Path(temporary), views=24, width=160, height=120), 160, (20.0,))
        ]:
            measure_job(job, options.preset, report)


BENCHMARK = Benchmark(__doc__, measure, options, short=[])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
