"""Find and load the native kernel libraries (plain C ABI, ctypes), and call their kernels.

The CPU library comes once per instruction set; the best one that the processor runs is loaded. The CUDA
library serves tensors on NVIDIA GPUs. The environment variable ``SMERF_ISA`` (``baseline``, ``avx2``,
``avx512``) caps the choice for CPUs and ``SMERF_KERNELS=reference`` turns all native kernels off.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smerf.errors import SmerfError
from smerf.kernels import abi

__all__ = [
    "Backend",
    "backend",
    "check",
    "check_device",
    "cpu_backend",
    "kernel_table",
    "load_cpu",
    "load_cuda",
    "status",
    "use_large_pages",
]

_ISAS = ("baseline", "avx2", "avx512")
_FOLDER = Path(__file__).parent
_KERNELS = {
    "hash_encode": ("smerf_hash_encode_forward", "smerf_hash_encode_backward"),
    "ray_points": ("smerf_ray_points",),
    "mlp": ("smerf_mlp_forward", "smerf_mlp_backward"),
    "radiance_head": ("smerf_radiance_head_forward", "smerf_radiance_head_backward"),
    "sparse_adam": ("smerf_sparse_adam",),
    "grid_render": ("smerf_grid_render_forward", "smerf_grid_render_backward"),
    "grid_mark": ("smerf_grid_mark",),
    "grid_read": ("smerf_grid_read",),
    "grid_adam": ("smerf_grid_adam",),
    "march": ("smerf_march",),
    "distance_grid": ("smerf_distance_grid",),
    "block_samples": ("smerf_block_samples",),
    "mark_alive": ("smerf_mark_alive",),
    "splat_rays": ("smerf_splat_rays",),
    "splat_image": ("smerf_splat_image",),
    "surface_intervals": ("smerf_surface_intervals",),
    "appearance": ("smerf_appearance_forward", "smerf_appearance_backward"),
    "multisample_encode": ("smerf_multisample_forward", "smerf_multisample_backward"),
    "encode_directions": ("smerf_encode_directions_forward", "smerf_encode_directions_backward"),
    "volume_render": ("smerf_volume_render_forward", "smerf_volume_render_backward"),
    "importance_sample": ("smerf_importance_sample",),
    "blurred_interlevel": ("smerf_blurred_interlevel",),
    "cache_sample": ("smerf_cache_sample",),
    "vertex_decode": ("smerf_vertex_decode_forward", "smerf_vertex_decode_backward"),
    "student_step": ("smerf_student_step", "smerf_student_start"),
    "teacher_step": ("smerf_teacher_query", "smerf_teacher_step"),
}


def _library(name: str) -> Path:
    return _FOLDER / f"{name}.so"


def _open(name: str) -> ctypes.CDLL:
    library = ctypes.CDLL(str(_library(name)))
    abi.check_interface(library)
    abi.bind(library, "cuda" if name == "libsmerf_cuda" else "cpu")
    return library


def _best_isa() -> str:
    """Return the name of the best instruction set that is built, runs here and is not capped."""
    probe = _open("libsmerf_cpu_baseline")
    level = min(int(probe.smerf_processor_level()), len(_ISAS) - 1)
    cap = os.environ.get("SMERF_ISA")
    if cap:
        if cap not in _ISAS:
            raise OSError(f"SMERF_ISA={cap} is unknown: use one of {', '.join(_ISAS)}")
        level = min(level, _ISAS.index(cap))
    while level > 0 and not _library(f"libsmerf_cpu_{_ISAS[level]}").exists():
        level -= 1
    return _ISAS[level]


def _are_off() -> bool:
    return os.environ.get("SMERF_KERNELS") == "reference"


@functools.cache
def load_cpu() -> ctypes.CDLL | None:
    """Load the CPU kernels, or return None where they are not built or turned off.

    Raises:
        OSError: If a library is present but unusable (another interface, or a bad ``SMERF_ISA``).
    """
    if _are_off() or not _library("libsmerf_cpu_baseline").exists():
        return None
    return _open(f"libsmerf_cpu_{_best_isa()}")


def instructions() -> str:
    """Return the instruction set that the CPU kernels run on: ``avx512``, ``avx2``, ``baseline``, or ``reference``."""
    return "reference" if load_cpu() is None else _best_isa()


@functools.cache
def load_cuda() -> ctypes.CDLL | None:
    """Load the CUDA kernels, or return None where they are not built or turned off. Needs no driver.

    Raises:
        OSError: If the library is present but unusable.
    """
    if _are_off() or not _library("libsmerf_cuda").exists():
        return None
    return _open("libsmerf_cuda")


@dataclass(frozen=True)
class Backend:
    """A library and the device that its kernels run on; ``kind`` is ``cpu`` or ``cuda``."""

    kind: str
    library: Any
    device: Any = None

    def has(self, name: str) -> bool:
        """Return whether the library exports a function."""
        return hasattr(self.library, name)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a kernel of ``abi.KERNELS``; on CUDA it is queued on torch's current stream of the device.

        Arguments are tensors, arrays, ``abi.record`` structures and numbers, which live at least until it returns.

        Raises:
            SmerfError: If the kernel does not take these sizes, or the driver reports an error.
            TypeError: If the arguments are not those of the kernel.
            ValueError: If a tensor is not contiguous.
        """
        function = getattr(self.library, name)
        values = abi.convert(name, abi.KERNELS[name], arguments, self.kind)
        if self.kind == "cpu":
            code = function(*values)
        else:
            with self.device_scope() as stream:
                code = function(*values, stream)
        if code:
            raise SmerfError(f"{name} on {self.device or self.kind}: {self._describe(code)}")

    def query(self, name: str, *arguments: Any) -> Any:
        """Return the answer of a function of ``abi.FUNCTIONS``, on CUDA for the backend's device."""
        values = abi.convert(name, abi.FUNCTIONS[name][1], arguments, self.kind)
        with contextlib.nullcontext() if self.kind == "cpu" else self.device_scope():
            return getattr(self.library, name)(*values)

    @contextlib.contextmanager
    def device_scope(self) -> Iterator[int | None]:
        """Make the backend's device the current one, and give torch's current stream there."""
        import torch

        with torch.cuda.device(self.device):
            yield torch.cuda.current_stream(self.device).cuda_stream

    def _describe(self, code: int) -> str:
        if self.kind == "cpu" or code < 0:
            return "the kernel is not made for these sizes; SMERF_KERNELS=reference turns it off"
        return f"CUDA error {code}: {self.library.smerf_error(code).decode()}"


