"""How much memory is free, and refusing what can't fit before anything is allocated."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

from smerf.errors import UsageError

__all__ = ["free_memory", "held_memory", "process_bytes", "release_memory", "require_memory"]


def free_memory(device: str = "cpu") -> int | None:
    """Return the free bytes of a device, or None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(torch.device(device))[0])
    found = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        # A container may be allowed less than the machine has.
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            found.append(int(limit) - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError, IndexError):
        pass
    return min(found) if found else None


def require_memory(needed: int, what: str, fix: str, device: str = "cpu") -> None:
    """Refuse what does not fit.

    Raises:
        UsageError: If ``needed`` bytes are more than is free; the message names ``what`` and the ``fix``.
    """
    free = free_memory(device)
    if free is not None and needed > free:
        raise UsageError(
            f"{what}: needs {needed / 1e9:.1f} GB of memory, and {max(free, 0) / 1e9:.1f} GB are free on {device}; "
            f"{fix}"
        )


def release_memory() -> None:
    """Give back to the system what the process no longer uses, where that is possible."""
    gc.collect()
    if sys.platform.startswith("linux"):
        # Without it glibc keeps hundreds of megabytes of freed tensors.
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def held_memory() -> int | None:
    """Release memory; return the process's resident bytes, None where the system does not tell."""
    release_memory()
    return process_bytes("VmRSS")


def process_bytes(kind: str, process: int | str = "self") -> int | None:
    """Return what the system says of a process's memory, None where it does not tell.

    ``kind`` is a line of /proc/PID/status: VmRSS for what is resident, VmHWM for the most that ever was.
    """
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{kind}:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
