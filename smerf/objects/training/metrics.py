"""How well slots separate objects: adjusted Rand index, with and without the background, and matched overlap.

All counting is in float64 on the CPU. True label 0 is the background. *FG-ARI* drops the points whose true label
is the background and keeps every predicted label; points of all views of a scene are pooled, so an object must
keep one slot from view to view.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["adjusted_rand", "contingency", "foreground_ari", "mean_iou", "segmentation_scores"]


def contingency(truth: Tensor, predicted: Tensor) -> Tensor:
    """Count points by true and predicted label.

    Args:
        truth: Labels from 0, any shape, integers.
        predicted: The same shape.

    Returns:
        Counts (largest true label + 1, largest predicted label + 1), float64.
    """
    if truth.shape != predicted.shape:
        raise ValueError(
            f"truth, predicted: expected one shape, got {tuple(truth.shape)}, {tuple(predicted.shape)}"
        )
    truth, predicted = truth.reshape(-1).long().cpu(), predicted.reshape(-1).long().cpu()
    if not len(truth):
        return torch.zeros(0, 0, dtype=torch.float64)
    columns = int(predicted.max()) + 1
    counts = torch.bincount(truth * columns + predicted, minlength=(int(truth.max()) + 1) * columns)
    return counts.double().view(-1, columns)


def adjusted_rand(truth: Tensor, predicted: Tensor) -> float | None:
    """Return the adjusted Rand index of two labellings, 1 for equal partitions and 0 for chance.

    With one cluster in both, or as many clusters as points in both, it is 1 by convention. ``None`` for fewer
    than two points.
    """
    counts = contingency(truth, predicted)
    points = counts.sum()
    if points < 2:
        return None
    together = _pairs(counts).sum()
    rows, columns = _pairs(counts.sum(1)).sum(), _pairs(counts.sum(0)).sum()
    expected = rows * columns / _pairs(points)
    maximum = 0.5 * (rows + columns)
    if maximum == expected:
        return 1.0
    return float((together - expected) / (maximum - expected))


def foreground_ari(truth: Tensor, predicted: Tensor) -> float | None:
    """Return the adjusted Rand index over the points whose true label is not 0, or ``None`` for fewer than two."""
    kept = truth.reshape(-1) > 0
    return adjusted_rand(truth.reshape(-1)[kept], predicted.reshape(-1)[kept])


def mean_iou(truth: Tensor, predicted: Tensor) -> float | None:
    """Return the overlap of true objects with slots, matched one to one for the largest sum.

    Mean over the true objects without the background, 0 for an unmatched one; ``None`` without objects.
    """
    from scipy.optimize import linear_sum_assignment

    counts = contingency(truth, predicted)
    if counts.numel() == 0:
        return None
    union = counts.sum(1, keepdim=True) + counts.sum(0, keepdim=True) - counts
    iou = (counts / union.clamp_min(1.0))[1:]
    present = counts[1:].sum(1) > 0
    if not bool(present.any()):
        return None
    rows, columns = linear_sum_assignment(iou[present].numpy(), maximize=True)
    return float(iou[present].numpy()[rows, columns].sum() / int(present.sum()))


def segmentation_scores(truth: Tensor, predicted: Tensor) -> dict[str, float]:
    """Average the scores over scenes, points of all views of a scene pooled.

    Args:
        truth: True labels (S, ...), 0 for the background.
        predicted: Slot numbers of the same shape.

    Returns:
        ``fg_ari``, ``ari`` (with background) and ``miou``; one without a value in any scene is left out.
    """
    kinds = {"fg_ari": foreground_ari, "ari": adjusted_rand, "miou": mean_iou}
    scores = {}
    for name, score in kinds.items():
        values = [value for t, p in zip(truth, predicted) if (value := score(t, p)) is not None]
        if values:
            scores[name] = sum(values) / len(values)
    return scores


def _pairs(counts: Tensor) -> Tensor:
    return counts * (counts - 1.0) / 2.0
