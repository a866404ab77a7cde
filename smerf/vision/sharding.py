"""One model on many processes, by torch's own engines: FSDP2, tensor parallel, and sharded checkpoints.

Tensor parallel splits heads: queries, keys, values and the MLP's first matrix by rows, the matrices after them by
columns. Each process then sees the norms of queries and keys through its own heads alone, so their gradients must be
summed; without it nothing warns, and the losses drift. Needs torch 2.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.optim import Optimizer

from smerf.errors import InvalidDataError, MissingPartError, UsageError
from smerf.vision.blocks import Attention, Block

try:
    from torch.distributed.fsdp import fully_shard
except ImportError as error:
    raise MissingPartError("smerf.vision.sharding: needs torch 2.6; pip install 'torch>=2.6'") from error

__all__ = ["load_shards", "save_shards", "shard_by_heads", "shard_parameters", "sum_head_gradients"]


def shard_parameters(model: nn.Module, mesh: DeviceMesh) -> None:
    """Let every process hold its part of all parameters (FSDP2), block by block; batches are divided."""
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def shard_by_heads(model: nn.Module, mesh: DeviceMesh) -> None:
    """Let every process hold some heads and a part of each MLP (tensor parallel); all see the same batch.

    Call ``sum_head_gradients`` after every backward pass.

    Raises:
        UsageError: If the heads cannot be divided evenly.
    """
    for module in model.modules():
        if isinstance(module, Attention):
            if module.heads % mesh.size():
                raise UsageError(f"{module.heads} heads can't be divided evenly over {mesh.size()} processes")
            parts = {name: ColwiseParallel() for name in ("query", "key", "value")}
            parallelize_module(module, mesh, {**parts, "out": RowwiseParallel()})
        elif isinstance(module, Block):
            parallelize_module(module.mlp, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})


def head_parameters(model: nn.Module) -> Iterable[nn.Parameter]:
    """Yield the parameters that are whole in every process and used within its heads."""
    for module in model.modules():
        if isinstance(module, Attention):
            yield from module.query_norm.parameters()
            yield from module.key_norm.parameters()


def sum_head_gradients(model: nn.Module, mesh: DeviceMesh) -> None:
    """Sum, over the processes of ``shard_by_heads``, the gradients of what each sees through its own heads."""
    for parameter in head_parameters(model):
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad, group=mesh.get_group())


def save_shards(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Write a sharded model and its optimiser's state, each process its own part."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    state, moments = get_state_dict(model, optimizer)
    from torch.distributed.checkpoint.state_dict_saver import save

    save({"model": state, "optimizer": moments}, checkpoint_id=str(folder))


def load_shards(folder: Path, model: nn.Module, optimizer: Optimizer) -> None:
    """Read what ``save_shards`` wrote into a model sharded over any number of processes.

    Raises:
        InvalidDataError: If it is not there or does not fit.
    """
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.checkpoint.state_dict_loader import load

    state, moments = get_state_dict(model, optimizer)
    both: dict[str, Any] = {"model": state, "optimizer": moments}
    try:
        load(both, checkpoint_id=str(folder))
    except (CheckpointException, OSError, RuntimeError, ValueError) as error:
        raise InvalidDataError(f"{folder}: cannot be read as this model's shards ({error})") from error
    set_state_dict(model, optimizer, model_state_dict=both["model"], optim_state_dict=both["optimizer"])
