"""Rays, and the spacing of samples along them.

Directions are unit vectors and t is metric distance in training units. s in [0, 1] is the normalised ray
distance in which samples are drawn. Letters: R rays, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Rays", "Spacing", "power_ladder"]


def power_ladder(t: Tensor | float, power: float, scale: float) -> Tensor | float:
    """Return Tukey's ladder P(x; p) = |p - 1| / p ((x / |p - 1| + 1)^p - 1) of x = scale * t, for p < 0."""
    stretch = 1.0 - power
    return stretch / power * ((scale / stretch * t + 1.0) ** power - 1.0)


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

    Bounded scenes are spaced linearly. Unbounded scenes follow the power ladder g(t) = P(scale * t; power)
    (Zip-NeRF, arXiv 2304.06706), by default 5/3 (1 - (0.8 t + 1)^-1.5): nearly linear close by, and infinity
    at a finite g.
    """

    near: float
    far: float
    linear: bool
    power: float = -1.5
    scale: float = 2.0

    def __post_init__(self) -> None:
        if not self.linear and not self.power < 0.0:
            raise ValueError(f"power: expected less than 0, got {self.power}")

    def _ladder(self, t: Tensor | float) -> Tensor | float:
        return power_ladder(t, self.power, self.scale)

    def _ends(self) -> tuple[float, float]:
        limit = (self.power - 1.0) / self.power
        far = limit if self.far == float("inf") else self._ladder(self.far)
        return self._ladder(self.near), far

    def t_from_s(self, s: Tensor) -> Tensor:
        """Return distances for s in [0, 1], any shape; infinity is cut at 1e4."""
        if self.linear:
            return self.near + s * (self.far - self.near)
        near, far = self._ends()
        limit, stretch = (self.power - 1.0) / self.power, 1.0 - self.power
        g = (near + s * (far - near)).clamp_max(limit * (1.0 - 1e-6))
        t = ((1.0 - g / limit) ** (1.0 / self.power) - 1.0) * (stretch / self.scale)
        return t.clamp(self.near, min(self.far, 1e4))

    def s_from_t(self, t: Tensor) -> Tensor:
        """Return s for distances t, any shape."""
        if self.linear:
            return (t - self.near) / (self.far - self.near)
        near, far = self._ends()
        return (self._ladder(t) - near) / (far - near)
