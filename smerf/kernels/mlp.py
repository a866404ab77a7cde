"""Small ReLU networks: checks, dispatch and gradients.

Parameters are one flat float32 vector: for each layer the weights (in, out) row-major, then the bias (out). On
a GPU the native kernels multiply on tensor cores in TF32 (10 bits of mantissa, sums in float32). Networks too
large for them are left to PyTorch, and ``SMERF_MLP=float32`` leaves all to it, in its own precision.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.records import layer_widths
from smerf.kernels.reference import mlp as reference

__all__ = ["initial_params", "mlp", "param_count", "radiance_head"]


def param_count(dims: Sequence[int]) -> int:
    """Return the number of parameters of a network with these layer widths."""
    return sum(width * out + out for width, out in itertools.pairwise(dims))


def initial_params(dims: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw He-uniform weights and zero biases as one flat vector."""
    parts = []
    for width, out in itertools.pairwise(dims):
        limit = (6.0 / width) ** 0.5
        parts.append((torch.rand(width * out, generator=generator) * 2.0 - 1.0) * limit)
        parts.append(torch.zeros(out))
    return torch.cat(parts)


def _scratch(backend: native.Backend, dims: Sequence[int], colour: Sequence[int], rows: int) -> int:
    """Return the floats of scratch memory that CUDA's backward pass needs; -1 if the networks are too large."""
    count = backend.query(
        "smerf_mlp_scratch",
        layer_widths(dims),
        len(dims) - 1,
        layer_widths(colour),
        max(0, len(colour) - 1),
        rows,
    )
    return int(count)


def _scratch_of(
    backend: native.Backend, x: Tensor, dims: Sequence[int], colour: Sequence[int]
) -> Tensor | None:
    """Return the scratch memory of CUDA's backward pass; the CPU's takes none."""
    if backend.kind == "cpu":
        return None
    return x.new_empty(max(1, _scratch(backend, dims, colour, x.shape[0])))


def _backend(x: Tensor, dims: Sequence[int], colour: Sequence[int] = ()) -> native.Backend | None:
    """Return what evaluates the networks, or None for the reference."""
    backend = native.backend(x, "smerf_mlp_forward")
    if backend is None or backend.kind == "cpu":
        return backend
    if os.environ.get("SMERF_MLP") == "float32":
        return None
    # Asking costs little next to a launch, and the answer depends on the device.
    return backend if _scratch(backend, dims, colour, 1) >= 0 else None


def mlp(x: Tensor, params: Tensor, dims: Sequence[int]) -> Tensor:
    """Evaluate a ReLU network with a linear last layer.

    Args:
        x: Rows (N, dims[0]) float32.
        params: Flat parameters (param_count(dims),) float32.
        dims: Layer widths, input first.

    Returns:
        (N, dims[-1]). Gradients flow to ``x`` and ``params``.

    Raises:
        ValueError: If a shape or dtype is not as stated.
    """
    if len(dims) < 2:
        raise ValueError(f"dims: expected at least an input and an output width, got {tuple(dims)}")
    native.check("x", x, torch.float32, (None, dims[0]))
    native.check("params", params, torch.float32, (param_count(dims),), x.device)
    backend = _backend(x, dims)
    if backend is None:
        return reference.mlp(x, params, dims)
    return _Mlp.apply(x.contiguous(), params.contiguous(), tuple(dims), backend)


class _Mlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, params: Tensor, dims: tuple[int, ...], backend: native.Backend) -> Any:
        out = x.new_empty(x.shape[0], dims[-1])
        backend.call(
            "smerf_mlp_forward", layer_widths(dims), len(dims) - 1, params, x,
            x.shape[0], out,
        )  # fmt: skip
        ctx.save_for_backward(x, params)
        ctx.dims, ctx.backend = dims, backend
        return out

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        x, params = ctx.saved_tensors
        grad_params = torch.zeros_like(params)
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        upstream = upstream.contiguous()
        scratch = _scratch_of(ctx.backend, x, ctx.dims, ())
        ctx.backend.call(
            "smerf_mlp_backward", layer_widths(ctx.dims), len(ctx.dims) - 1, params,
            x, x.shape[0], upstream,
            grad_params, grad_x, scratch,
        )  # fmt: skip
        return grad_x, grad_params, None, None


