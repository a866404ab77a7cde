"""What a case of the part ``kernels`` is, and what cases are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.kernels import HashSpec, ray_points

__all__ = ["ROWS", "SECTOR", "STANDARD", "Case", "generator_of", "points_of", "rays_of"]

STANDARD = HashSpec(8, 4, 20, 16, 4096)
"""The hash encoding of the preset ``standard``."""
ROWS = 2**19
"""Samples of a case at full size."""
SECTOR = 32
"""Bytes that a GPU reads at least."""


@dataclass(frozen=True)
class Case:
    """One kernel: ``make(device, size)`` returns what computes its tensors, and the bytes that one call moves.

    A call gives outputs, then gradients. ``tolerance`` is of the largest value of each tensor; ``loose`` that of
    tensor cores. Bytes count table and grid reads in whole sectors of 32 bytes.
    """

    name: str
    make: Callable[[torch.device, int], tuple[Callable[[], list[Tensor]], float]]
    size: int
    tolerance: float = 1e-4
    loose: float | None = None


def generator_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rays_of(rays: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return origins, unit directions and metric edges of rays of one small picture, neighbours together."""
    generator = generator_of()
    side = max(1, int(rays**0.5))
    column = torch.arange(rays) % side / side - 0.5
    row = torch.arange(rays) // side / side - 0.5
    directions = torch.nn.functional.normalize(torch.stack([column, row, -torch.ones(rays)], -1), dim=-1)
    origins = 0.3 * torch.rand(1, 3, generator=generator).expand(rays, 3)
    edges = torch.logspace(-1.0, 0.6, samples + 1).expand(rays, -1)
    edges = edges + 0.02 * torch.rand(rays, 1, generator=generator)
    return tuple(one.contiguous().to(device) for one in (origins, directions, edges))


def points_of(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    samples = 32
    origins, directions, edges = rays_of(max(1, count // samples), samples, device)
    return ray_points(origins, directions, edges, torch.full_like(origins[:, 0], 2e-3), 1.0)
