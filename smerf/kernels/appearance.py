"""The deferred appearance network of rays, from a lattice of networks: checks, dispatch and gradients.

SMERF (arXiv 2312.07541, section 4). Letters: R rays, P vertices of the lattice an axis, n parameters of a network.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.reference import appearance as reference

__all__ = ["APPEARANCE_INPUTS", "APPEARANCE_WIDTHS", "appearance", "appearance_size"]

APPEARANCE_INPUTS = 41
"""Inputs of the appearance network: 14 features, the direction, and its four octaves."""
APPEARANCE_WIDTHS = (8, 16, 32, 64)
"""Hidden widths that there are kernels for."""
_FEATURES = 14


def appearance_size(width: int) -> int:
    """Return the number of parameters of one appearance network of a hidden width."""
    return APPEARANCE_INPUTS * width + width + width * width + width + 3 * width + 3


def appearance(features: Tensor, directions: Tensor, positions: Tensor, params: Tensor, width: int) -> Tensor:
    """Return what the appearance network of each ray's place makes of its features: the residual colour.

    The networks are 41 -> width -> width -> 3 with ELU and a final sigmoid; a ray's parameters are interpolated
    between the eight vertices around its position, and beyond the outermost vertices are theirs.

    Args:
        features: (R, 14) float32 as the network reads them: over the background, exposed.
        directions: Unit view directions (R, 3) in training axes.
        positions: Ray origins (R, 3) relative to the lattice's cell, in [-1, 1]^3.
        params: Networks of the P^3 vertices (z slowest), a row each (P^3, n): each layer's kernel (in, out), then
            its bias.
        width: Hidden width. Those of ``APPEARANCE_WIDTHS`` have a kernel for float32, others and float64 are
            left to the PyTorch reference.

    Returns:
        (R, 3) in (0, 1). Gradients flow to ``features`` and ``params`` and, through the reference, to
        ``directions`` and ``positions`` where they require them.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    dtype = torch.float64 if features.dtype == torch.float64 else torch.float32
    lattice = round(len(params) ** (1 / 3))
    native.check("features", features, dtype, (None, _FEATURES))
    native.check("directions", directions, dtype, (len(features), 3), features.device)
    native.check("positions", positions, dtype, (len(features), 3), features.device)
    native.check("params", params, dtype, (max(1, lattice) ** 3, appearance_size(width)), features.device)
    needs_rays = torch.is_grad_enabled() and (directions.requires_grad or positions.requires_grad)
    backend = native.backend(features, "smerf_appearance_forward")
    if backend is None or needs_rays or dtype == torch.float64 or width not in APPEARANCE_WIDTHS:
        return reference.appearance(features, directions, positions, params, width)
    constant = (a.detach().contiguous() for a in (directions, positions))
    return _Appearance.apply(features.contiguous(), *constant, params.contiguous(), width, backend)


def _records(
    features: Tensor, directions: Tensor, positions: Tensor, params: Tensor, width: int
) -> tuple[ctypes.Structure, ctypes.Structure]:
    """Return the kernels' ``AppearanceRays`` and ``AppearanceNetworks``."""
    rays = abi.record(
        "AppearanceRays", features=features, directions=directions, positions=positions, rays=len(features)
    )
    lattice = round(len(params) ** (1 / 3))
    return rays, abi.record("AppearanceNetworks", params=params, lattice=lattice, width=width)


class _Appearance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        directions: Tensor,
        positions: Tensor,
        params: Tensor,
        width: int,
        backend: native.Backend,
    ) -> Any:
        colour = features.new_empty(len(features), 3)
        rays, networks = _records(features, directions, positions, params, width)
        backend.call("smerf_appearance_forward", rays, networks, colour)
        ctx.save_for_backward(features, directions, positions, params)
        ctx.width, ctx.backend = width, backend
        return colour

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        features, directions, positions, params = ctx.saved_tensors
        grad_features, grad_params = torch.empty_like(features), torch.zeros_like(params)
        rays, networks = _records(features, directions, positions, params, ctx.width)
        upstream = upstream.contiguous()
        ctx.backend.call(
            "smerf_appearance_backward", rays, networks, upstream,
            grad_params, grad_features,
        )  # fmt: skip
        return grad_features, None, None, grad_params, None, None
