"""How fast the student learns from a trained teacher: held-out quality over time, for both forms of the student.

    python -m benchmarks.student --data LEGO --run RUN --seconds 60 240 [--forms explicit hash] [--json FILE]

``RUN`` holds a teacher of the capture. Every distillation's schedule is stretched to end at its length; time is that of
filling the pool, starting the grids and training, without what measuring takes. ``explicit`` optimises the quantised
grids, ``hash`` a hash encoding and a decoder that produce them. PSNR is the mean over at most eight held-out cameras,
against the photos and against the teacher. The fused step's peer is the same step by the separate kernels and autograd.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.common import Benchmark, HeldOut, Report, median_ms
from smerf.capture import load_capture
from smerf.capture.types import Capture
from smerf.student.config import PRESETS, StudentConfig
from smerf.student.plan import resolve_config
from smerf.student.trainer import StudentTrainer
from smerf.teacher import load_teacher
from smerf.teacher.model import Teacher

MARKS = (0.25, 0.5, 0.75, 1.0)
_STEPS = 10_000
"""Planned steps, until the first second is over."""
WARM_UP, TIMED = 4, 12


def configured(preset: str, form: str, teacher: Teacher, capture: Capture) -> StudentConfig:
    """Return a preset in one of the two forms, at the resolution that the scene affords."""
    config = PRESETS[preset]
    if form == "hash":
        config = replace(config, parameterisation="hash", grid_lr=0.01)
    return resolve_config(config, teacher, capture)


def curve(
    teacher: Teacher, capture: Capture, config: StudentConfig, seconds: float, views: HeldOut
) -> list[dict]:
    """Distil for some seconds; return time, steps, rays per second and PSNR at each quarter."""
    teacher_images = views.render(teacher.render_image)
    started = time.perf_counter()
    trainer = StudentTrainer(teacher, capture, replace(config, steps=_STEPS))
    trainer.prepare()
    spent, planned, records = time.perf_counter() - started, 0.0, []
    begun = spent
    for mark in MARKS:
        while spent < mark * seconds:
            started = time.perf_counter()
            trainer.advance()
            spent += time.perf_counter() - started
            if spent >= planned:  # the schedule ends when the time does: steps are planned again every second
                planned = spent + 1.0
                left = max(0.0, seconds - spent) * trainer.step / (spent - begun)
                trainer.schedule = trainer.schedule.ending_at(trainer.step + round(left) + 1, trainer.step)
        trainer.optimizer.complete_grids()
        images = views.render(trainer.student.render_image)
        records.append(
            {
                "seconds": spent,
                "steps": trainer.step,
                "rays_per_second": trainer.step * config.rays / max(1e-9, spent - begun),
                "psnr": views.psnr(images),
                "psnr_to_teacher": views.psnr(images, teacher_images),
                "teacher_psnr": views.psnr(teacher_images),
            }
        )
    return records


def step_milliseconds(teacher: Teacher, capture: Capture, config: StudentConfig, fused: bool) -> float:
    """Return the median time of a step, by the fused kernel or the separate ones, teacher rays included."""
    trainer = StudentTrainer(teacher, capture, replace(config, pool=65536, fused=fused))
    trainer.prepare()
    return median_ms(trainer.advance, TIMED, WARM_UP)[0]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--max-side", type=int, default=640)
    parser.add_argument("--seconds", type=float, nargs="*", default=[60.0])
    parser.add_argument("--forms", nargs="*", default=["explicit"], choices=["explicit", "hash"])
    parser.add_argument("--preset", default="preview", choices=sorted(PRESETS))


def measure(options: argparse.Namespace, report: Report) -> None:
    capture = load_capture(options.data, max_side=options.max_side)
    teacher = load_teacher(options.run / "teacher")
    views, common = HeldOut(capture), {"preset": options.preset, "data": options.data.name}
    config = configured(options.preset, "explicit", teacher, capture)
    print(f"{options.data.name}, preset {options.preset}, R_v {config.voxel_resolution}", flush=True)
    one, other = (step_milliseconds(teacher, capture, config, fused) for fused in (True, False))
    print(f"  step {one:.0f} ms, separate kernels {other:.0f} ms: {other / one:.2f} times", flush=True)
    peer = {"peer": "separate kernels and autograd", "peer_ms": other, "speedup": other / one}
    report.add("student/step", **common, median_ms=one, **peer)
    print(
        f"  {'form':>8} {'of s':>6} {'s':>7} {'steps':>7} {'k rays/s':>9} {'photos':>7} {'teacher':>8} {'gap':>6}"
    )
    for form in options.forms:
        config = configured(options.preset, form, teacher, capture)
        for seconds in options.seconds:
            for point in curve(teacher, capture, config, seconds, views):
                report.add("student/curve", **common, form=form, scheduled_seconds=seconds, **point)
                print(
                    f"  {form:>8} {seconds:6.0f} {point['seconds']:7.1f} {point['steps']:7d} "
                    f"{point['rays_per_second'] / 1e3:9.1f} {point['psnr']:7.2f} {point['psnr_to_teacher']:8.2f} "
                    f"{point['teacher_psnr'] - point['psnr']:6.2f}",
                    flush=True,
                )


BENCHMARK = Benchmark(__doc__, measure, options, needs="a run with a teacher, and its capture")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
