"""What the minutes buy: ``smerf run CAPTURE --minutes M``, its page measured on the held-out photos at one size.

    python -m benchmarks.minutes CAPTURE... --budgets 1 2 4 8 [--side 480] [--settings KEY=VALUE] [--keep FOLDER]
                                            [--wall] [--json FILE]

Granted time is counted in processor time over the number of processors (``SMERF_CLOCK=processor``), so that other work
on the machine hardly changes the figures; ``--wall`` counts it by the clock of the wall, as ``smerf run`` does. Quality
is that of the baked scene at ``--side`` pixels on the longer side, whatever size was trained on. CPU seconds are those
of the whole command; rays are those of all training steps. A document in ``data/minutes`` is a part of the table
that ``--minutes`` plans with.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, Benchmark, Report, write_tabletop
from benchmarks.pipeline import size_of

METRICS = ("psnr", "ssim", "flip")


def run(data: Path, folder: Path, minutes: float, settings: list[str], is_wall: bool) -> dict[str, float]:
    """Run the command; return its clock and CPU seconds.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not is_wall:
        environment["SMERF_CLOCK"] = "processor"
    words = ["run", str(data), "-o", str(folder), "--minutes", str(minutes), "--device", "cpu"]
    words += [f"--set={one}" for one in settings]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "smerf", *words], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": time.perf_counter() - began, "cpu_seconds": cpu}


def stage_seconds(folder: Path, command: str, is_wall: bool) -> float:
    """Return what a stage took, in granted time: its part of the plan, which it keeps to, or its record's."""
    if is_wall:
        name = {"train": "teacher", "distill": "student"}[command]
        return float(json.loads((folder / name / "done.json").read_text())["seconds"])
    return float(json.loads((folder / "plan.json").read_text())["seconds"][command])


def quality(data: Path, folder: Path, side: int) -> dict[str, float]:
    """Return the metrics of the baked scene at a size, means over all held-out photos."""
    from smerf.capture import load_capture, load_mask
    from smerf.evaluation.metrics import image_metrics
    from smerf.pipeline.evaluate import truth_of
    from smerf.pipeline.renderers import scene_renderer
    from smerf.scene import load_scene

    capture = load_capture(data, max_side=side)
    draw = scene_renderer(load_scene(folder / "baked"), "cpu")
    rows = [
        image_metrics(draw(frame.camera), truth_of(frame, capture), load_mask(frame))
        for frame in capture.split("test")
    ]
    return {key: float(np.mean([row[key] for row in rows])) for key in METRICS}


def read_run(data: Path, folder: Path, side: int, is_wall: bool) -> dict[str, Any]:
    """Return what a run says of itself: settings, rates, memory, size and quality."""
    from smerf.capture import load_capture
    from smerf.engine.folder import RunFolder
    from smerf.pipeline.config import load_config

    folder_of, plan = RunFolder(folder), json.loads((folder / "plan.json").read_text())
    config = load_config(folder_of)
    values: dict[str, Any] = {"rates": plan["rates"], "speed": plan["speed"], "partition": plan["partition"]}
    values["max_side"] = config.max_side
    rays = 0
    for stage, command in (("teacher", "train"), ("student", "distill")):
        part = getattr(config, stage)
        done = part.steps * part.rays * (len(list((folder / stage).glob("sm_*"))) or 1)
        rays += done
        values |= {f"{stage}_steps": part.steps, f"{stage}_planned": plan["settings"][f"{stage}.steps"]}
        values[f"{stage}_ray"] = stage_seconds(folder, command, is_wall) / done
    stages = [folder_of.stage(name) for name in ("teacher", "student", "baked")]
    memory = max(stage.peak_memory_mb or 0.0 for stage in stages if stage is not None)
    kind = "object" if load_capture(data).background is not None else "scene"
    measured = json.loads((folder / "metrics.json").read_text())["stages"]
    values |= {
        f"{name}_at_training_size": measured[name]["results"]["psnr"]
        for name in ("teacher", "student", "baked")
        if name in measured
    }
    values |= {"kind": kind, "rays": rays, "memory_mb": memory, "megabytes": size_of(folder / "site") / 1e6}
    return values | {"side": side} | quality(data, folder, side)


HEADER = f"{'capture':10} {'minutes':>7} {'CPU s':>7} {'clock s':>7} {'rays/CPU s':>10} {'px':>5} {'MB':>6}"


def print_row(values: dict[str, Any]) -> None:
    """Print a run's line of the table."""
    print(
        f"{values['capture']:10} {values['minutes']:7g} {values['cpu_seconds']:7.0f} {values['seconds']:7.0f} "
        f"{values['rays'] / values['cpu_seconds']:10.0f} {values['max_side']:5d} {values['megabytes']:6.1f} "
        f"{values['psnr']:6.2f} {values['ssim']:6.4f} {values['flip']:6.4f}",
        flush=True,
    )


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captures", type=Path, nargs="*", metavar="CAPTURE")
    parser.add_argument("--budgets", type=float, nargs="+", default=[1.0, 2.0, 4.0, 8.0], metavar="MINUTES")
    parser.add_argument("--side", type=int, default=480, help="pixels of the longer side to measure at")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="as smerf run --set")
    parser.add_argument("--keep", type=Path, help="where the runs stay; a temporary folder by default")
    parser.add_argument("--wall", action="store_true", help="count granted time by the clock of the wall")


def measure(options: argparse.Namespace, report: Report) -> None:
    print(f"{HEADER} {'PSNR':>6} {'SSIM':>6} {'FLIP':>6}")
    with tempfile.TemporaryDirectory(prefix="smerf_minutes_") as temporary:
        captures = options.captures or [write_tabletop(Path(temporary), views=24, width=160, height=120)]
        # Budget after budget: a table that is cut short has something of every capture.
        for minutes in options.budgets:
            for data in captures:
                folder = (options.keep or Path(temporary)) / f"{data.name}_{minutes:g}"
                values = {"capture": data.name, "minutes": minutes}
                values |= run(data, folder, minutes, options.settings, options.wall)
                values |= read_run(data, folder, options.side, options.wall)
                report.add(f"minutes/{data.name}/{minutes:g}", **values)
                print_row(values)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--budgets", "1"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
