"""Which device the stages compute on."""

from __future__ import annotations

import torch

from smerf.errors import MissingPartError

__all__ = ["cuda_works", "require_device"]


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
