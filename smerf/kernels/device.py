"""Which device the stages compute on."""

from __future__ import annotations

import contextlib

import torch
from torch import Tensor

from smerf.errors import MissingPartError

__all__ = ["cuda_works", "require_device", "restore_generator", "scope"]


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


def scope(device: torch.device | str) -> contextlib.AbstractContextManager:
    """Return a context in which new tensors lie on a device; on the CPU they do anyway."""
    return contextlib.nullcontext() if torch.device(device).type == "cpu" else torch.device(device)


def restore_generator(generator: torch.Generator, state: Tensor, seed: int) -> None:
    """Continue a generator's numbers from a saved state, or from a seed if another kind of device saved it."""
    if state.numel() == generator.get_state().numel():
        generator.set_state(state.cpu())
    else:
        generator.manual_seed(seed)
