"""Volume rendering in plain PyTorch: the specification of the native kernel. Letters: R rays, S samples."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["ray_distortion", "ray_weights", "volume_render"]


def ray_weights(density: Tensor, edges: Tensor) -> Tensor:
    """Return w_i = T_i (1 - exp(-density_i dt_i)) for densities (R, S) in intervals (R, S + 1)."""
    depth = density * (edges[:, 1:] - edges[:, :-1])
    # The sum over earlier intervals alone: a large depth, added and subtracted again, wipes out small ones.
    before = torch.cumsum(torch.nn.functional.pad(depth, (1, 0)), -1)[:, :-1]
    return torch.exp(-before) * -torch.expm1(-depth)


def ray_distortion(edges: Tensor, weights: Tensor) -> Tensor:
    """Return each ray's distortion (R,) in O(S) (mip-NeRF 360, arXiv 2111.12077, equation 15).

    sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 (e_{i+1} - e_i) with midpoints m.
    """
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    mass = torch.cumsum(weights, -1) - weights
    moment = torch.cumsum(weights * middle, -1) - weights * middle
    between = 2.0 * (weights * (middle * mass - moment)).sum(-1)
    within = (weights**2 * (edges[:, 1:] - edges[:, :-1])).sum(-1) / 3.0
    return between + within


def volume_render(
    density: Tensor, edges: Tensor, colour: Tensor | None, coordinates: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return weights (R, S) and image (R, 6); see ``smerf.kernels.volume_render``."""
    edges = edges.detach()
    weights = ray_weights(density, edges)
    opacity = weights.sum(-1, keepdim=True)
    over_black = opacity.new_zeros(opacity.shape[0], 3)
    if colour is not None:
        over_black = torch.einsum("rs,rsc->rc", weights, colour)
    depth = (weights * 0.5 * (edges[:, 1:] + edges[:, :-1])).sum(-1, keepdim=True)
    distortion = torch.zeros_like(depth)
    if coordinates is not None:
        distortion = ray_distortion(coordinates.detach(), weights)[:, None]
    return weights, torch.cat([over_black, opacity, depth, distortion], -1)
