"""Interval midpoints of rays in the unit cube of a hash grid, with the footprint of the ray's cone there."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference.contraction import contract, contraction_scale

__all__ = ["ray_points"]


def ray_points(
    origins: Tensor, directions: Tensor, edges: Tensor, radii: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Contract the midpoints of intervals.

    Args:
        origins: (R, 3) float32.
        directions: (R, 3) float32, any length; the point at t is ``origins + t * directions``.
        edges: Ascending distances (R, S + 1).
        radii: Cone radius per unit t (R,).
        scale: Factor from world units to the contraction's unit cube.

    Returns:
        Points (R * S, 3) in [0, 1]^3 and footprints (R * S,), the cone's standard deviation in the same
        units. Nothing is differentiated.

    Raises:
        ValueError: If a shape or dtype is not as stated.
    """
    native.check("edges", edges, torch.float32, (None, None))
    rays, samples = edges.shape[0], edges.shape[1] - 1
    if samples < 0:
        raise ValueError("edges: expected at least one distance a ray, got none")
    native.check("origins", origins, torch.float32, (rays, 3), edges.device)
    native.check("directions", directions, torch.float32, (rays, 3), edges.device)
    native.check("radii", radii, torch.float32, (rays,), edges.device)
    backend = native.backend(edges, "smerf_ray_points")
    if backend is None:
        t = 0.5 * (edges[:, 1:] + edges[:, :-1])
        p = scale * (origins[:, None] + t[..., None] * directions[:, None])
        sigma = 0.125 * scale * radii[:, None] * t * contraction_scale(p)
        return (contract(p).reshape(-1, 3) + 2.0) / 4.0, sigma.reshape(-1)
    origins, directions, edges, radii = (a.detach().contiguous() for a in (origins, directions, edges, radii))
    x, sigma = edges.new_empty(rays * samples, 3), edges.new_empty(rays * samples)
    backend.call(
        "smerf_ray_points", origins, directions, edges,
        radii,
        scale, rays, samples, x, sigma,
    )  # fmt: skip
    return x, sigma
