"""Random points of a submodel's blocks, as short rays: what the sparsity loss asks the density at."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.fields.rays import Rays
from smerf.kernels import GridSpec
from smerf.kernels.grid_render import BLOCK
from smerf.kernels.reference.contraction import contraction_speed
from smerf.kernels.reference.grid_render import viewer_axes
from smerf.student.initialise import to_training

__all__ = ["sparse_rays"]


def sparse_rays(
    spec: GridSpec, blocks: Tensor, count: int, samples: int, generator: torch.Generator
) -> tuple[Rays, Tensor]:
    """Draw rays through uniformly random points of contracted space, one marching step long.

    The mean alpha of their intervals is the sparsity loss (SMERF, arXiv 2312.07541, section 6.7), of the part of space
    that holds blocks: elsewhere it is zero.

    Args:
        spec: The grids.
        blocks: Coordinates (N, 3) of the stored voxel blocks.
        count: Points.
        samples: Intervals a ray; all but the first have no length.
        generator: Draws points and directions.

    Returns:
        Rays (count,) and edges (count, samples + 1) in training units.
    """
    device = blocks.device
    chosen = torch.randint(len(blocks), (count,), generator=generator, device=device)
    inside = torch.rand(count, 3, generator=generator, device=device)
    points = to_training((blocks[chosen] + inside) * (4.0 * BLOCK / spec.voxel_resolution) - 2.0, spec)
    directions = torch.randn(count, 3, generator=generator, device=device)
    directions = directions / directions.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    centre = torch.tensor(spec.centre, device=device)
    speed = contraction_speed(viewer_axes(points - centre) * spec.scale, viewer_axes(directions))
    length = spec.step / (spec.scale * speed.clamp_min(1e-12))
    # From some lengths away: the point that a frustum is read at is then nearly its middle.
    edges = torch.stack([5.5 * length, *[6.5 * length] * samples], -1)
    origins = points - 6.0 * length[:, None] * directions
    return Rays(origins, directions, torch.zeros(count, device=device)), edges