def backend(tensor: Any, name: str | None = None) -> Backend | None:
    """Return what runs kernels on a tensor, or None where the PyTorch reference has to.

    Args:
        tensor: Decides the device.
        name: A function that the library must have.
    """
    kind = tensor.device.type
    library = load_cpu() if kind == "cpu" else load_cuda() if kind == "cuda" else None
    if library is None or (name is not None and not hasattr(library, name)):
        return None
    return Backend(kind, library, None if kind == "cpu" else tensor.device)


def cpu_backend(name: str | None = None) -> Backend | None:
    """Return what runs kernels on arrays in the CPU's memory, or None where it is not built or lacks ``name``."""
    library = load_cpu()
    return None if library is None or (name and not hasattr(library, name)) else Backend("cpu", library)


def use_large_pages(tensor: Any) -> None:
    """Ask the system for large pages behind a tensor that kernels read at random; without effect elsewhere."""
    cpu = cpu_backend()
    if cpu and tensor.device.type == "cpu":
        cpu.query("smerf_use_large_pages", tensor, tensor.numel() * tensor.element_size())


def check(name: str, tensor: Any, dtype: Any, shape: Sequence[int | None], device: Any = None) -> None:
    """Raise ValueError unless a tensor has the dtype and shape that a kernel expects (None is any size).

    ``device``, if given, is where it has to be.
    """
    has_shape = len(tensor.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(tensor.shape, shape)
    )
    if tensor.dtype != dtype or not has_shape:
        wanted = tuple("any" if size is None else size for size in shape)
        raise ValueError(f"{name}: expected {dtype} {wanted}, got {tensor.dtype} {tuple(tensor.shape)}")
    if device is not None and tensor.device != device:
        raise ValueError(f"{name}: expected a tensor on {device}, got one on {tensor.device}")


def check_device(**tensors: Any) -> None:
    """Raise ValueError unless all tensors given by name (None is passed over) lie on the first one's device."""
    given = [(name, tensor) for name, tensor in tensors.items() if tensor is not None]
    for name, tensor in given[1:]:
        if tensor.device != given[0][1].device:
            raise ValueError(
                f"{name}: expected device {given[0][1].device} like {given[0][0]}, got {tensor.device}"
            )


def status() -> list[dict[str, str]]:
    """Describe each native library.

    ``name``, ``state`` (``used``, ``ready`` or ``absent``) and, unless all is well, the ``reason``.
    """
    rows = []
    try:
        used = load_cpu()
        chosen = used.smerf_isa().decode() if used else ""
        fault = ""
    except OSError as error:
        chosen, fault = "", str(error)
    for isa in _ISAS:
        exists = _library(f"libsmerf_cpu_{isa}").exists()
        state = "used" if isa == chosen else ("ready" if exists else "absent")
        reason = fault or ("" if exists else "not built: install a C++ compiler and run `pip install -e .`")
        rows.append({"name": f"cpu-{isa}", "state": state, "reason": reason})
    return [*rows, _cuda_status()]


def _cuda_status() -> dict[str, str]:
    try:
        library = load_cuda()
    except OSError as error:
        return {"name": "cuda", "state": "absent", "reason": str(error)}
    if library is None:
        off = "turned off by SMERF_KERNELS=reference"
        reason = off if _are_off() else "not built: install nvcc and run `pip install -e .`"
        return {"name": "cuda", "state": "absent", "reason": reason}
    count = library.smerf_device_count()
    if count > 0:
        return {"name": "cuda", "state": "used", "reason": ""}
    why = library.smerf_error(-count).decode() if count else "no device"
    return {"name": "cuda", "state": "ready", "reason": f"built, but there is no GPU to run it: {why}"}


def kernel_table() -> dict[str, dict[str, str]]:
    """Say for each kernel what runs it: ``{kernel: {"cpu": ..., "cuda": ...}}``.

    ``cpu`` is what CPU tensors get, ``cpu`` or ``reference``; ``cuda`` what GPU tensors get, ``cuda`` or
    ``reference``, whether or not there is a GPU.
    """
    libraries: dict[str, Any] = {"cpu": None, "cuda": None}
    for kind, load in (("cpu", load_cpu), ("cuda", load_cuda)):
        try:
            libraries[kind] = load()
        except OSError:
            # The status of the libraries shows the reason.
            continue
    return {
        kernel: {
            kind: kind
            if library is not None and all(hasattr(library, name) for name in names)
            else "reference"
            for kind, library in libraries.items()
        }
        for kernel, names in _KERNELS.items()
    }
