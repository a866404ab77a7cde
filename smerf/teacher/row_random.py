"""Random numbers for a batch that is divided over processes: the same for a ray wherever it is trained."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.engine.distributed import Process

__all__ = ["RowRandom"]


class RowRandom:
    """Random numbers for this process's rows of a batch.

    Every process generates those of the whole batch from generators in the same state and keeps its own rows.
    """

    def __init__(self, generator: torch.Generator, process: Process, rows: int) -> None:
        """Prepare for a batch of ``rows`` rays over all processes."""
        self.generator, self.rows, self._slice = generator, rows, process.rows(rows)

    @property
    def first_row(self) -> int:
        """Return the number of this process's first row in the whole batch."""
        return int(self._slice.start)

    def seed(self) -> int:
        """Return a random seed of 32 bits."""
        return int(torch.randint(1 << 32, (), generator=self.generator))

    def uniform(self, rows: int, *shape: int, like: Tensor) -> Tensor:
        """Return numbers in [0, 1) for this process's rows: (rows, *shape), on the device of ``like``."""
        values = torch.rand(self.rows, *shape, generator=self.generator)[self._slice]
        assert len(values) == rows
        return values.to(like)
