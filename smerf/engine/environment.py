"""Record what a run was made with: versions, machine, command; and measure time and memory."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import smerf
from smerf.engine.memory import process_bytes

__all__ = ["describe_environment", "peak_gpu_mb", "peak_memory_mb", "processor_name", "reset_peak_memory"]

_PACKAGES = (
    "torch",
    "numpy",
    "imageio",
    "pillow",
    "scipy",
    "trimesh",
    "safetensors",
    "nerfacc",
    "tinycudann",
)


def describe_environment(command: list[str] | None = None, device: str = "cpu") -> dict[str, Any]:
    """Return versions, machine and command as JSON values; imports nothing that is not loaded yet."""
    record: dict[str, Any] = {
        "smerf": smerf.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "memory_mb": _memory_mb(),
        "device": device,
        "instructions": _instructions(),
        "command": command or [],
        "packages": {name: _installed()[name] for name in _PACKAGES if name in _installed()},
        "lock": _lock(),
    }
    torch = sys.modules.get("torch")
    if torch is not None and device.startswith("cuda") and torch.cuda.is_available():
        record["gpu"] = torch.cuda.get_device_name()
        record["cuda"] = torch.version.cuda
    return record


def reset_peak_memory() -> None:
    """Start measuring peak memory again, where the system can; the GPU's as well."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_memory_mb() -> float | None:
    """Return the most resident memory since the last reset or the start in MiB; ``None`` if unknown."""
    if (seen := process_bytes("VmHWM")) is not None:
        return round(seen / 2**20, 1)
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def peak_gpu_mb() -> float | None:
    """Return the most GPU memory held since the last reset in MiB, or ``None`` if no GPU was used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**20, 1)


def _instructions() -> str | None:
    """Return the instruction set of the native kernels, if they were loaded."""
    native = sys.modules.get("smerf.kernels.native")
    return native.instructions() if native is not None else None


@functools.cache
def _installed() -> dict[str, str]:
    """Return every installed package's version, by its name; read once, for that takes a second."""
    read = [distribution.metadata for distribution in importlib.metadata.distributions()]
    # Of two of a name, the first is what is imported.
    return {each["Name"]: each["Version"] for each in reversed(read) if each["Name"]}


def _lock() -> list[str]:
    """Return every installed package with its version, as ``pip install`` takes them."""
    return sorted(f"{name}=={version}" for name, version in _installed().items())


def processor_name() -> str:
    """Return the processor's name as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (AttributeError, ValueError, OSError):
        return None
