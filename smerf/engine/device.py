"""Which device the stages compute on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import Tensor

from smerf.errors import MissingPartError

__all__ = ["cuda_works", "fast_products", "require_device", "resolve_device", "restore_generator", "scope"]


def cuda_works() -> bool:
    """Return whether PyTorch can compute on a GPU here; a driver that is there but broken counts as none."""
    if not torch.cuda.is_available():
        return False
    try:
        return bool((torch.ones(2, device="cuda") + 1.0).sum().item() == 4.0)
    except RuntimeError:
        return False


def require_device(device: str) -> torch.device:
    """Return the device of a name such as ``cpu`` or ``cuda``.

    Raises:
        MissingPartError: If it is a GPU and there is none that works.
    """
    if torch.device(device).type == "cuda" and not cuda_works():
        raise MissingPartError(
            f"--device {device}: PyTorch finds no GPU that works here (smerf doctor says why); "
            "use --device cpu, or leave it out"
        )
    return torch.device(device)


def resolve_device(device: str) -> str:
    """Turn ``auto`` into the device that the stages run on: a GPU that works, else the CPU.

    Raises:
        MissingPartError: If ``cuda`` is asked for and there is none that works.
    """
    if device == "auto":
        return "cuda" if cuda_works() else "cpu"
    return str(require_device(device))


@contextlib.contextmanager
def fast_products() -> Iterator[None]:
    """Let PyTorch multiply on a GPU's tensor cores, in TF32 as the native networks do; a decorator as well.

    ``SMERF_MLP=float32`` keeps full precision. The CPU's products are not touched.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = os.environ.get("SMERF_MLP") != "float32"
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextlib.contextmanager
def scope(device: torch.device | str) -> Iterator[None]:
    """Make new tensors on a device, and multiply there as fast as it can; without effect on the CPU."""
    if torch.device(device).type == "cpu":
        yield
        return
    with torch.device(device), fast_products():
        yield


def restore_generator(generator: torch.Generator, state: Tensor, seed: int) -> None:
    """Continue a generator's numbers from a saved state, or from a seed if another kind of device saved it."""
    if state.numel() == generator.get_state().numel():
        # A copy is aligned as set_state reads it; a part of a file need not be.
        generator.set_state(state.to("cpu", copy=True))
    else:
        generator.manual_seed(seed)
