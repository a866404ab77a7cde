"""The deferred appearance network: composited features and the view direction to a colour residual.

A lattice of P^3 networks; the parameters are interpolated by the ray's origin (SMERF, arXiv 2312.07541,
section 4). Tensors are (P, P, P, in, out) and (P, P, P, out), lattice axes z, y, x of training space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from smerf.kernels.appearance import APPEARANCE_INPUTS, appearance

__all__ = ["AppearanceLattice", "expose"]

_MIN_FEATURE = 1e-7


def expose(features: Tensor, log_exposure: Tensor | float) -> Tensor:
    """Return what a network reads in place of composited features (R, 14): logit(feature) + log E, (R, 1) or one.

    The diffuse colour that is added to the network's residual is not exposed (SMERF, section 4.3).
    """
    return torch.logit(features.clamp(_MIN_FEATURE, 1.0 - _MIN_FEATURE)) + log_exposure


class AppearanceLattice(nn.Module):
    """41 -> width -> width -> 3 with ELU and a final sigmoid, at every lattice vertex."""

    def __init__(self, lattice: int, width: int, generator: torch.Generator) -> None:
        """Sample He-uniform weights, the same at every vertex; the last bias keeps the residual near zero."""
        super().__init__()
        self.lattice = lattice
        self.dims = (APPEARANCE_INPUTS, width, width, 3)
        self.kernels, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (fan_in, out) in enumerate(zip(self.dims[:-1], self.dims[1:])):
            limit = (6.0 / fan_in) ** 0.5
            kernel = (torch.rand(fan_in, out, generator=generator) * 2.0 - 1.0) * limit
            bias = torch.full((out,), -3.0 if i == 2 else 0.0)
            vertices = (lattice, lattice, lattice)
            self.kernels.append(nn.Parameter(kernel.expand(*vertices, fan_in, out).clone()))
            self.biases.append(nn.Parameter(bias.expand(*vertices, out).clone()))

    def forward(self, features: Tensor, directions: Tensor, positions: Tensor) -> Tensor:
        """Return the residual colour (R, 3) in (0, 1).

        ``features`` (R, 14), unit ``directions`` (R, 3) in training axes, ray origins ``positions`` (R, 3)
        relative to the submodel's cell, in [-1, 1]^3.
        """
        return appearance(features, directions, positions, self.rows(), self.dims[1])

    def rows(self) -> Tensor:
        """Return the parameters (P^3, n), a lattice vertex a row: each layer's kernel, then its bias.

        Gradients flow to the parameters.
        """
        parts = []
        for kernel, bias in zip(self.kernels, self.biases):
            parts += [kernel.flatten(0, 2).flatten(1), bias.flatten(0, 2)]
        return torch.cat(parts, -1)

    def add_gradient(self, rows: Tensor) -> None:
        """Add a gradient in the layout of ``rows`` to the parameters' own."""
        start = 0
        for kernel, bias in zip(self.kernels, self.biases):
            for parameter in (kernel, bias):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                size = parameter[0, 0, 0].numel()
                parameter.grad += rows[:, start : start + size].reshape(parameter.shape)
                start += size

    def roughness(self) -> Tensor:
        """Return the squared differences of neighbouring vertices' parameters, summed, by number of parameters.

        SMERF's total variation (section 6.7).
        """
        total, size = self.kernels[0].new_zeros(()), 0
        for parameter in (*self.kernels, *self.biases):
            size += parameter.numel()
            for axis in (0, 1, 2):
                total = total + parameter.diff(dim=axis).square().sum()
        return total / size

    def arrays(self) -> dict[str, Tensor]:
        """Return the parameters under the names of the asset format."""
        result = {}
        for i, (kernel, bias) in enumerate(zip(self.kernels, self.biases)):
            result[f"ResampleDense_{i}/kernel"] = kernel.detach()
            result[f"ResampleDense_{i}/bias"] = bias.detach()
        return result
