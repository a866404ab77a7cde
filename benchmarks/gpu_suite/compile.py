"""Part ``build``: compile the CUDA library for every target, and say what each kernel costs in registers."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import ModuleType

from benchmarks.gpu_suite.common import NotHereError, Suite
from smerf.kernels import native

__all__ = ["run"]

ROOT = Path(__file__).resolve().parents[2]
_KERNEL = re.compile(
    r"Compiling entry function '(\S+)' for '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads.*?Used (\d+) registers",
    re.DOTALL,
)


def _builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smerf_cuda_build", ROOT / "cuda" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _plain_names(names: list[str]) -> dict[str, str]:
    """Undo the compiler's mangling where the tool for it is at hand."""
    if shutil.which("c++filt") is None or not names:
        return {name: name for name in names}
    said = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True).stdout
    plain = [
        line.replace("(anonymous namespace)::", "").split("(")[0].removeprefix("void ")
        for line in said.splitlines()
    ]
    return dict(zip(names, plain))


def run(suite: Suite) -> None:
    """Compile for all targets into ``smerf/kernels`` and record time, warnings, registers and spills."""
    builder = _builder()
    nvcc = builder.find_nvcc()
    if nvcc is None:
        raise NotHereError("no nvcc: install the CUDA toolkit, or set CUDA_HOME")
    said: dict[str, str] = {}
    target = ROOT / "smerf" / "kernels" / "libsmerf_cuda.so"
    began = time.perf_counter()
    try:
        builder.build(target, suite.work / "objects", "-Xptxas", "-v", report=said.__setitem__)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"nvcc failed: {(error.output or '')[-2000:]}") from error
    seconds = time.perf_counter() - began
    native.load_cuda.cache_clear()
    warnings = [line for text in said.values() for line in text.splitlines() if "warning" in line.lower()]
    found = [(file, *match) for file, text in said.items() for match in _KERNEL.findall(text)]
    plain = _plain_names(sorted({match[1] for match in found}))
    kernels: dict[str, dict] = {}
    for file, name, architecture, stack, stores, loads, registers in found:
        kernels.setdefault(f"{file}: {plain[name]}", {})[architecture] = {
            "registers": int(registers),
            "stack_bytes": int(stack),
            "spill_bytes": int(stores) + int(loads),
        }
    spilling = sorted(
        name for name, one in kernels.items() if any(entry["spill_bytes"] for entry in one.values())
    )
    suite.add(
        "build",
        seconds=seconds,
        targets=" ".join(builder.targets()),
        library_mb=target.stat().st_size / 1e6,
        warnings=len(warnings),
        kernels_that_spill=", ".join(spilling) or "none",
        most_registers=max((e["registers"] for one in kernels.values() for e in one.values()), default=0),
        kernels=kernels,
        warning_lines=warnings,
    )
    if warnings:
        raise RuntimeError(f"{len(warnings)} compiler warnings, the first: {warnings[0]}")
