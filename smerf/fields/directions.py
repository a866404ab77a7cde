"""Encodings of view directions."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import DIRECTION_WIDTHS, encode_directions
from smerf.kernels.reference import directions as reference

__all__ = ["SPHERICAL_WIDTH", "spherical_harmonics"]

SPHERICAL_WIDTH = DIRECTION_WIDTHS["spherical"]


def spherical_harmonics(directions: Tensor) -> Tensor:
    """Return the real spherical harmonics of degree 0 to 3 for unit directions (N, 3): (N, 16)."""
    if directions.dtype != torch.float32:
        return reference.spherical_harmonics(directions)
    return encode_directions(directions, "spherical")
