"""Run the benchmarks one after the other, each in a process of its own, and write one JSON file each.

    python -m benchmarks [NAME ...] [--short] [--folder .cache/bench]

``--short`` runs the short form of every benchmark that needs no input: about 20 minutes on two cores. Those that need
one, such as a trained run, are listed with what they need.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import ROOT, Benchmark

HELPERS = {
    "__init__", "__main__", "common", "browser", "figures", "other_pages", "prepare_faults", "splat_viewer",
    "display", "endurance_page", "endurance_walk", "endurance_window", "quiet_page",
}  # fmt: skip


def benchmarks() -> dict[str, Benchmark]:
    """Return every benchmark by its name."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem not in HELPERS)
    return {name: importlib.import_module(f"benchmarks.{name}").BENCHMARK for name in names}


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; return 1 if any of it failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = benchmarks()
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--short", action="store_true", help="the short form of each")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache" / "bench", help="where the results go")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - known.keys():
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}: use {', '.join(known)}")
    skipped, failed = [], []
    for name in options.names or known:
        benchmark = known[name]
        if benchmark.short is None:
            skipped.append(f"{name}: needs {benchmark.needs}")
            continue
        words = [*(benchmark.short if options.short else []), "--json", str(options.folder / f"{name}.json")]
        print(f"== python -m benchmarks.{name} {' '.join(words)}", flush=True)
        began = time.perf_counter()
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *words], cwd=ROOT).returncode:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    for title, lines in (("not run, for want of an input", skipped), ("failed", failed)):
        if lines:
            print(f"{title}:", *lines, sep="\n  ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
