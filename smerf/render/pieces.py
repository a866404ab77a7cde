"""The straight pieces of rays in the seven regions of the contraction, in plain PyTorch.

Letters: R rays. ``t`` is the ray parameter in space. Source: MERF (arXiv 2302.12249), section 4.3.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from smerf.kernels.reference.contraction import contract

__all__ = ["box_span", "enter_region", "region_exits"]

_FAR = 1e4
"""The outer regions end at 2 - 1e-4 in contracted space."""


@functools.cache
def _region_planes() -> tuple[Tensor, Tensor]:
    """Half-spaces ``n . x + c >= 0`` of the seven regions: (7, 6, 3) and (7, 6). Every region is convex."""
    normals, offsets = torch.zeros(7, 6, 3), torch.zeros(7, 6)
    for axis in range(3):
        for sign in range(2):
            normals[0, 2 * axis + sign, axis] = 1.0 - 2.0 * sign
            offsets[0, 2 * axis + sign] = 1.0
            region = 1 + 2 * axis + sign
            outward = 1.0 - 2.0 * sign
            normals[region, :, axis] = outward
            normals[region, 1] *= -1.0
            offsets[region, 0], offsets[region, 1] = -1.0, _FAR
            for i, other in enumerate(a for a in range(3) if a != axis):
                normals[region, 2 + 2 * i, other] = 1.0
                normals[region, 3 + 2 * i, other] = -1.0
    return normals, offsets


def region_exits(origins: Tensor, directions: Tensor, near: float) -> Tensor:
    """Return the t > near at which rays (R, 3) leave a region, ascending, padded with inf: (R, 7)."""
    normals, offsets = _region_planes()
    a = origins @ normals.view(-1, 3).T + offsets.view(-1)
    b = directions @ normals.view(-1, 3).T
    t = -a / b
    enter = torch.where(b > 0, t, -math.inf).view(-1, 7, 6).amax(-1)
    leave = torch.where(b < 0, t, math.inf).view(-1, 7, 6).amin(-1)
    outside = ((b == 0) & (a < 0)).view(-1, 7, 6).any(-1)
    is_crossed = (leave > enter) & (leave > near * 1.000001) & ~outside
    return torch.where(is_crossed, leave, math.inf).sort(-1).values


def enter_region(
    origins: Tensor, directions: Tensor, t_first: Tensor, t_second: Tensor
) -> tuple[Tensor, ...]:
    """Set up the straight piece of rays (R, 3) in the region that holds both parameters (R,).

    Returns its contracted origin (at ``t_first``) and unit direction, and where it enters and leaves the
    region.
    """
    x = origins + t_first[:, None] * directions
    start = contract(x)
    piece = contract(origins + t_second[:, None] * directions) - start
    direction = piece / piece.norm(dim=-1, keepdim=True)
    largest = x.abs().amax(-1, keepdim=True)
    is_outer = (largest > 1.0) & (x.abs() == largest)
    is_outer = is_outer & (is_outer.long().cumsum(-1) == 1)
    low = torch.where(is_outer, torch.where(x > 0, 1.0, -2.0), -1.0)
    high = torch.where(is_outer, torch.where(x > 0, 2.0, -1.0), 1.0)
    enter, leave = box_span(low, high, start, direction)
    return start, direction, enter, leave


def box_span(low: Tensor, high: Tensor, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Return where lines (R, 3) enter and leave boxes (R, 3)."""
    # A component of exactly 0 on a cell border would give 0 * inf.
    tiny = torch.copysign(torch.full_like(direction, 1e-9), direction)
    inverse = 1.0 / torch.where(direction.abs() < 1e-9, tiny, direction)
    a, b = (low - origin) * inverse, (high - origin) * inverse
    return torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
