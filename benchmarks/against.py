"""Compare this checkout with another one: quality and time of ``smerf run`` on the same captures, in turn.

    python -m benchmarks.against OTHER_CHECKOUT --data FOX LEGO [--preset preview] [--set KEY=VALUE] [--repeats 1]
                                 [--other-set KEY=VALUE] [--work FOLDER] [--keep] [--json FILE]

Both run with their own ``.venv/bin/smerf``, one after the other on each capture, so that other work on the machine
slows both. CPU seconds are those of the whole command with all its processes, ``STAGE_seconds`` the clock's, as each
stage recorded it. ``--set`` holds for both; ``--other-set`` replaces it for the other checkout, whose
settings may have other names. A run that fails is a record with the end of what it said, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, Benchmark, Report, commit

STAGES = ("teacher", "student", "baked", "site")
METRICS = ("psnr", "ssim", "flip")


def run_smerf(checkout: Path, words: list[str]) -> tuple[int, str, float, float]:
    """Run a checkout's program; return its exit code, the end of its output, clock and CPU seconds.

    Raises:
        FileNotFoundError: If the checkout has no environment.
    """
    program = checkout / ".venv" / "bin" / "smerf"
    if not program.is_file():
        raise FileNotFoundError(f"{program}: is not there; run make setup in that checkout")
    # Each checkout finds its own package, whatever this process was started with.
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [str(program), *words],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
    )
    seconds, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.returncode, (done.stdout + done.stderr)[-2000:], seconds, cpu


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def read_run(run: Path) -> dict[str, Any]:
    """Return what a run says of itself: metrics of each stage, seconds, bytes."""
    stages = read_json(run / "metrics.json").get("stages", {})
    values: dict[str, Any] = {}
    for name in STAGES:
        results = stages.get(name, {}).get("results", {})
        values |= {f"{name}_{key}": results[key] for key in METRICS if key in results}
        record = read_json(run / name / "done.json")
        values |= {f"{name}_{key}": record[key] for key in ("seconds", "peak_memory_mb") if key in record}
        if (run / name).is_dir():
            sizes = [path.stat().st_size for path in (run / name).rglob("*") if path.is_file()]
            values[f"{name}_bytes"] = sum(sizes)
    return values


def measure_run(checkout: Path, data: Path, run: Path, words: list[str]) -> dict[str, Any]:
    """Run one checkout on one capture and return the record's values."""
    shutil.rmtree(run, ignore_errors=True)
    code, output, seconds, cpu = run_smerf(checkout, ["run", str(data.resolve()), "-o", str(run), *words])
    values = {"exit_code": code, "seconds": seconds, "cpu_seconds": cpu, **read_run(run)}
    return values | ({"output": output} if code else {})


def print_row(title: str, values: dict[str, Any]) -> None:
    """Print a run's line of the table."""
    cells = [f"{values['seconds']:8.0f} {values['cpu_seconds']:8.0f}"]
    for name in ("teacher", "student", "baked"):
        psnr = values.get(f"{name}_psnr")
        cells.append("       -" if psnr is None else f"{psnr:8.2f}")
    size = values.get("site_bytes")
    cells.append("       -" if size is None else f"{size / 1e6:8.1f}")
    print(f"{title:28} {' '.join(cells)}{'  failed' if values['exit_code'] else ''}", flush=True)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("other", type=Path, metavar="OTHER_CHECKOUT")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--preset", default="preview")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--other-set", action="append", metavar="KEY=VALUE")
    parser.add_argument(
        "--words", nargs="*", default=[], help="more words for both, such as --words=--max-side=480"
    )
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where the runs go; a temporary folder by default")
    parser.add_argument("--keep", action="store_true", help="keep the runs in --work")


def measure(options: argparse.Namespace, report: Report) -> int:
    theirs = options.set if options.other_set is None else options.other_set
    sides = {"this": (ROOT, options.set), "other": (options.other.resolve(), theirs)}
    print(f"{'':28} {'clock s':>8} {'CPU s':>8} {'teacher':>8} {'student':>8} {'baked':>8} {'page MB':>8}")
    failed = False
    with tempfile.TemporaryDirectory(prefix="smerf_against_") as temporary:
        work = (options.work or Path(temporary)).resolve()
        for data in options.data:
            for turn in range(options.repeats):
                # Who goes first changes from turn to turn.
                for side in list(sides)[:: 1 if turn % 2 == 0 else -1]:
                    checkout, settings = sides[side]
                    run = work / f"{data.name}_{side}_{turn}"
                    words = [
                        "--preset",
                        options.preset,
                        *(f"--set={one}" for one in settings),
                        *options.words,
                    ]
                    values = measure_run(checkout, data, run, words)
                    facts = {"side": side, "data": data.name, "turn": turn, "side_commit": commit(checkout)}
                    report.add(f"against/{data.name}/{side}", **facts, settings=words, **values)
                    print_row(f"{data.name}, {side} ({facts['side_commit'][:8]})", values)
                    failed |= values["exit_code"] != 0
                    if not options.keep:
                        shutil.rmtree(run, ignore_errors=True)
    return 1 if failed else 0


BENCHMARK = Benchmark(__doc__, measure, options, needs="another checkout and captures")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
