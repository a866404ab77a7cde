"""Zip-NeRF's anti-aliased proposal loss in plain PyTorch: the specification of the native kernel."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blurred_interlevel", "blurred_weights"]


def blurred_weights(edges: Tensor, weights: Tensor, outer_edges: Tensor, half_width: float) -> Tensor:
    """Blur a histogram with a box and return its weight in each outer bin (R, N), in double precision.

    With C the cumulative weight and I its integral, the blurred cumulative weight at z is
    (I(z + b) - I(z - b)) / (2 b).
    """
    edges, weights, outer = edges.double(), weights.double(), outer_edges.double()
    widths = edges.diff(dim=-1)
    weights = torch.where(widths > 0, weights, 0.0)
    mass = torch.nn.functional.pad(torch.cumsum(weights, -1), (1, 0))
    area = torch.nn.functional.pad(torch.cumsum(widths * 0.5 * (mass[:, 1:] + mass[:, :-1]), -1), (1, 0))

    def integral(x: Tensor) -> Tensor:
        index = torch.searchsorted(edges.contiguous(), x.contiguous(), right=True) - 1
        inside, samples = index.clamp(0, weights.shape[-1] - 1), weights.shape[-1]
        into = x - edges.gather(-1, index.clamp(0, samples))
        share = into / widths.gather(-1, inside).clamp_min(1e-300)
        within = area.gather(-1, inside) + into * (
            mass.gather(-1, inside) + 0.5 * weights.gather(-1, inside) * share
        )
        beyond = area[:, -1:] + mass[:, -1:] * into
        return torch.where(index < 0, 0.0, torch.where(index >= samples, beyond, within))

    cumulative = (integral(outer + half_width) - integral(outer - half_width)) / (2.0 * half_width)
    return cumulative.diff(dim=-1)


def blurred_interlevel(
    edges: Tensor, weights: Tensor, outer_edges: Tensor, outer_weights: Tensor, half_width: float
) -> Tensor:
    """Return each ray's loss (R,); see ``smerf.kernels.blurred_interlevel``."""
    wanted = blurred_weights(edges.detach(), weights.detach(), outer_edges.detach(), half_width)
    outer = outer_weights.double()
    return ((wanted - outer).clamp_min(0.0) ** 2 / (outer + 1e-7)).sum(-1).to(outer_weights.dtype)
