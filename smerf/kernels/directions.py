"""Encodings of view directions: checks, dispatch and gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import directions as reference
from smerf.kernels.types import DIRECTION_WIDTHS

__all__ = ["encode_directions"]

_REFERENCE = {"spherical": reference.spherical_harmonics, "sinusoidal": reference.sinusoids}


def encode_directions(directions: Tensor, kind: str = "spherical") -> Tensor:
    """Encode unit directions.

    Args:
        directions: Unit vectors (N, 3) float32.
        kind: ``spherical``: real spherical harmonics of degree 0 to 3. ``sinusoidal``: the direction, and sine
            and cosine of it at the frequencies 1, 2, 4, 8.

    Returns:
        (N, 16) or (N, 27). Gradients flow to ``directions``.

    Raises:
        ValueError: If the shape, dtype or kind is not as stated.
    """
    native.check("directions", directions, torch.float32, (None, 3))
    if kind not in DIRECTION_WIDTHS:
        raise ValueError(f"kind: expected one of {', '.join(DIRECTION_WIDTHS)}, got {kind!r}")
    backend = native.backend(directions, "smerf_encode_directions_forward")
    if backend is None:
        return _REFERENCE[kind](directions)
    return _EncodeDirections.apply(directions.contiguous(), kind, backend)


class _EncodeDirections(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, directions: Tensor, kind: str, backend: native.Backend) -> Any:
        out = directions.new_empty(directions.shape[0], DIRECTION_WIDTHS[kind])
        ctx.save_for_backward(directions)
        ctx.number, ctx.backend = list(DIRECTION_WIDTHS).index(kind), backend
        backend.call(
            "smerf_encode_directions_forward", ctx.number, directions,
            directions.shape[0], out,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        (directions,) = ctx.saved_tensors
        gradient, upstream = torch.empty_like(directions), upstream.contiguous()
        ctx.backend.call(
            "smerf_encode_directions_backward", ctx.number, directions,
            directions.shape[0], upstream, gradient,
        )  # fmt: skip
        return gradient, None, None
