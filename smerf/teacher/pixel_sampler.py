"""Which pixels a step trains on: uniformly chosen, or where the error is.

Short runs of pixels share an error, the one last seen in them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["PixelSampler"]

_RUN = 16  # pixels in a row that share an error
_REFRESH_EVERY = 32  # steps


class PixelSampler:
    """Choose among ``count`` pixels.

    A fraction ``uniform_fraction`` of them is chosen uniformly, the rest from runs of pixels in proportion to the root
    of their mean squared error; runs not seen yet count as average.
    """

    def __init__(self, count: int, uniform_fraction: float) -> None:
        self.count, self.uniform_fraction = count, uniform_fraction
        self.error = torch.full((-(-count // _RUN),), -1.0)
        """Mean squared error of each run (runs,); negative: not seen yet."""
        self._cdf = torch.zeros(0, dtype=torch.float64)

    @property
    def follows_error(self) -> bool:
        """Return whether errors make a difference."""
        return self.uniform_fraction < 1.0

    def refresh(self) -> None:
        """Follow the errors; the distribution stays as it is in between."""
        seen = self.error >= 0.0
        size = self.error.clamp_min(0.0).sqrt()
        average = size[seen].mean() if bool(seen.any()) else torch.ones(())
        size = torch.where(seen, size, average)
        even = self.uniform_fraction
        mass = (1.0 - even) * size / size.sum().clamp_min(1e-12) + even / size.numel()
        self._cdf = torch.cumsum(mass.double(), 0)

    def sample(self, rays: int, generator: torch.Generator) -> Tensor:
        """Return random pixel indices (rays,), on the CPU."""
        if not self.follows_error:
            return torch.randint(self.count, (rays,), generator=generator)
        if not self._cdf.numel():
            self.refresh()
        u = torch.rand(2, rays, dtype=torch.float64, generator=generator)
        run = torch.searchsorted(self._cdf, u[0] * self._cdf[-1]).clamp_max(self._cdf.numel() - 1)
        return (run * _RUN + (u[1] * _RUN).long()).clamp_max(self.count - 1)

    def observe(self, index: Tensor, error: Tensor) -> None:
        """Remember squared errors (rays,) of pixels: the mean of what was known of a run and its last ray's."""
        # NumPy's assignment is sequential: among rays of one run the last counts, on any number of threads.
        run, known, found = (index // _RUN).numpy(), self.error.numpy(), error.cpu().numpy()
        before = known[run]
        after = np.where(before < 0.0, found, 0.5 * (before + found))
        known[run] = np.where(np.isfinite(after), after, before)

    def after_step(self, step: int) -> None:
        """Follow the errors from time to time; ``step`` counts from 1."""
        if self.follows_error and step % _REFRESH_EVERY == 0:
            self.refresh()

    def tensors(self) -> dict[str, Tensor]:
        """Return what continues exactly after ``restore``."""
        return {"error": self.error, "cdf": self._cdf} if self.follows_error else {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Continue from saved ``tensors``."""
        if self.follows_error:
            self.error.copy_(tensors["error"])
            self._cdf = tensors["cdf"].clone()
