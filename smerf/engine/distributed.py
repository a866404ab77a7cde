"""Training on many processes (``torchrun``): which one this is, what it owns, and sums over all.

Without torchrun every function is that of a single process. The batch is what is divided: process ``rank`` of ``world``
owns one run of its rows, and gradients are averaged, so that the loss curve is that of one process with the same
batch.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from smerf.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Process",
    "any_process",
    "average",
    "average_gradients",
    "average_values",
    "barrier",
    "process_group",
    "same_everywhere",
    "this_process",
]


@dataclass(frozen=True)
class Process:
    """Which process of how many this is."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this process writes files and reports."""
        return self.rank == 0

    def rows(self, total: int, what: str = "rays") -> slice:
        """Return this process's rows of a batch of ``total``; ``what`` names the rows in errors.

        Raises:
            UsageError: If the rows can't be divided evenly.
        """
        if total % self.world_size:
            raise UsageError(
                f"a batch of {total} {what} can't be divided evenly over {self.world_size} processes"
            )
        size = total // self.world_size
        return slice(self.rank * size, (self.rank + 1) * size)


def this_process() -> Process:
    """Return this process; the only one outside a process group."""
    if "torch" not in sys.modules:
        return Process()
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        return Process()
    return Process(dist.get_rank(), dist.get_world_size())


@contextmanager
def process_group(device: str = "cpu") -> Iterator[Process]:
    """Join the processes that torchrun started, for the length of the block.

    Args:
        device: ``cpu`` joins by gloo, ``cuda`` by NCCL on the GPU of this process (``LOCAL_RANK``).

    Yields:
        This process; the only one where torchrun did not start it. A group that is already joined stays.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield this_process()
        return
    import torch.distributed as dist

    if dist.is_initialized():
        yield this_process()
        return
    options: dict[str, Any] = {}
    if device.startswith("cuda"):
        import torch

        index = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(index)
        options["device_id"] = torch.device("cuda", index)
    dist.init_process_group("nccl" if options else "gloo", **options)
    try:
        yield this_process()
    finally:
        dist.destroy_process_group()


def average(tensor: Tensor) -> Tensor:
    """Return the mean of a tensor over all processes."""
    import torch.distributed as dist

    process = this_process()
    if process.world_size == 1:
        return tensor
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total / process.world_size


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Average the gradients over all processes, in place; what has none, has none in any process."""
    import torch.distributed as dist

    process = this_process()
    if process.world_size == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= process.world_size


def average_values(values: dict[str, Tensor]) -> dict[str, float]:
    """Return the means of scalars over all processes, by name."""
    import torch

    if this_process().world_size == 1 or not values:
        return {name: float(value) for name, value in values.items()}
    means = average(torch.stack([value.float() for value in values.values()]))
    return dict(zip(values, means.tolist()))


def any_process(flag: bool) -> bool:
    """Return whether the flag is set in any process."""
    return flag if this_process().world_size == 1 else max(_gather(int(flag))) > 0


def same_everywhere(number: int) -> bool:
    """Return whether all processes hold the same number."""
    return this_process().world_size == 1 or len(set(_gather(number))) == 1


def _gather(number: int) -> list[int]:
    import torch.distributed as dist

    found: list[Any] = [None] * this_process().world_size
    dist.all_gather_object(found, number)
    return [int(each) for each in found]


def barrier() -> None:
    """Wait until all processes are here."""
    if this_process().world_size > 1:
        import torch.distributed as dist

        dist.barrier()
