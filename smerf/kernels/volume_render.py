"""Volume rendering along rays: checks, dispatch and gradients. Letters: R rays, S samples."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import volume_render as reference

__all__ = ["Rendering", "volume_render"]


class Rendering(NamedTuple):
    """What rays see.

    ``weights`` (R, S), ``colour`` (R, 3) over black, ``opacity`` (R,), expected ``depth`` (R,) (not divided by
    the opacity), and ``distortion`` (R,).
    """

    weights: Tensor
    colour: Tensor
    opacity: Tensor
    depth: Tensor
    distortion: Tensor


def volume_render(
    density: Tensor, edges: Tensor, colour: Tensor | None = None, coordinates: Tensor | None = None
) -> Rendering:
    """Composite samples along rays, and measure how far their weights are spread.

    Args:
        density: (R, S) float32, per unit of ``edges``, not negative.
        edges: Ascending distances (R, S + 1) float32; intervals without length weigh nothing.
        colour: Colours (R, S, 3) float32, or None for black.
        coordinates: Ascending coordinates (R, S + 1) float32 over which the distortion is measured
            (mip-NeRF 360, arXiv 2111.12077, equation 15), or None for a distortion of 0.

    Returns:
        The rendering. Gradients flow from every part of it to ``density`` and ``colour``.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    native.check("density", density, torch.float32, (None, None))
    rays, samples = density.shape
    native.check("edges", edges, torch.float32, (rays, samples + 1))
    if colour is not None:
        native.check("colour", colour, torch.float32, (rays, samples, 3))
    if coordinates is not None:
        native.check("coordinates", coordinates, torch.float32, (rays, samples + 1))
    native.check_device(density=density, edges=edges, colour=colour, coordinates=coordinates)
    backend = native.backend(density, "smerf_volume_render_forward")
    if backend is None:
        weights, image = reference.volume_render(density, edges, colour, coordinates)
    else:
        optional = (None if a is None else a.contiguous() for a in (colour, coordinates))
        weights, image = _VolumeRender.apply(
            density.contiguous(), edges.detach().contiguous(), *optional, backend
        )
    return Rendering(weights, image[:, :3], image[:, 3], image[:, 4], image[:, 5])


class _VolumeRender(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        density: Tensor,
        edges: Tensor,
        colour: Tensor | None,
        coordinates: Tensor | None,
        backend: native.Backend,
    ) -> Any:
        rays, samples = density.shape
        weights, image = torch.empty_like(density), density.new_empty(rays, 6)
        backend.call(
            "smerf_volume_render_forward", density, edges, colour,
            coordinates, rays, samples, weights,
            image,
        )  # fmt: skip
        ctx.save_for_backward(density, edges, colour, coordinates, weights)
        ctx.set_materialize_grads(False)
        ctx.backend = backend
        return weights, image

    @staticmethod
    def backward(ctx: Any, up_weights: Tensor | None, up_image: Tensor | None) -> Any:
        density, edges, colour, coordinates, weights = ctx.saved_tensors
        rays, samples = density.shape
        up_image = density.new_zeros(rays, 6) if up_image is None else up_image.contiguous()
        up_weights = None if up_weights is None else up_weights.contiguous()
        grad_density = torch.empty_like(density)
        grad_colour = torch.empty_like(colour) if ctx.needs_input_grad[2] else None
        ctx.backend.call(
            "smerf_volume_render_backward", density, edges, colour,
            coordinates, rays, samples, weights,
            up_image, up_weights, grad_density,
            grad_colour,
        )  # fmt: skip
        return grad_density, None, grad_colour, None, None
