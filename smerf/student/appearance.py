"""The deferred appearance network: composited features and the view direction to a colour residual.

A lattice of P^3 networks per submodel; the parameters are interpolated by the ray's origin (SMERF, arXiv
2312.07541, section 4). Tensors are (K, P, P, P, in, out) and (K, P, P, P, out), lattice axes z, y, x
of training space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["AppearanceLattice", "encode_inputs"]

_FEATURES = 14
_INPUTS = 41


def encode_inputs(features: Tensor, directions: Tensor) -> Tensor:
    """Return the inputs (R, 41): features (R, 14), directions (R, 3), and sin, cos of 2^k d for k < 4."""
    scaled = torch.cat([directions * 2.0**k for k in range(4)], -1)
    return torch.cat([features, directions, torch.sin(scaled), torch.cos(scaled)], -1)


class AppearanceLattice(nn.Module):
    """41 -> width -> width -> 3 with ELU and a final sigmoid, at every lattice vertex."""

    def __init__(self, submodels: int, lattice: int, width: int, generator: torch.Generator) -> None:
        """Draw He-uniform weights, the same at every vertex; the last bias keeps the residual near zero."""
        super().__init__()
        self.lattice = lattice
        self.dims = (_INPUTS, width, width, 3)
        self.kernels, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (fan_in, out) in enumerate(zip(self.dims[:-1], self.dims[1:])):
            limit = (6.0 / fan_in) ** 0.5
            kernel = (torch.rand(fan_in, out, generator=generator) * 2.0 - 1.0) * limit
            bias = torch.full((out,), -3.0 if i == 2 else 0.0)
            grid = (submodels, lattice, lattice, lattice)
            self.kernels.append(nn.Parameter(kernel.expand(*grid, fan_in, out).clone()))
            self.biases.append(nn.Parameter(bias.expand(*grid, out).clone()))

    def _shares(self, positions: Tensor) -> Tensor:
        """Return the weight of every vertex (R, P^3), in the order z, y, x, at positions (R, 3) in [-1, 1]^3."""
        where = (positions + 1.0) / 2.0 * self.lattice - 0.5
        low = torch.floor(where)
        fraction = where - low
        bits = torch.tensor([[c >> 2 & 1, c >> 1 & 1, c & 1] for c in range(8)], device=positions.device)
        vertices = (low[:, None] + bits).long().clamp(0, self.lattice - 1)
        weights = torch.where(bits.bool(), fraction[:, None], 1.0 - fraction[:, None]).prod(-1)
        x, y, z = vertices.unbind(-1)
        result = weights.new_zeros(len(positions), self.lattice**3)
        return result.scatter_add(1, (z * self.lattice + y) * self.lattice + x, weights)

    def forward(self, features: Tensor, directions: Tensor, positions: Tensor, submodel: int) -> Tensor:
        """Return the residual colour (R, 3) in (0, 1).

        ``features`` (R, 14), unit ``directions`` (R, 3) in training axes, ray origins ``positions`` (R, 3)
        relative to the submodel's cell, in [-1, 1]^3.
        """
        x = encode_inputs(features, directions)
        shares = self._shares(positions) if self.lattice > 1 else None
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases)):
            if shares is None:
                x = torch.addmm(bias[submodel, 0, 0, 0], x, kernel[submodel, 0, 0, 0])
            else:
                # A layer is linear in its parameters: mixing what the vertices' layers say mixes the parameters,
                # and no ray needs eight networks of its own in memory.
                kernels = kernel[submodel].flatten(0, 2)
                said = x @ kernels.transpose(0, 1).flatten(1)
                said = said.view(len(x), len(kernels), -1)
                x = torch.einsum("rv,rvo->ro", shares, said) + shares @ bias[submodel].flatten(0, 2)
            x = torch.nn.functional.elu(x) if i < 2 else torch.sigmoid(x)
        return x

    def rows(self, submodel: int) -> Tensor:
        """Return a submodel's parameters (P^3, n), a lattice vertex a row: each layer's kernel, then its bias."""
        parts = []
        for kernel, bias in zip(self.kernels, self.biases):
            parts += [
                kernel[submodel].detach().flatten(0, 2).flatten(1),
                bias[submodel].detach().flatten(0, 2),
            ]
        return torch.cat(parts, -1)

    def add_gradient(self, submodel: int, rows: Tensor) -> None:
        """Add a gradient in the layout of ``rows`` to the parameters' own."""
        start = 0
        for kernel, bias in zip(self.kernels, self.biases):
            for parameter in (kernel, bias):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                size = parameter[submodel, 0, 0, 0].numel()
                parameter.grad[submodel] += rows[:, start : start + size].reshape(parameter[submodel].shape)
                start += size

    def roughness(self) -> Tensor:
        """Return the squared differences of neighbouring vertices' parameters, summed, by number of parameters.

        The mean over submodels of SMERF's total variation (section 6.7).
        """
        total, size = self.kernels[0].new_zeros(()), 0
        for parameter in (*self.kernels, *self.biases):
            size += parameter.numel()
            for axis in (1, 2, 3):
                total = total + parameter.diff(dim=axis).square().sum()
        return total / size

    def arrays(self) -> dict[str, Tensor]:
        """Return the parameters under the names of the asset format."""
        result = {}
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases)):
            result[f"ResampleDense_{i}/kernel"] = kernel.detach()
            result[f"ResampleDense_{i}/bias"] = bias.detach()
        return result
