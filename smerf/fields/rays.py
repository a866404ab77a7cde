"""Rays, and the spacing of samples along them.

Directions are unit vectors and t is metric distance in training units. s in [0, 1] is the normalised ray
distance in which samples are drawn. Letters: R rays, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rays", "Spacing"]


@dataclass(frozen=True)
class Rays:
    """A batch of rays.

    ``origins`` (R, 3), unit ``directions`` (R, 3), and cone ``radii`` per unit distance (R,).
    """

    origins: Tensor
    directions: Tensor
    radii: Tensor

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, index: slice | Tensor) -> Rays:
        return Rays(self.origins[index], self.directions[index], self.radii[index])

    def to(self, device: torch.device | str) -> Rays:
        """Return the rays on a device."""
        return Rays(self.origins.to(device), self.directions.to(device), self.radii.to(device))


@dataclass(frozen=True)
class Spacing:
    """The map between distance t in [near, far] and s in [0, 1].

    Bounded scenes are spaced linearly. Unbounded scenes follow the power ladder
    g(t) = 5/3 (1 - (0.8 t + 1)^-1.5) (Zip-NeRF, arXiv 2304.06706): nearly linear close by, and infinity at a
    finite g.
    """

    near: float
    far: float
    linear: bool

    @staticmethod
    def _ladder(t: Tensor | float) -> Tensor | float:
        return 5.0 / 3.0 * (1.0 - (0.8 * t + 1.0) ** -1.5)

    def _ends(self) -> tuple[float, float]:
        far = 5.0 / 3.0 if self.far == float("inf") else self._ladder(self.far)
        return self._ladder(self.near), far

    def t_from_s(self, s: Tensor) -> Tensor:
        """Return distances for s in [0, 1], any shape; infinity is cut at 1e4."""
        if self.linear:
            return self.near + s * (self.far - self.near)
        near, far = self._ends()
        g = (near + s * (far - near)).clamp_max(5.0 / 3.0 * (1.0 - 1e-6))
        return (((1.0 - 0.6 * g) ** (-2.0 / 3.0) - 1.0) / 0.8).clamp(self.near, min(self.far, 1e4))

    def s_from_t(self, t: Tensor) -> Tensor:
        """Return s for distances t, any shape."""
        if self.linear:
            return (t - self.near) / (self.far - self.near)
        near, far = self._ends()
        return (self._ladder(t) - near) / (far - near)
