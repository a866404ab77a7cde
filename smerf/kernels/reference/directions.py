"""Encodings of view directions in plain PyTorch: the specification of the native kernels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sinusoids", "spherical_harmonics"]


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Return the real spherical harmonics of degree 0 to 3 for unit directions (N, 3): (N, 16)."""
    x, y, z = directions.unbind(-1)
    xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
    return torch.stack(
        [
            torch.full_like(x, 0.28209479),
            -0.48860251 * y,
            0.48860251 * z,
            -0.48860251 * x,
            1.09254843 * xy,
            -1.09254843 * yz,
            0.94617470 * zz - 0.31539157,
            -1.09254843 * xz,
            0.54627421 * (xx - yy),
            0.59004359 * y * (yy - 3.0 * xx),
            2.89061144 * xy * z,
            0.45704580 * y * (1.0 - 5.0 * zz),
            0.37317633 * z * (5.0 * zz - 3.0),
            0.45704580 * x * (1.0 - 5.0 * zz),
            1.44530572 * z * (xx - yy),
            0.59004359 * x * (3.0 * yy - xx),
        ],
        -1,
    )


def sinusoids(directions: Tensor) -> Tensor:
    """Return directions (N, 3) with sine and cosine of them at the frequencies 1, 2, 4, 8: (N, 27)."""
    parts = [directions]
    for power in range(4):
        angles = directions * 2.0**power
        parts += [torch.sin(angles), torch.cos(angles)]
    return torch.cat(parts, -1)
