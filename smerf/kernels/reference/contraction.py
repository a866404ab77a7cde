"""MERF's contraction of space in plain PyTorch (arXiv 2302.12249, section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["contract", "contraction_scale", "contraction_speed", "uncontract"]


def _largest(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return max |x| (..., 1) and a mask of the largest component (ties: the first of x, y, z)."""
    magnitude = x.abs()
    largest = magnitude.amax(-1, keepdim=True)
    is_largest = magnitude == largest
    first = is_largest & (is_largest.long().cumsum(-1) == 1)
    return largest, first


def contract(x: Tensor) -> Tensor:
    """Map points (..., 3) into (-2, 2)^3: identity in the unit cube, projective in six pyramids outside."""
    largest, first = _largest(x)
    m = largest.clamp_min(1.0)
    return torch.where(first & (m > 1.0), (x / m) * (2.0 - 1.0 / m), x / m)


def uncontract(y: Tensor) -> Tensor:
    """Invert ``contract`` for points (..., 3) in (-2, 2)^3."""
    largest, first = _largest(y)
    scale = 1.0 / (2.0 - largest).clamp_min(1e-6)
    outside = torch.where(first, torch.sign(y) * scale, y * scale)
    return torch.where(largest > 1.0, outside, y)


def contraction_scale(x: Tensor) -> Tensor:
    """Return the cube root of the Jacobian determinant at points (..., 3): (...,)."""
    return x.abs().amax(-1).clamp_min(1.0) ** (-4.0 / 3.0)


def contraction_speed(x: Tensor, d: Tensor) -> Tensor:
    """Return |J(x) d| for points and directions (..., 3): contracted distance per unit step along d."""
    largest, first = _largest(x)
    m = largest.clamp_min(1.0)
    along = (d * first).sum(-1, keepdim=True)
    sign = torch.where((x * first).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    outside = torch.where(first, d / m**2, d / m - sign * along * x / m**2)
    return torch.where(largest > 1.0, outside, d).norm(dim=-1)
