"""The PSNR that counts, and where it is lost: in training, in distilling or in baking."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

__all__ = ["STAGE_LOSSES", "largest_loss", "mean_psnr", "stage_changes", "stage_fractions", "view_psnr"]

STAGE_LOSSES = {"teacher": "training", "student": "distilling", "baked": "baking"}
"""What each measured stage adds to the loss of the stage before it."""


def view_psnr(figures: Mapping[str, float]) -> float:
    """Return the PSNR of one view in dB, over the pixels in use where the view has a mask."""
    return float(figures.get("masked_psnr", figures["psnr"]))


def mean_psnr(summary: Mapping[str, Any]) -> float:
    """Return the mean ``view_psnr`` of a stage's summary."""
    values = [view_psnr(figures) for figures in summary["per_image"].values()]
    return sum(values) / len(values)


def stage_changes(psnr: Mapping[str, float]) -> dict[str, float]:
    """Return by how many dB each stage's step changes the PSNR of the stage before it; the first has none."""
    values = list(_chain(psnr).items())
    return {STAGE_LOSSES[name]: after - before for (_, before), (name, after) in pairwise(values)}


def stage_fractions(psnr: Mapping[str, float]) -> dict[str, float]:
    """Return the fraction of the squared error that each stage's step adds, of all that is added; they sum to 1.

    PSNR is turned back into mean squared error, which adds up where decibels do not. A step that improves the
    image has fraction 0.
    """
    added, before = {}, 0.0
    for name, value in _chain(psnr).items():
        error = 10.0 ** (-value / 10.0)
        added[STAGE_LOSSES[name]] = max(0.0, error - before)
        before = error
    total = sum(added.values())
    return {name: value / total for name, value in added.items()} if total > 0.0 else {}


def largest_loss(psnr: Mapping[str, float]) -> tuple[str, float] | None:
    """Return the step that adds the largest fraction, and how many dB it loses (0 for the first)."""
    fractions = stage_fractions(psnr)
    if not fractions:
        return None
    step = max(fractions, key=lambda name: fractions[name])
    return step, max(0.0, -stage_changes(psnr).get(step, 0.0))


def _chain(psnr: Mapping[str, float]) -> dict[str, float]:
    """Return the stages from the first one on, up to the first that was not measured."""
    chain = {}
    for stage in STAGE_LOSSES:
        if stage not in psnr:
            break
        chain[stage] = psnr[stage]
    return chain
