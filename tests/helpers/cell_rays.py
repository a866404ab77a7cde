"""Rays whose samples lie in the middle of chosen cells, where rounding decides nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import GridSpec
from smerf.kernels.reference.contraction import uncontract
from smerf.kernels.reference.grid_render import frustum_mean


def rays_through_cells(spec: GridSpec, size: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return origins and directions (R, 3), edges (R, 4), weights (R, 3); the middle interval is in a random cell.

    The other samples weigh nothing. Cells at the border, which reach to infinity, are left out.
    """
    generator = torch.Generator().manual_seed(4)
    cells = torch.randint(size // 4, 3 * size // 4, (count, 3), generator=generator)
    # Of contracted space only the arms of a cross are reached: at most one coordinate lies beyond the unit cube.
    axis = torch.randint(3, (count, 1), generator=generator)
    cells.scatter_(1, axis, torch.randint(1, size - 1, (count, 1), generator=generator))
    local = uncontract((cells + 0.5) * (4.0 / size) - 2.0)
    points = torch.stack([-local[:, 0], local[:, 2], local[:, 1]], -1) / spec.scale + torch.tensor(
        spec.centre
    )
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    edges = torch.tensor([0.2, 0.5, 0.6, 0.9]).expand(count, 4).contiguous()
    origins = points - frustum_mean(edges[:, 1:2], edges[:, 2:3]) * directions
    weights = torch.zeros(count, 3)
    weights[:, 1] = torch.rand(count, generator=generator)
    return origins, directions, edges, weights
