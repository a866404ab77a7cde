"""Structural similarity of small patches of rays (SMERF, arXiv 2312.07541, section 6.4)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["patch_dissimilarity"]

_C1, _C2 = 0.01**2, 0.03**2


def patch_dissimilarity(ours: Tensor, theirs: Tensor, pixels: int) -> Tensor:
    """Return the mean of (1 - SSIM) / 2 over patches: one box window a patch, channels averaged.

    Args:
        ours: Colours (P * pixels, 3), the pixels of a patch in a row; gradients flow to them.
        theirs: The colours to compare with, of the same shape.
        pixels: Rays a patch.
    """
    a, b = ours.view(-1, pixels, 3), theirs.view(-1, pixels, 3)
    mean_a, mean_b = a.mean(1), b.mean(1)
    variance_a = (a.square().mean(1) - mean_a.square()).clamp_min(0.0)
    variance_b = (b.square().mean(1) - mean_b.square()).clamp_min(0.0)
    covariance = (a * b).mean(1) - mean_a * mean_b
    # Rounding may break Cauchy's inequality.
    limit = (variance_a * variance_b + 1e-12).sqrt()
    covariance = torch.minimum(torch.maximum(covariance, -limit), limit)
    light = (2.0 * mean_a * mean_b + _C1) / (mean_a.square() + mean_b.square() + _C1)
    structure = (2.0 * covariance + _C2) / (variance_a + variance_b + _C2)
    return 0.5 * (1.0 - light * structure).mean()
