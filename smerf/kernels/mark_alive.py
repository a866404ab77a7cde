"""Which cells of a submodel anybody sees: the face of ``cuda/include/smerf/mark_alive.h``."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import abi, native
from smerf.kernels.reference import mark_alive as reference
from smerf.kernels.types import GridSpec

__all__ = ["mark_alive_"]


def mark_alive_(
    seen: Tensor,
    solid: Tensor,
    spec: GridSpec,
    origins: Tensor,
    directions: Tensor,
    edges: Tensor,
    weights: Tensor,
    least: float,
    least_solid: float,
) -> None:
    """Mark in place the cells of rendered samples, at the point where the grids were read.

    Args:
        seen: (C, C, C) bool, cells of contracted space on viewer axes; set where a sample weighs more than ``least``.
        solid: (C, C, C) bool; set where it weighs more than ``least_solid`` as well.
        spec: The submodel's place.
        origins: (R, 3) float32, training space.
        directions: Unit directions (R, 3).
        edges: Metric interval ends (R, S + 1).
        weights: (R, S).
        least: Weight of a sample that is seen.
        least_solid: Weight of a sample of a surface.

    Raises:
        ValueError: If a shape, dtype or device is not as stated.
    """
    rays, samples = weights.shape
    cells = seen.shape[0]
    for name, tensor, dtype, shape in (
        ("seen", seen, torch.bool, (cells, cells, cells)),
        ("solid", solid, torch.bool, (cells, cells, cells)),
        ("origins", origins, torch.float32, (rays, 3)),
        ("directions", directions, torch.float32, (rays, 3)),
        ("edges", edges, torch.float32, (rays, samples + 1)),
        ("weights", weights, torch.float32, (rays, samples)),
    ):
        native.check(name, tensor, dtype, shape, weights.device)
    if not (seen.is_contiguous() and solid.is_contiguous()):
        raise ValueError("seen, solid: expected contiguous tensors")
    backend = native.backend(weights, "smerf_mark_alive")
    if backend is None:
        reference.mark_alive_(seen, solid, spec, origins, directions, edges, weights, least, least_solid)
        return
    grid = abi.record(
        "AliveGrid", centre=spec.centre, scale=spec.scale, cells=cells, seen=least, solid=least_solid
    )
    parts = [tensor.contiguous() for tensor in (origins, directions, edges, weights)]
    backend.call(
        "smerf_mark_alive", grid, *parts, rays, samples,
        seen, solid,
    )  # fmt: skip
