"""Alive cells in plain PyTorch: the specification of the native kernel."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels.reference.contraction import contract
from smerf.kernels.reference.grid_render import frustum_mean, viewer_axes
from smerf.kernels.types import GridSpec

__all__ = ["mark_alive_"]


def mark_alive_(
    seen: Tensor,
    solid: Tensor,
    spec: GridSpec,
    origins: Tensor,
    directions: Tensor,
    edges: Tensor,
    weights: Tensor,
    least: float,
    least_solid: float,
) -> None:
    """Mark in place the cells of samples; arguments are those of ``smerf.kernels.mark_alive_``."""
    rows, columns = torch.nonzero(weights > least, as_tuple=True)
    t = frustum_mean(edges[rows, columns], edges[rows, columns + 1])
    points = origins[rows] + t[:, None] * directions[rows]
    centre = torch.tensor(spec.centre, dtype=points.dtype, device=points.device)
    contracted = contract(viewer_axes((points - centre) * spec.scale))
    is_number = ~contracted.isnan().any(-1)
    contracted, weight = contracted[is_number], weights[rows, columns][is_number]
    size = seen.shape[0]
    cells = ((contracted + 2.0) * (0.25 * size)).floor().long().clamp(0, size - 1)
    x, y, z = cells.unbind(-1)
    seen[x, y, z] = True
    surface = weight > least_solid
    solid[x[surface], y[surface], z[surface]] = True
