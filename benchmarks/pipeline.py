"""Time, memory, quality and size of a whole run: ``smerf run`` on a capture, in a temporary folder.

    python -m benchmarks.pipeline [DATA] [--minutes 5 | --preset preview] [--device auto] [--set KEY=VALUE]
                                  [--json FILE]

Without DATA the built-in tabletop is rendered first (not timed); with five minutes that is ``make demo``. Seconds are
those of each stage's own record; CPU seconds and the peak memory (largest resident size of the command's processes)
are the operating system's account of the whole command. PSNR is the mean over the held-out photos.
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
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT, Benchmark, Report, write_tabletop
from smerf.engine.folder import RunFolder

COMMAND_OF = {"teacher": "train", "student": "distill", "baked": "bake", "site": "export"}


def smerf(*words: object) -> None:
    """Run a command of this checkout; its progress goes to this terminal.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-m", "smerf", *map(str, words)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def eval_seconds(run: RunFolder) -> float:
    """Return how long measuring took, from the run's progress."""
    events = [json.loads(line) for line in run.progress.read_text().splitlines()]
    return sum(event["elapsed"] for event in events if event["stage"] == "eval" and event["event"] == "end")


def stage_records(run: RunFolder) -> list[dict]:
    """Return a record for each stage: seconds, peak memory, held-out quality and bytes on disk."""
    measured = json.loads(run.metrics.read_text())["stages"] if run.metrics.is_file() else {}
    records = []
    for name, command in COMMAND_OF.items():
        stage = run.stage(name)
        assert stage is not None, f"{name} is not done although smerf run succeeded"
        results = measured.get(name, {}).get("results", {})
        records.append(
            {
                "name": f"pipeline/{command}",
                "median_ms": 1e3 * stage.seconds,
                "peak_memory_mb": stage.peak_memory_mb,
                "peak_gpu_mb": stage.peak_gpu_mb,
                "bytes": size_of(run.folder(name)),
                **{key: results[key] for key in ("psnr", "ssim", "flip") if key in results},
            }
        )
    if measured:
        records.append({"name": "pipeline/eval", "median_ms": 1e3 * eval_seconds(run)})
    return records


def measure_run(data: Path, folder: Path, words: Sequence[object]) -> list[dict]:
    """Run the pipeline and return a record for the whole and for each stage."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    smerf("run", data, "-o", folder, *words)
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # Linux counts in kB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    run = RunFolder(folder)
    stages = stage_records(run)
    # The stages reset the system's high-water mark as they begin, so it may only speak of the last one.
    peaks = [after.ru_maxrss * unit / 2**20, *(stage.get("peak_memory_mb") or 0.0 for stage in stages)]
    whole = {
        "name": "pipeline/run",
        "median_ms": 1e3 * seconds,
        "cpu_seconds": cpu,
        "peak_memory_mb": max(peaks),
        "bytes": size_of(run.folder("site")),
        "frames": json.loads(run.capture.read_text())["frames"],
    }
    return [*stages, whole]


def print_table(records: list[dict]) -> None:
    print(f"{'stage':10} {'seconds':>9} {'CPU s':>9} {'peak MB':>9} {'size MB':>9} {'PSNR':>7} {'SSIM':>7}")
    for record in records:
        cells = [f"{record['median_ms'] / 1e3:9.1f}"]
        for key, scale, width, digits in (
            ("cpu_seconds", 1.0, 9, 1),
            ("peak_memory_mb", 1.0, 9, 0),
            ("bytes", 1e-6, 9, 2),
            ("psnr", 1.0, 7, 2),
            ("ssim", 1.0, 7, 4),
        ):
            value = record.get(key)
            cells.append("-".rjust(width) if value is None else f"{value * scale:{width}.{digits}f}")
        print(f"{record['name'].removeprefix('pipeline/'):10} {' '.join(cells)}")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=Path, nargs="?", help="a posed capture; the built-in tabletop if left out"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="granted, unless there is a preset")
    parser.add_argument("--preset", help="a fixed amount of work")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")


def measure(options: argparse.Namespace, report: Report) -> int:
    settings = [f"--set={setting}" for setting in options.set]
    work = ["--preset", options.preset] if options.preset else ["--minutes", options.minutes]
    words = [*work, "--device", options.device, *settings]
    with tempfile.TemporaryDirectory(prefix="smerf_pipeline_") as temporary:
        data = options.data or write_tabletop(Path(temporary))
        try:
            records = measure_run(data, Path(temporary) / "run", words)
        except subprocess.CalledProcessError as error:
            return error.returncode
    for record in records:
        report.add(**record, data=data.name, **{work[0].removeprefix("--"): work[1]})
    print_table(records)
    return 0


BENCHMARK = Benchmark(__doc__, measure, options, short=["--preset", "tiny"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
