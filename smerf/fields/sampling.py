"""Drawing sample intervals along rays from a histogram.

Sources: Zip-NeRF (arXiv 2304.06706) and mip-NeRF 360 (arXiv 2111.12077). A histogram is a pair: ascending
edges s (R, N + 1) and non-negative weights w (R, N) that sum to at most 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["resample", "uniform_edges"]


def uniform_edges(rays: int, samples: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Return edges (rays, samples + 1) that divide [0, 1] evenly; the inner ones shifted randomly if asked.

    With a ``generator``, one offset a ray within half an interval.
    """
    edges = torch.linspace(0.0, 1.0, samples + 1, dtype=like.dtype, device=like.device).expand(rays, -1)
    if generator is None:
        return edges.contiguous()
    shift = (torch.rand(rays, 1, generator=generator).to(like) - 0.5) / samples
    inner = edges[:, 1:-1] + shift
    return torch.cat([edges[:, :1], inner, edges[:, -1:]], -1)


def resample(
    edges: Tensor, weights: Tensor, samples: int, generator: torch.Generator | None, mix: float
) -> Tensor:
    """Draw new edges by the inverse of the histogram's cumulative distribution.

    Args:
        edges: Histogram edges (R, N + 1).
        weights: Histogram weights (R, N).
        samples: Intervals to draw.
        generator: One jitter a ray if given, bin centres otherwise.
        mix: Share of the probability that is spread evenly over s, in [0, 1].

    Returns:
        Ascending edges (R, samples + 1) in [0, 1], without gradient: centres are drawn, edges are the
        midpoints between them, and the ends are reflected.
    """
    with torch.no_grad():
        widths = edges[:, 1:] - edges[:, :-1]
        total = weights.sum(-1, keepdim=True)
        pdf = (1.0 - mix) * weights / total.clamp_min(1e-8) + (mix + (total < 1e-8) * 1.0) * widths
        cdf = torch.cumsum(pdf, -1)
        cdf = torch.cat([torch.zeros_like(cdf[:, :1]), cdf / cdf[:, -1:]], -1)
        u = (torch.arange(samples, dtype=edges.dtype, device=edges.device) + 0.5) / samples
        u = u.expand(edges.shape[0], -1)
        if generator is not None:
            u = u + (torch.rand(edges.shape[0], 1, generator=generator).to(edges) - 0.5) / samples
        u = u.clamp(1e-6, 1.0 - 1e-6).contiguous()
        index = torch.searchsorted(cdf, u, right=True).clamp(1, cdf.shape[-1] - 1)
        low, high = cdf.gather(-1, index - 1), cdf.gather(-1, index)
        start, end = edges.gather(-1, index - 1), edges.gather(-1, index)
        centres = start + (u - low) / (high - low).clamp_min(1e-9) * (end - start)
        inner = 0.5 * (centres[:, 1:] + centres[:, :-1])
        first = 2.0 * centres[:, :1] - inner[:, :1] if samples > 1 else edges[:, :1]
        last = 2.0 * centres[:, -1:] - inner[:, -1:] if samples > 1 else edges[:, -1:]
        return torch.cat([first, inner, last], -1).clamp(0.0, 1.0)
