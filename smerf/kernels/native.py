"""Find and load the native kernel libraries (plain C ABI, ctypes).

The CPU library comes once per instruction set; the best one that the processor runs is loaded. The
environment variable ``SMERF_ISA`` (``baseline``, ``avx2``, ``avx512``) caps the choice and
``SMERF_KERNELS=reference`` turns the native kernels off.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from smerf.errors import MissingPartError

__all__ = ["check", "load_cpu", "pointer", "require_cpu", "status", "use_large_pages"]

ABI = 2
_ISAS = ("baseline", "avx2", "avx512")
_FOLDER = Path(__file__).parent


def _library(name: str) -> Path:
    return _FOLDER / f"{name}.so"


def _open(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    found = library.smerf_abi()
    if found != ABI:
        raise OSError(f"{path.name} has interface {found}, expected {ABI}: reinstall with `pip install -e .`")
    return library


def _best_isa() -> str:
    """Return the name of the best instruction set that is built, runs here and is not capped."""
    probe = _open(_library("libsmerf_cpu_baseline"))
    level = min(int(probe.smerf_processor_level()), len(_ISAS) - 1)
    cap = os.environ.get("SMERF_ISA")
    if cap:
        if cap not in _ISAS:
            raise OSError(f"SMERF_ISA={cap} is unknown: use one of {', '.join(_ISAS)}")
        level = min(level, _ISAS.index(cap))
    while level > 0 and not _library(f"libsmerf_cpu_{_ISAS[level]}").exists():
        level -= 1
    return _ISAS[level]


@functools.cache
def load_cpu() -> ctypes.CDLL | None:
    """Load the CPU kernels, or return None where they are not built or turned off.

    Raises:
        OSError: If a library is present but unusable (another interface, or a bad ``SMERF_ISA``).
    """
    if os.environ.get("SMERF_KERNELS") == "reference" or not _library("libsmerf_cpu_baseline").exists():
        return None
    return _open(_library(f"libsmerf_cpu_{_best_isa()}"))


def pointer(tensor: Any | None) -> ctypes.c_void_p:
    """Return the address of a contiguous tensor or array's first element (null for None)."""
    if tensor is None:
        return ctypes.c_void_p(None)
    return ctypes.c_void_p(tensor.data_ptr() if hasattr(tensor, "data_ptr") else tensor.ctypes.data)


def use_large_pages(tensor: Any) -> None:
    """Ask the system for large pages behind a tensor that kernels read at random; without effect elsewhere."""
    library = load_cpu()
    if library is not None and tensor.device.type == "cpu":
        library.smerf_use_large_pages(pointer(tensor), ctypes.c_int64(tensor.numel() * tensor.element_size()))


def check(name: str, tensor: Any, dtype: Any, shape: Sequence[int | None]) -> None:
    """Raise ValueError unless a tensor has the dtype and shape that a kernel expects (None fits any size)."""
    fits = len(tensor.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(tensor.shape, shape)
    )
    if tensor.dtype != dtype or not fits:
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name}: expected {dtype} {wanted}, got {tensor.dtype} {tuple(tensor.shape)}")


def require_cpu(device: str) -> None:
    """Raise MissingPartError unless a stage is asked to run on the CPU, the only device it has kernels for."""
    if device != "cpu":
        raise MissingPartError(
            f"device {device!r}: the stages run on the CPU alone in this version; use 'cpu'"
        )


def status() -> list[dict[str, str]]:
    """Describe each native library.

    ``name``, ``state`` (``used``, ``ready`` or ``absent``) and, unless all is well, the ``reason``.
    """
    rows = []
    try:
        used = load_cpu()
        chosen = ctypes.string_at(_call_isa(used)).decode() if used else ""
        fault = ""
    except OSError as error:
        chosen, fault = "", str(error)
    for isa in _ISAS:
        exists = _library(f"libsmerf_cpu_{isa}").exists()
        state = "used" if isa == chosen else ("ready" if exists else "absent")
        reason = fault or ("" if exists else "not built: install a C++ compiler and run `pip install -e .`")
        rows.append({"name": f"cpu-{isa}", "state": state, "reason": reason})
    return rows


def _call_isa(library: ctypes.CDLL) -> int:
    library.smerf_isa.restype = ctypes.c_void_p
    return library.smerf_isa()
