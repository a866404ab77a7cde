"""Build smerf: the Python packages and the native kernels (plain C ABI, loaded with ctypes).

The CPU library is compiled once per instruction set and the loader picks one at run time, so one wheel serves
every x86-64 machine. The CUDA library is compiled by cuda/build.py where there is nvcc. Without a C++ compiler
or nvcc the install still succeeds, on PyTorch references.
"""

from __future__ import annotations

import os
import platform
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_namespace_packages, find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
INCLUDE = ROOT / "cuda" / "include"
ISA_FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c", "-mbmi2"],
    "avx512": [
        "-mavx512f",
        "-mavx512dq",
        "-mavx512bw",
        "-mavx512vl",
        "-mfma",
        "-mf16c",
        "-mbmi2",
        "-mprefer-vector-width=512",
    ],
}


class BuildKernels(build_ext):
    """Compile ``cuda/cpu`` with the C++ compiler and ``cuda/gpu`` with nvcc into ``smerf/kernels``."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        library = ext.name.rsplit(".", 1)[-1]
        try:
            if library == "libsmerf_cuda":
                self._build_cuda(target)
            else:
                self._build_cpu(target, library.removeprefix("libsmerf_cpu_"))
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "output", None) or "").strip()
            print(
                f"smerf: {library} was not built ({error}); the PyTorch reference is used instead\n{said}",
                file=sys.stderr,
            )

    def _build_cpu(self, target: Path, isa: str) -> None:
        compiler = os.environ.get("CXX", "g++" if shutil.which("g++") else "c++")
        common = [
            "-std=c++17", "-O3", "-ffast-math", "-fno-finite-math-only", "-fPIC", "-fopenmp",
            "-fvisibility=hidden", f'-DSMERF_ISA="{isa}"', f"-I{INCLUDE}", *ISA_FLAGS[isa],
        ]  # fmt: skip
        objects = []
        for source in sorted((ROOT / "cuda" / "cpu").glob("*.cpp")):
            self.mkpath(str(Path(self.build_temp) / isa))
            objects.append(str(Path(self.build_temp) / isa / (source.stem + ".o")))
            subprocess.check_call([compiler, *common, "-c", str(source), "-o", objects[-1]])
        subprocess.check_call([compiler, "-shared", "-fopenmp", *objects, "-o", str(target)])

    def _build_cuda(self, target: Path) -> None:
        cuda = runpy.run_path(str(ROOT / "cuda" / "build.py"))
        if not cuda["build"](target, Path(self.build_temp) / "cuda"):
            print("smerf: no nvcc, or SMERF_CUDA=0: built without CUDA kernels", file=sys.stderr)


class PlatformWheel(bdist_wheel):
    """The libraries use no Python ABI: one wheel per platform serves every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def kernel_extensions() -> list[Extension]:
    """One optional extension per native library."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    names = [f"libsmerf_cpu_{isa}" for isa in (ISA_FLAGS if is_x86 else ["baseline"])]
    return [
        Extension(f"smerf.kernels.{name}", sources=[], optional=True) for name in [*names, "libsmerf_cuda"]
    ]


viewer_packages = ["smerf.viewer"] + [f"smerf.viewer.{name}" for name in find_namespace_packages("viewer")]

setup(
    name="smerf",
    version="0.1.0",
    description="Photos in, a place you can walk through out: radiance fields distilled into a web page",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[*find_packages(include=["smerf", "smerf.*"]), *viewer_packages, "smerf.data"],
    package_dir={"smerf.viewer": "viewer", "smerf.data": "data"},
    package_data={
        "smerf.viewer": [f"**/*.{kind}" for kind in ("glsl", "frag", "vert", "js", "html", "css", "svg")],
        "smerf.data": ["**/*.yaml", "**/*.json", "**/*.safetensors"],
    },
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",
        "imageio[ffmpeg]>=2.34",
        "pillow>=10",
        "scipy>=1.11",
        "trimesh>=4.4",
        "PyOpenGL>=3.1.7",
        "glfw>=2.7",
        "tyro>=0.9",
        "rich>=13",
        "safetensors>=0.4.3",
        "PyYAML>=6",
        "flip-evaluator>=1.6",
        "embreex>=2.17; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
    ],
    extras_require={"test": ["pytest>=8", "ruff>=0.6", "playwright>=1.45"]},
    entry_points={"console_scripts": ["smerf=smerf.cli.main:main"]},
    ext_modules=kernel_extensions(),
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": PlatformWheel},
)
