"""Small ReLU networks in plain PyTorch: the specification of the native kernels."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["layers", "mlp", "radiance_head"]


def layers(params: Tensor, dims: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Split flat parameters into (weights (in, out), bias (out)) of each layer."""
    parts, offset = [], 0
    for width, out in itertools.pairwise(dims):
        weights = params[offset : offset + width * out].view(width, out)
        offset += width * out
        parts.append((weights, params[offset : offset + out]))
        offset += out
    return parts


def mlp(x: Tensor, params: Tensor, dims: Sequence[int]) -> Tensor:
    """Evaluate a ReLU network on rows (N, dims[0]); the last layer is linear."""
    parts = layers(params, dims)
    for i, (weights, bias) in enumerate(parts):
        x = torch.addmm(bias, x, weights)
        if i + 1 < len(parts):
            x = torch.relu(x)
    return x


def radiance_head(
    features: Tensor,
    directions: Tensor,
    density_params: Tensor,
    density_dims: Sequence[int],
    colour_params: Tensor,
    colour_dims: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Return raw density (N,) and raw colour (N, 3); see ``smerf.kernels.radiance_head``."""
    geometry = mlp(features, density_params, density_dims)
    samples = features.shape[0] // max(1, directions.shape[0])
    repeated = directions.detach().repeat_interleave(samples, 0)
    colour = mlp(torch.cat([geometry, repeated], -1), colour_params, colour_dims)
    return geometry[:, 0], colour
