"""Importance sampling in plain PyTorch: the specification of the native kernel. Letters: R rays, S samples."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["importance_sample"]


def importance_sample(
    edges: Tensor, weights: Tensor, samples: int, jitter: Tensor | None, mix: float
) -> Tensor:
    """Return drawn edges (R, S + 1); see ``smerf.kernels.importance_sample``."""
    widths = edges[:, 1:] - edges[:, :-1]
    total = weights.sum(-1, keepdim=True)
    pdf = (1.0 - mix) * weights / total.clamp_min(1e-8) + (mix + (total < 1e-8) * 1.0) * widths
    cdf = torch.cumsum(pdf, -1)
    cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf / cdf[:, -1:]], -1)
    u = (torch.arange(samples, dtype=edges.dtype, device=edges.device) + 0.5) / samples
    u = u.expand(edges.shape[0], -1)
    if jitter is not None:
        u = u + jitter[:, None] / samples
    u = u.clamp(1e-6, 1.0 - 1e-6).contiguous()
    index = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[-1] - 1)
    low, high = cdf.gather(-1, index - 1), cdf.gather(-1, index)
    start, end = edges.gather(-1, index - 1), edges.gather(-1, index)
    centres = start + (u - low) / (high - low).clamp_min(1e-9) * (end - start)
    inner = 0.5 * (centres[:, 1:] + centres[:, :-1])
    first = 2.0 * centres[:, :1] - inner[:, :1] if samples > 1 else edges[:, :1]
    last = 2.0 * centres[:, -1:] - inner[:, -1:] if samples > 1 else edges[:, -1:]
    return torch.cat([first, inner, last], -1).clamp(0.0, 1.0)
