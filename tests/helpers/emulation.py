"""Builds the sources of ``cuda/gpu`` for the CPU and puts them in the place of CUDA.

See ``tests/kernels/emulator/cuda_runtime.h``. The tests can then run the CUDA kernels, their launchers and their
Python faces on machines without a GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import subprocess
from pathlib import Path

from smerf.kernels import abi, native

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = ROOT / "tests" / "kernels" / "emulator"


def compiler() -> str | None:
    """Return the C++ compiler, or None where there is none."""
    return shutil.which("g++")


def build(source: str, folder: Path, *, architecture: int = 900, tf32: bool = False) -> ctypes.CDLL:
    """Compile one file of ``cuda/gpu`` for the CPU and load it.

    ``architecture`` is what the sources see as ``__CUDA_ARCH__``; ``tf32`` rounds the operands of the tensor cores
    as the hardware does, otherwise they keep float32's precision.
    """
    target = folder / f"{source}_{architecture}_{tf32}.so"
    command = [
        compiler(), "-std=c++17", "-O0", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unknown-pragmas",
        "-D__CUDACC__", f"-D__CUDA_ARCH__={architecture}", *(["-DSMERF_EMULATE_TF32"] if tf32 else []),
        f"-I{EMULATOR}", f"-I{ROOT / 'cuda' / 'include'}", "-include", "cuda_runtime.h",
        "-x", "c++", str(ROOT / "cuda" / "gpu" / f"{source}.cu"), "-o", str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, text=True)
    library = ctypes.CDLL(str(target))
    abi.bind(library, "cuda")
    return library


class EmulatedBackend(native.Backend):
    """CUDA as the Python faces see it, on tensors that lie in the CPU's memory."""

    @contextlib.contextmanager
    def device_scope(self):
        """Give the default stream."""
        yield None


def use(monkeypatch, library: ctypes.CDLL) -> None:
    """Send every kernel that the library holds to it; the others have none."""

    def backend(tensor, name=None):
        if name is not None and not hasattr(library, name):
            return None
        return EmulatedBackend("cuda", library)

    monkeypatch.setattr(native, "backend", backend)
