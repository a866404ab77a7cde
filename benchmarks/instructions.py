"""Rays a CPU second by instruction set: the steps of teacher and student, the teacher's answers, the native renderer.

    python -m benchmarks.instructions [--capture DIR] [--side 480] [--seconds 4] [--rounds 3] [--json FILE]

Every instruction set that the machine and the libraries have is measured in processes of its own, in turn, with one
thread and the processor's clock; the median of the rounds counts. Without --capture the built-in capture is rendered.
The peer of each row is AVX-512 on the same machine, or the widest set that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.common import Benchmark, Report, write_tabletop
from smerf.errors import SmerfError

SETS = ("baseline", "avx2", "avx512")
ROWS = ("teacher", "query", "student", "render")


def rates(capture_path: Path, side: int, seconds: float) -> dict[str, float]:
    """Return rays a CPU second of each row, in this process."""
    import torch

    from benchmarks.render import views
    from smerf.capture import load_capture
    from smerf.pipeline.rates import measure_rates
    from smerf.render import march
    from smerf.scene.example import example_scene

    torch.set_num_threads(1)
    capture = load_capture(capture_path, max_side=side)
    measured = measure_rates(capture, "cpu", seconds=seconds)
    per_core = os.cpu_count() or 1
    found = {name: 1.0 / (per_core * getattr(measured, name)) for name in ("teacher", "query", "student")}
    scene = example_scene(512)
    camera = views(scene)[0]
    march.render_camera(scene, camera)
    began, calls = time.process_time(), 0
    while time.process_time() - began < seconds:
        march.render_camera(scene, camera)
        calls += 1
    pixels = camera.intrinsics.width * camera.intrinsics.height
    return found | {"render": calls * pixels / (time.process_time() - began)}


def measure_set(name: str, capture: Path, options: argparse.Namespace) -> dict[str, float] | None:
    """Return the rates of one instruction set, or None where it is not there."""
    command = [
        sys.executable, "-m", "benchmarks.instructions", "--capture", str(capture), "--side", str(options.side),
        "--seconds", str(options.seconds), "--worker",
    ]  # fmt: skip
    settings = {"SMERF_ISA": name, "SMERF_CLOCK": "processor", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    if done.returncode == 3:
        return None
    if done.returncode:
        raise SmerfError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--capture", type=Path)
    parser.add_argument("--side", type=int, default=480, help="long side of the photos")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each row and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)


def measure(options: argparse.Namespace, report: Report) -> int | None:
    """Measure every instruction set in turn."""
    if options.worker:
        print(json.dumps(rates(options.capture, options.side, options.seconds)))
        return None
    with tempfile.TemporaryDirectory() as folder:
        capture = options.capture or write_tabletop(
            Path(folder), views=24, width=options.side, height=options.side * 3 // 4
        )
        rounds: dict[str, list[dict[str, float]]] = {}
        for _ in range(options.rounds):
            for name in SETS:
                found = measure_set(name, capture, options)
                if found is not None:
                    rounds.setdefault(name, []).append(found)
    names = list(rounds)
    print(
        f"{'rays a CPU second':>18} "
        + " ".join(f"{name:>12}" for name in names)
        + "   fraction of the widest"
    )
    for row in ROWS:
        middle = {name: statistics.median(each[row] for each in rounds[name]) for name in names}
        fractions = {name: middle[name] / middle[names[-1]] for name in names}
        report.add(f"instructions/{row}", rays_per_cpu_second=middle, fraction_of_widest=fractions)
        figures = " ".join(f"{middle[name]:12,.0f}" for name in names)
        print(f"{row:>18} {figures}   " + " ".join(f"{fractions[name]:.2f}" for name in names[:-1]))
    return None


BENCHMARK = Benchmark(
    __doc__, measure, arguments, short=["--seconds", "0.5", "--rounds", "1", "--side", "160"]
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
