"""Run the kernels' tests through a CPU library that stops at undefined behaviour and at wrong memory accesses.

    .venv/bin/python tests/kernels/sanitize.py [pytest arguments]

Builds the AVX2 library with GCC's address and undefined-behaviour sanitizers into .cache/sanitize, then runs
tests/kernels (or what the arguments name) with it. Needs g++ and a processor with AVX2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".cache" / "sanitize"
FLAGS = [
    "-std=c++17", "-O1", "-g", "-ffast-math", "-fno-finite-math-only", "-fPIC", "-fopenmp", "-fno-omit-frame-pointer",
    "-mavx2", "-mfma", "-mf16c", "-mbmi2", '-DSMERF_ISA="avx2"', f"-I{ROOT / 'cuda' / 'include'}",
    "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all",
]  # fmt: skip
RUN = """
import sys
from pathlib import Path
import pytest
from smerf.kernels import native
native._FOLDER = Path(sys.argv[1])
assert native.load_cpu() is not None
sys.exit(pytest.main(sys.argv[2:]))
"""


def compile_one(source: Path) -> Path:
    """Compile a file of cuda/cpu, unless its object is newer than all sources."""
    made = WORK / f"{source.stem}.o"
    newest = max(
        path.stat().st_mtime for path in (ROOT / "cuda").rglob("*.*") if path.suffix in (".h", ".cpp")
    )
    if not made.exists() or made.stat().st_mtime < newest:
        subprocess.run(["g++", *FLAGS, "-c", str(source), "-o", str(made)], check=True)
    return made


def main() -> int:
    """Build the library, run the tests, return pytest's exit code."""
    if not shutil.which("g++"):
        sys.exit("sanitize: no g++ here. Install it, then run this again")
    WORK.mkdir(parents=True, exist_ok=True)
    sources = sorted((ROOT / "cuda" / "cpu").glob("*.cpp"), key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compile_one, sources))
    library = WORK / "libsmerf_cpu_avx2.so"
    subprocess.run(["g++", *FLAGS, "-shared", *map(str, objects), "-o", str(library)], check=True)
    # The loader asks the baseline library what the processor runs.
    shutil.copy(library, WORK / "libsmerf_cpu_baseline.so")
    runtime = subprocess.check_output(["g++", "-print-file-name=libasan.so"], text=True).strip()
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "SMERF_ISA": "avx2",
    }
    names = ["test_cuda_build", "test_cuda_sources", "test_libraries"]  # these load or build other libraries
    skipped = [f"--ignore={ROOT}/tests/kernels/{name}.py" for name in names]
    arguments = sys.argv[1:] or ["-q", "-x", "-s", str(ROOT / "tests" / "kernels"), *skipped]
    return subprocess.run(
        [sys.executable, "-c", RUN, str(WORK), *arguments], cwd=ROOT, env=environment
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
