"""The deferred appearance network of rays in plain PyTorch: the specification of the native kernels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["appearance", "encode_inputs", "vertex_shares"]


def encode_inputs(features: Tensor, directions: Tensor) -> Tensor:
    """Return the inputs (R, 41): features (R, 14), directions (R, 3), and sin, cos of 2^k d for k < 4."""
    scaled = torch.cat([directions * 2.0**k for k in range(4)], -1)
    return torch.cat([features, directions, torch.sin(scaled), torch.cos(scaled)], -1)


def vertex_shares(positions: Tensor, lattice: int) -> Tensor:
    """Return the weight of every vertex (R, P^3), in the order z, y, x, at positions (R, 3) in [-1, 1]^3."""
    where = ((positions + 1.0) / 2.0 * lattice - 0.5).clamp(-1.0, lattice)
    low = torch.floor(where)
    fraction = where - low
    bits = torch.tensor([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)], device=positions.device)
    vertices = (low[:, None] + bits).long().clamp(0, lattice - 1)
    weights = torch.where(bits.bool(), fraction[:, None], 1.0 - fraction[:, None]).prod(-1)
    x, y, z = vertices.unbind(-1)
    result = weights.new_zeros(len(positions), lattice**3)
    return result.scatter_add(1, (z * lattice + y) * lattice + x, weights)


def appearance(features: Tensor, directions: Tensor, positions: Tensor, params: Tensor, width: int) -> Tensor:
    """Return residual colours (R, 3); arguments are those of ``smerf.kernels.appearance``."""
    x = encode_inputs(features, directions)
    vertices, start = len(params), 0
    shares = vertex_shares(positions, round(vertices ** (1 / 3))) if vertices > 1 else None
    for i, out in enumerate((width, width, 3)):
        size = x.shape[1] * out
        kernels = params[:, start : start + size].view(vertices, -1, out)
        biases = params[:, start + size : start + size + out]
        start += size + out
        if shares is None:
            x = torch.addmm(biases[0], x, kernels[0])
        else:
            # A layer is linear in its parameters: mixing what the vertices' layers say mixes the parameters, and
            # no ray needs eight networks of its own in memory.
            said = (x @ kernels.transpose(0, 1).flatten(1)).view(len(x), vertices, out)
            x = torch.einsum("rv,rvo->ro", shares, said) + shares @ biases
        x = torch.nn.functional.elu(x) if i < 2 else torch.sigmoid(x)
    return x
