"""Run native code through a CPU library that reports undefined behaviour and wrong memory accesses.

    .venv/bin/python -m tests.kernels.sanitize [PART ...] [--copies 40] [--json FILE]

Builds the AVX2 library with GCC's address and undefined-behaviour sanitizers into .cache/sanitize and runs with it: the
tests of ``kernels``, ``fields`` and ``render``; ``scenes`` (damaged captures and baked scenes, these rendered) and
``files`` (damaged splat and mesh files, opened and rendered), ``--copies`` of each layout. Undefined behaviour is
reported and the run goes on; a wrong memory access ends a part. Exits with 1 after either, or if a test fails. Needs
g++ and a processor with AVX2.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.common import Benchmark, Report
from smerf.errors import MissingPartError, UsageError

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "sanitize"
FLAGS = [
    "-std=c++17", "-O1", "-g", "-ffast-math", "-fno-finite-math-only", "-fPIC", "-fopenmp", "-fno-omit-frame-pointer",
    "-mavx2", "-mfma", "-mf16c", "-mbmi2", '-DSMERF_ISA="avx2"', f"-I{ROOT / 'cuda' / 'include'}",
    "-fsanitize=address,undefined,float-cast-overflow",
]  # fmt: skip
RUN = """
import runpy, sys
from pathlib import Path
from smerf.kernels import native
native._FOLDER = Path(sys.argv[1])
assert native.load_cpu() is not None
sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
OTHER_LIBRARIES = ("test_cuda_build", "test_cuda_sources", "test_libraries")
"""Tests of kernels that build or load other libraries than this one."""
PARTS = {
    "kernels": ["tests/kernels", *(f"--ignore=tests/kernels/{name}.py" for name in OTHER_LIBRARIES)],
    "fields": ["tests/fields"],
    "render": ["tests/render"],
    "scenes": ["tests/capture/test_mutated_files.py"],
    "files": [],
}


def compile_one(source: Path) -> Path:
    """Compile a file of cuda/cpu, unless its object is newer than all sources and this file."""
    made = WORK / f"{source.stem}.o"
    sources = [path for path in (ROOT / "cuda").rglob("*.*") if path.suffix in (".h", ".cpp")]
    newest = max(path.stat().st_mtime for path in (*sources, Path(__file__)))
    if not made.exists() or made.stat().st_mtime < newest:
        subprocess.run(["g++", *FLAGS, "-c", str(source), "-o", str(made)], check=True)
    return made


def build() -> None:
    """Build the library.

    Raises:
        MissingPartError: If there is no compiler.
    """
    if not shutil.which("g++"):
        raise MissingPartError("sanitize: no g++ here. Install it, then run this again")
    WORK.mkdir(parents=True, exist_ok=True)
    sources = sorted((ROOT / "cuda" / "cpu").glob("*.cpp"), key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = WORK / "libsmerf_cpu_avx2.so"
    subprocess.run(["g++", *FLAGS, "-shared", *map(str, objects), "-o", str(library)], check=True)
    # The loader asks the baseline library what the processor runs.
    shutil.copy(library, WORK / "libsmerf_cpu_baseline.so")


def run(words: list[str], copies: int) -> subprocess.CompletedProcess[str]:
    """Run a Python module with the library."""
    # Without the C++ library beside it, ASan does not find what throws, and ends at torch's first exception.
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libstdc++.so.6")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "SMERF_ISA": "avx2",
        "SMERF_MUTATIONS": str(copies),
    }
    command = [sys.executable, "-c", RUN, str(WORK), *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read(output: str) -> dict[str, int]:
    """Count what a part's output says: tests, damaged files, and what the sanitizers reported."""
    found = Counter({"passed": 0, "failed": 0, "skipped": 0})
    last = [line for line in output.splitlines() if re.search(r"\d+ \w+ in [\d.]+s", line)][-1:]
    for count, word in re.findall(r"(\d+) (passed|failed|error|skipped)", "".join(last)):
        found["failed" if word == "error" else word] += int(count)
    for word, count in re.findall(r'"(refused|picture|wrong)": (\d+)', output):
        found[word] += int(count)
    places = {line.split(": runtime error")[0] for line in output.splitlines() if ": runtime error: " in line}
    found["undefined"], found["memory"] = len(places), output.count("ERROR: AddressSanitizer")
    return dict(found)


def measure(options: argparse.Namespace, report: Report) -> int:
    if unknown := set(options.parts) - PARTS.keys():
        raise UsageError(f"unknown part {', '.join(sorted(unknown))}: use {', '.join(PARTS)}")
    build()
    is_clean = True
    for part in options.parts or PARTS:
        pytest = ["pytest", "-s", "-p", "no:cacheprovider", *PARTS[part]]
        files = [
            "tests.helpers.damaged_assets",
            "--mutated",
            str(options.copies),
            "--truncated",
            str(options.copies // 4),
        ]
        done = run(files if part == "files" else pytest, options.copies)
        found = read(done.stdout)
        report.add(f"sanitize/{part}", exit_code=done.returncode, **found)
        print(f"{part}: {', '.join(f'{count} {word}' for word, count in found.items())}", flush=True)
        if done.returncode or found["undefined"] or found["memory"]:
            is_clean = False
            print(done.stdout)
    return 0 if is_clean else 1


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--copies", type=int, default=40, help="damaged copies of each layout")


BENCHMARK = Benchmark(__doc__ or "", measure, options, short=[])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
