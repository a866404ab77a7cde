"""Compile the native kernels (plain C ABI, loaded with ctypes); everything else is in pyproject.toml.

The CPU library is compiled once per instruction set and the loader picks one at run time, so one wheel serves every
x86-64 machine. The CUDA library is compiled by cuda/build.py where there is a GPU, or where ``SMERF_CUDA=1`` asks for
it. Without a compiler the install still succeeds, on the PyTorch reference. ``SMERF_NATIVE=0`` compiles nothing.
"""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from setuptools import Extension, find_namespace_packages, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
CUDA = ROOT / "cuda"
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
ISA_FLAGS = {
    # The fallback of machines from before 2013: a third of -O3's time to compile.
    "baseline": ["-O2"],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avx512": [
        "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma", "-mf16c", "-mbmi2",
        "-mprefer-vector-width=512",
    ],
}  # fmt: skip
ISAS = list(ISA_FLAGS) if IS_X86 else ["baseline"]
COMMON_FLAGS = [
    "-std=c++17", "-O3", "-ffast-math", "-fno-finite-math-only", "-fPIC", "-fopenmp", "-fvisibility=hidden",
    f"-I{CUDA / 'include'}",
]  # fmt: skip
SLOWER = "smerf will run on its PyTorch reference, about 8 times slower"


def say(text: str) -> None:
    """Print a line at once: compiling takes minutes."""
    print(f"smerf: {text}", file=sys.stderr, flush=True)


class BuildKernels(build_ext):
    """Compile ``cuda/cpu`` with the C++ compiler and ``cuda/gpu`` with nvcc into ``smerf/kernels``."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extensions(self) -> None:
        if os.environ.get("SMERF_NATIVE") == "0":
            say("SMERF_NATIVE=0: no kernel is compiled")
            return
        targets = {
            ext.name.rpartition(".")[2]: Path(self.get_ext_fullpath(ext.name)) for ext in self.extensions
        }
        for target in targets.values():
            target.parent.mkdir(parents=True, exist_ok=True)
        self._build_cuda(targets.pop("libsmerf_cuda"))
        self._build_cpu({name.removeprefix("libsmerf_cpu_"): target for name, target in targets.items()})

    def _build_cpu(self, targets: dict[str, Path]) -> None:
        compiler = os.environ.get("CXX", "g++" if shutil.which("g++") else "c++")
        sources = sorted((CUDA / "cpu").glob("*.cpp"), key=lambda path: -path.stat().st_size)
        if not shutil.which(compiler) or not sources:
            missing = f"no C++ compiler ({compiler})" if sources else "no sources in cuda/cpu"
            say(f"{missing}: {SLOWER}. Install g++, then install smerf again")
            return
        # The files that take longest come first, so that no processor is left alone with one at the end.
        jobs = [(isa, source) for source in sources for isa in targets]
        say(f"compiling {len(jobs)} files for {', '.join(targets)} on {os.cpu_count()} processors")
        faults: dict[str, str] = {}
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            running = {pool.submit(self._compile, compiler, *job): job for job in jobs}
            for count, done in enumerate(as_completed(running), 1):
                isa, source = running[done]
                say(f"compiled {count}/{len(jobs)} {source.stem} ({isa})")
                if done.result():
                    faults.setdefault(isa, f"{source.name}: {done.result()}")
        for isa, target in targets.items():
            if isa in faults:
                say(f"the {isa} kernels were not built: {faults[isa]}")
                continue
            objects = [str(self._object(isa, source)) for source in sources]
            subprocess.check_call([compiler, "-shared", "-fopenmp", *objects, "-o", str(target)])

    def _object(self, isa: str, source: Path) -> Path:
        return Path(self.build_temp) / isa / f"{source.stem}.o"

    def _compile(self, compiler: str, isa: str, source: Path) -> str:
        """Compile a file; return what is wrong with it, or an empty string."""
        made = self._object(isa, source)
        made.parent.mkdir(parents=True, exist_ok=True)
        flags = [*COMMON_FLAGS, *ISA_FLAGS[isa], f'-DSMERF_ISA="{isa}"']
        done = subprocess.run(
            [compiler, *flags, "-c", str(source), "-o", str(made)], capture_output=True, text=True
        )
        return done.stderr.strip() or "it does not compile" if done.returncode else ""

    def _build_cuda(self, target: Path) -> None:
        cuda = runpy.run_path(str(CUDA / "build.py")) if (CUDA / "build.py").is_file() else None
        if cuda is None or not cuda["is_wanted"]():
            say("no GPU here, or SMERF_CUDA=0: the CUDA kernels are left out (SMERF_CUDA=1 compiles them)")
            return
        say(f"compiling {len(cuda['sources']())} CUDA files")
        try:
            if not cuda["build"](target, Path(self.build_temp) / "cuda"):
                say(
                    "no nvcc: the CUDA kernels are left out. Install the CUDA toolkit, then install smerf again"
                )
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            output = (getattr(error, "output", None) or "").strip()
            say(f"the CUDA kernels were not built: {error}\n{output}")


class PlatformWheel(bdist_wheel):
    """The libraries use no Python ABI: one wheel per platform serves every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


libraries = [*(f"libsmerf_cpu_{isa}" for isa in ISAS), "libsmerf_cuda"]
viewer_packages = ["smerf.viewer"] + [f"smerf.viewer.{name}" for name in find_namespace_packages("viewer")]

setup(
    packages=[*find_packages(include=["smerf", "smerf.*"]), *viewer_packages, "smerf.data"],
    package_dir={"smerf.viewer": "viewer", "smerf.data": "data"},
    package_data={
        "smerf": ["**/*.css", "**/*.js"],
        "smerf.viewer": [
            f"**/*.{kind}" for kind in ("glsl", "wgsl", "frag", "vert", "js", "html", "css", "svg", "json")
        ],
        "smerf.data": ["**/*.yaml", "**/*.json", "**/*.safetensors", "**/LICENSE"],
    },
    ext_modules=[Extension(f"smerf.kernels.{name}", sources=[], optional=True) for name in libraries],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
