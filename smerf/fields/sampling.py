"""Drawing sample intervals along rays from a histogram.

Sources: Zip-NeRF (arXiv 2304.06706) and mip-NeRF 360 (arXiv 2111.12077). A histogram is a pair: ascending
edges s (R, N + 1) and non-negative weights w (R, N) that sum to at most 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import importance_sample

__all__ = ["halved", "resample", "uniform_edges"]


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


def halved(edges: Tensor) -> Tensor:
    """Return edges (R, 2 S + 1) with the middle of each of the intervals (R, S + 1) between its ends."""
    middle = 0.5 * (edges[:, 1:] + edges[:, :-1])
    return torch.cat([torch.stack([edges[:, :-1], middle], -1).flatten(1), edges[:, -1:]], -1)


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
    jitter = None
    if generator is not None:
        jitter = torch.rand(edges.shape[0], generator=generator).to(edges) - 0.5
    return importance_sample(edges.detach(), weights.detach(), samples, jitter, mix)
