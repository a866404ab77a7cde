"""Optimiser state and state dicts as flat, prefixed tensors, the form that checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["add_prefix", "pack_adam", "restore_adam", "strip_prefix"]


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with ``prefix.`` before every name."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return those tensors whose name starts with ``prefix.``, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def pack_adam(prefix: str, adam: torch.optim.Optimizer, parameters: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the moments and step counts of ``parameters`` as ``prefix.INDEX.NAME``."""
    return {
        f"{prefix}.{index}.{name}": torch.as_tensor(value)
        for index, parameter in enumerate(parameters)
        for name, value in adam.state.get(parameter, {}).items()
    }


def restore_adam(
    prefix: str, adam: torch.optim.Optimizer, parameters: Sequence[Tensor], tensors: Mapping[str, Tensor]
) -> None:
    """Continue from what ``pack_adam`` returned. Parameters without saved moments start fresh."""
    for index, parameter in enumerate(parameters):
        state = strip_prefix(f"{prefix}.{index}", tensors)
        if state:
            # Adam counts its steps on the CPU, wherever the parameters are.
            adam.state[parameter] = {
                name: value.to("cpu" if name == "step" else parameter.device, copy=True)
                for name, value in state.items()
            }
