"""Drawing pixels where the error is: short runs of pixels are drawn by the error that was last seen in them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["ErrorSampler"]

_RUN = 16  # pixels in a row that share an error


class ErrorSampler:
    """Choose among ``count`` pixels.

    A share ``even`` of the draws is uniform, the rest goes to runs of pixels in proportion to the root of their mean
    squared error; runs not seen yet count as average.
    """

    def __init__(self, count: int, even: float) -> None:
        self.count, self.even = count, even
        self.error = torch.full((-(-count // _RUN),), -1.0)
        """Mean squared error of each run; negative: not seen yet."""
        self._cdf = torch.zeros(0, dtype=torch.float64)

    def refresh(self) -> None:
        """Follow the errors; the distribution stays as it is in between."""
        seen = self.error >= 0.0
        size = self.error.clamp_min(0.0).sqrt()
        average = size[seen].mean() if bool(seen.any()) else torch.ones(())
        size = torch.where(seen, size, average)
        mass = (1.0 - self.even) * size / size.sum().clamp_min(1e-12) + self.even / size.numel()
        self._cdf = torch.cumsum(mass.double(), 0)

    def draw(self, rays: int, generator: torch.Generator) -> Tensor:
        """Draw pixel indices (rays,)."""
        if not self._cdf.numel():
            self.refresh()
        u = torch.rand(2, rays, dtype=torch.float64, generator=generator)
        run = torch.searchsorted(self._cdf, u[0] * self._cdf[-1]).clamp_max(self._cdf.numel() - 1)
        return (run * _RUN + (u[1] * _RUN).long()).clamp_max(self.count - 1)

    def observe(self, index: Tensor, error: Tensor) -> None:
        """Remember squared errors (rays,) of drawn pixels: the mean of what was known of a run and its last ray's."""
        # NumPy's assignment is sequential: among rays of one run the last counts, on any number of threads.
        run, known, error = (index // _RUN).numpy(), self.error.numpy(), error.numpy()
        before = known[run]
        after = np.where(before < 0.0, error, 0.5 * (before + error))
        known[run] = np.where(np.isfinite(after), after, before)

    def tensors(self) -> dict[str, Tensor]:
        """Return what goes on exactly after ``restore``."""
        return {"error": self.error, "cdf": self._cdf}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from saved ``tensors``."""
        self.error.copy_(tensors["error"])
        self._cdf = tensors["cdf"].clone()
