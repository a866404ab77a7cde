"""Drawing intervals along rays from a histogram: checks and dispatch. Letters: R rays, N bins, S samples."""

from __future__ import annotations

import torch
from torch import Tensor

from smerf.kernels import native
from smerf.kernels.reference import importance_sample as reference

__all__ = ["importance_sample"]


@torch.no_grad()
def importance_sample(
    edges: Tensor, weights: Tensor, samples: int, jitter: Tensor | None = None, mix: float = 0.0
) -> Tensor:
    """Draw intervals by the inverse of a histogram's cumulative distribution (Zip-NeRF, arXiv 2304.06706).

    Args:
        edges: Ascending histogram edges (R, N + 1) float32 in [0, 1], at least one bin.
        weights: Histogram weights (R, N) float32, not negative; their sum does not matter. Without any
            weight the samples are spread evenly.
        samples: Intervals to draw, at least 1.
        jitter: Shift of a ray's quantiles (R,) float32 in units of a sample, or None for bin centres.
        mix: Share of the probability that is spread evenly, in [0, 1].

    Returns:
        Ascending edges (R, S + 1) in [0, 1], without gradient: samples are drawn, edges are the midpoints
        between them, and the ends are reflected.

    Raises:
        ValueError: If a shape, dtype, device or number is not as stated.
    """
    native.check("edges", edges, torch.float32, (None, None))
    rays, bins = edges.shape[0], edges.shape[1] - 1
    if bins < 1:
        raise ValueError(f"edges: expected at least two edges a ray, got {edges.shape[1]}")
    native.check("weights", weights, torch.float32, (rays, bins))
    if jitter is not None:
        native.check("jitter", jitter, torch.float32, (rays,))
    native.check_device(edges=edges, weights=weights, jitter=jitter)
    if samples < 1:
        raise ValueError(f"samples: expected at least 1, got {samples}")
    if not 0.0 <= mix <= 1.0:
        raise ValueError(f"mix: expected a share in [0, 1], got {mix}")
    backend = native.backend(edges, "smerf_importance_sample")
    if backend is None:
        return reference.importance_sample(edges, weights, samples, jitter, mix)
    edges, weights = edges.contiguous(), weights.contiguous()
    jitter = None if jitter is None else jitter.contiguous()
    drawn = edges.new_empty(rays, samples + 1)
    backend.call(
        "smerf_importance_sample", edges, weights, jitter,
        mix, rays, bins, samples, drawn,
    )  # fmt: skip
    return drawn
