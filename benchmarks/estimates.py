"""What a run says before and after of its time and memory, beside what the system shows.

    python -m benchmarks.estimates [CAPTURE ...] [--minutes 1] [--settings KEY=VALUE ...] [--wall] [--keep FOLDER]
                                   [--json FILE]

``smerf run CAPTURE --minutes M`` in a process of its own, whose resident memory is read every 10 ms from outside.
Memory: for each stage the peak that its record and the report name, beside the largest sample of its seconds; for the
whole run the estimate that ``smerf doctor CAPTURE`` and ``--dry-run`` print, beside the largest sample of all. Time:
the minutes that were granted, which ``doctor`` says that the run takes. They are counted in CPU seconds over the number
of processors, so that other work hardly changes them, which counts what only one processor does as half or less; with
``--wall``, as users see it, by the clock, for which the machine must be idle. Exits with 1 where memory is more than
10 % off, or time 20 %.
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

from benchmarks.common import ROOT, Benchmark, Report, write_tabletop
from benchmarks.endurance_walk import resident_bytes
from smerf.engine.folder import RunFolder

MEMORY_TOLERANCE, TIME_TOLERANCE = 0.1, 0.2
STAGES = ("teacher", "student", "baked", "site")
_INTERVAL = 0.01
MIB = 2.0**20


def watch(words: list[str], is_wall: bool) -> list[tuple[float, float]]:
    """Run a command; return the times and the resident bytes of its process.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | ({} if is_wall else {"SMERF_CLOCK": "processor"})
    samples = []
    with subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            try:
                samples.append((time.time(), resident_bytes(process.pid)))
            except OSError:
                break
            time.sleep(_INTERVAL)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, words)
    return samples


def stages_of(folder: Path, samples: list[tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Return for each stage the MiB that its record names, and those that were seen meanwhile."""
    found, run = {}, RunFolder(folder)
    for name in STAGES:
        stage = run.stage(name)
        if stage is None or stage.peak_memory_mb is None:
            continue
        end = (run.folder(name) / "done.json").stat().st_mtime
        seen = max((each for moment, each in samples if end - stage.seconds < moment <= end), default=0.0)
        found[name] = stage.peak_memory_mb, seen / MIB
    return found


def measure_capture(data: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run one capture; return the planned, reported and seen figures."""
    words = [sys.executable, "-m", "smerf", "run", str(data), "-o", str(folder), "-q", "--device", "cpu"]
    words += ["--minutes", str(options.minutes), *(f"--set={one}" for one in options.settings)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    samples = watch(words, options.wall)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    planned = json.loads((folder / "plan.json").read_text())["expected"]["memory_mb"]
    values: dict[str, Any] = {"minutes": options.minutes, "settings": options.settings, "planned_mb": planned}
    processors = len(os.sched_getaffinity(0))
    values |= {"granted_s": 60.0 * options.minutes, "cpu_s": took, "clock_s": samples[-1][0] - samples[0][0]}
    values["took_s"] = values["clock_s"] if options.wall else took / processors
    values["seen_mb"] = max(each for _, each in samples) / MIB
    for name, (reported, seen) in stages_of(folder, samples).items():
        values |= {f"{name}_reported_mb": reported, f"{name}_seen_mb": seen}
    return values


def is_close(told: float, seen: float, tolerance: float) -> bool:
    return abs(told / seen - 1.0) <= tolerance


def print_rows(name: str, values: dict[str, Any]) -> list[bool]:
    """Print a capture's rows; return for each whether it is within its tolerance."""
    rows = [("plan", values["planned_mb"], values["seen_mb"], "MiB", MEMORY_TOLERANCE)]
    for stage in STAGES:
        if f"{stage}_seen_mb" in values:
            told, seen = values[f"{stage}_reported_mb"], values[f"{stage}_seen_mb"]
            rows.append((stage, told, seen, "MiB", MEMORY_TOLERANCE))
    rows.append(("time", values["granted_s"], values["took_s"], "s", TIME_TOLERANCE))
    for what, told, seen, unit, _ in rows:
        off = 100.0 * (told / seen - 1.0)
        print(f"{name:12} {what:8} {told:8.0f} {unit:3} told {seen:8.0f} seen {off:+6.1f} %", flush=True)
    return [is_close(told, seen, tolerance) for _, told, seen, _, tolerance in rows]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("captures", type=Path, nargs="*", metavar="CAPTURE")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--wall", action="store_true", help="count granted time by the clock")
    parser.add_argument("--keep", type=Path, help="where the runs stay; a temporary folder by default")
    parser.add_argument("--settings", nargs="*", default=[], metavar="KEY=VALUE", help="as smerf run --set")


def measure(options: argparse.Namespace, report: Report) -> int:
    found = []
    with tempfile.TemporaryDirectory(prefix="smerf_estimates_") as temporary:
        captures = options.captures or [write_tabletop(Path(temporary), views=24, width=160, height=120)]
        for data in captures:
            values = measure_capture(data, (options.keep or Path(temporary) / "runs") / data.name, options)
            report.add(f"estimates/{data.name}", **values)
            found += print_rows(data.name, values)
    return 0 if all(found) else 1


BENCHMARK = Benchmark(__doc__, measure, options, short=[])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
