"""Rays, and the spacing of samples along them.

Directions are unit vectors and t is metric distance in training units. s in [0, 1] is the normalised ray
distance in which samples are drawn. Letters: R rays, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels.types import Spacing, power_ladder

__all__ = ["Rays", "Spacing", "power_ladder"]


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
