"""The form of ``metrics.json``: means, per-image values, and the protocol that makes them comparable."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from smerf.evaluation.metrics import quantise

__all__ = ["hash_images", "summarise"]


def summarise(
    per_image: Mapping[str, Mapping[str, float]],
    protocol: Mapping[str, Any],
    *,
    predictions_sha: str | None = None,
    ground_truth_sha: str | None = None,
    **facts: Any,
) -> dict[str, Any]:
    """Gather per-image metrics into the content of ``metrics.json``.

    Args:
        per_image: Metrics of each image by its name, as ``image_metrics`` returns them.
        protocol: Scene, split, resolution, background ...; ``METRIC_PROTOCOL`` holds the part about metrics.
        predictions_sha: ``hash_images`` of the rendered images.
        ground_truth_sha: ``hash_images`` of the photos.
        **facts: More top-level entries, such as ``experiment_name``, ``method_name``, ``checkpoint``.

    Returns:
        ``results`` with the plain mean of every metric and its standard deviation (``psnr_std``; of the
        sample, 0 for one image), ``num_images``, ``per_image``, ``protocol`` and the hashes. A metric that
        some images lack is averaged over those that have it, and ``results`` then carries
        ``<metric>_num_images``.

    Raises:
        ValueError: If there are no images or a value is not finite.
    """
    if not per_image:
        raise ValueError("per_image: expected at least one image")
    for name, metrics in per_image.items():
        for metric, value in metrics.items():
            if not math.isfinite(value):
                raise ValueError(f"per_image: {metric} of {name} is {value}, expected a finite number")
    results: dict[str, float | int] = {}
    for metric in dict.fromkeys(metric for metrics in per_image.values() for metric in metrics):
        values = [float(metrics[metric]) for metrics in per_image.values() if metric in metrics]
        results[metric] = float(np.mean(values))
        results[f"{metric}_std"] = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        if len(values) < len(per_image):
            results[f"{metric}_num_images"] = len(values)
    summary = {
        **facts,
        "results": results,
        "num_images": len(per_image),
        "per_image": {name: dict(metrics) for name, metrics in per_image.items()},
        "protocol": dict(protocol),
    }
    hashes = {"predictions_sha": predictions_sha, "ground_truth_sha": ground_truth_sha}
    return summary | {name: value for name, value in hashes.items() if value is not None}


def hash_images(images: Iterable[np.ndarray]) -> str:
    """Return a SHA-256 over images in order: shapes and 8-bit values, however they were stored."""
    digest = hashlib.sha256()
    for image in images:
        levels = np.rint(quantise(image) * 255.0).astype(np.uint8)
        digest.update(repr(levels.shape).encode())
        digest.update(np.ascontiguousarray(levels).tobytes())
    return digest.hexdigest()
