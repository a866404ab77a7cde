"""Rays that pass through or beside a ball."""

import torch

CELLS = 32
RADIUS = 0.5


def rays_past_a_ball(count, layers):
    """Return the cells near a ball, and (origins, directions, met, opacity) of rays, some of which meet nothing."""
    generator = torch.Generator().manual_seed(0)
    axis = (torch.arange(CELLS + 2) - 0.5) * 2.0 / CELLS - 1.0
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    is_near = torch.nn.functional.pad((radius - RADIUS).abs() < 3.0 / CELLS, (0, 30)).view(34, 34, 2, 32)
    near = (is_near.int() << torch.arange(32, dtype=torch.int32)).sum(-1, dtype=torch.int32)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
    origins *= 0.2 + 3.0 * torch.rand(count, 1, generator=generator)
    aims = 1.4 * torch.rand(count, 3, generator=generator) - 0.7
    directions = torch.nn.functional.normalize(aims - origins, dim=1)
    met = 0.3 + torch.rand(count, layers, generator=generator).cumsum(1)
    opacity = torch.rand(count, layers, generator=generator)
    held = torch.randint(layers + 1, (count, 1), generator=generator)
    return near, origins, directions, met, torch.where(torch.arange(layers) < held, opacity, 0.0)