def radiance_head(
    features: Tensor,
    directions: Tensor,
    density_params: Tensor,
    density_dims: Sequence[int],
    colour_params: Tensor,
    colour_dims: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Evaluate a density net, then a colour net that reads its outputs and the ray's direction encoding.

    Args:
        features: Encoded samples (R * S, density_dims[0]) float32, the S samples of a ray in a row.
        directions: Per-ray inputs of the colour net (R, D) float32, constant for the gradient.
        density_params: Flat parameters of the density net.
        density_dims: Its widths; output 0 is the raw density.
        colour_params: Flat parameters of the colour net.
        colour_dims: Its widths; ``colour_dims[0] == density_dims[-1] + D`` and ``colour_dims[-1] == 3``.

    Returns:
        Raw density (R * S,) and raw colour (R * S, 3). Gradients flow to ``features`` and the parameters.

    Raises:
        ValueError: If a shape or dtype is not as stated.
    """
    native.check("features", features, torch.float32, (None, density_dims[0]))
    device, extra = features.device, colour_dims[0] - density_dims[-1]
    native.check("directions", directions, torch.float32, (None, extra), device)
    native.check("density_params", density_params, torch.float32, (param_count(density_dims),), device)
    native.check("colour_params", colour_params, torch.float32, (param_count(colour_dims),), device)
    if colour_dims[-1] != 3:
        raise ValueError(f"colour_dims: expected three outputs, got {colour_dims[-1]}")
    rays = max(1, directions.shape[0])
    if features.shape[0] % rays or (features.shape[0] and not directions.shape[0]):
        raise ValueError(
            f"features: expected a multiple of {rays} rows (one block a ray), got {features.shape[0]}"
        )
    args = (features, directions, density_params, tuple(density_dims), colour_params, tuple(colour_dims))
    backend = _backend(features, density_dims, colour_dims)
    if backend is None:
        return reference.radiance_head(*args)
    tensors = (arg.contiguous() if isinstance(arg, Tensor) else arg for arg in args)
    return _RadianceHead.apply(*tensors, backend)


class _RadianceHead(torch.autograd.Function):
    @staticmethod
    def _common(
        features: Tensor,
        directions: Tensor,
        density_params: Tensor,
        density_dims: tuple[int, ...],
        colour_params: Tensor,
        colour_dims: tuple[int, ...],
    ) -> tuple[Any, ...]:
        rows = features.shape[0]
        samples = max(1, rows // max(1, directions.shape[0]))
        return (
            layer_widths(density_dims), len(density_dims) - 1, density_params,
            layer_widths(colour_dims), len(colour_dims) - 1, colour_params,
            features, directions, samples, rows,
        )  # fmt: skip

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        directions: Tensor,
        density_params: Tensor,
        density_dims: tuple[int, ...],
        colour_params: Tensor,
        colour_dims: tuple[int, ...],
        backend: native.Backend,
    ) -> Any:
        rows = features.shape[0]
        density, colour = features.new_empty(rows), features.new_empty(rows, 3)
        common = _RadianceHead._common(
            features, directions, density_params, density_dims, colour_params, colour_dims
        )
        backend.call("smerf_radiance_head_forward", *common, density, colour)
        ctx.save_for_backward(features, directions, density_params, colour_params)
        ctx.dims, ctx.backend = (density_dims, colour_dims), backend
        return density, colour

    @staticmethod
    def backward(ctx: Any, up_density: Tensor, up_colour: Tensor) -> Any:
        features, directions, density_params, colour_params = ctx.saved_tensors
        density_dims, colour_dims = ctx.dims
        up_density, up_colour = up_density.contiguous(), up_colour.contiguous()
        grads = [
            torch.zeros_like(density_params),
            torch.zeros_like(colour_params),
            torch.empty_like(features),
        ]
        common = _RadianceHead._common(
            features, directions, density_params, density_dims, colour_params, colour_dims
        )
        scratch = _scratch_of(ctx.backend, features, density_dims, colour_dims)
        ctx.backend.call(
            "smerf_radiance_head_backward",
            *common,
            up_density,
            up_colour,
            *grads,
            scratch,
        )
        return grads[2], None, grads[0], None, grads[1], None, None
