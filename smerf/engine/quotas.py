"""Which data set each step of a training is on, where several share it by quotas."""

from __future__ import annotations

import random
from collections.abc import Sequence

__all__ = ["quota_order"]


def quota_order(quotas: Sequence[tuple[str, int]], steps: int, seed: int = 0) -> list[str]:
    """Return the data set of every step: each name as often as its share of the steps, in a random order.

    Counts are exact where the steps divide; otherwise the largest remainders get the steps that are left. This is the
    weighted task sampling of PolyViT (arXiv 2111.12993), which CoFT's group uses.

    Args:
        quotas: Names with their shares, 1 or more.
        steps: Steps of the training.
        seed: Decides the order.
    """
    total = sum(share for _, share in quotas)
    counts = [steps * share // total for _, share in quotas]
    remainders = [steps * share % total for _, share in quotas]
    for index in sorted(range(len(quotas)), key=lambda i: -remainders[i])[: steps - sum(counts)]:
        counts[index] += 1
    order = [name for (name, _), count in zip(quotas, counts) for _ in range(count)]
    random.Random(seed).shuffle(order)
    return order
