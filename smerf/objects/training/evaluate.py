"""Measuring a model on scenes that it has not seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from smerf.evaluation.metrics import psnr, quantise, ssim
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.rays import view_rays
from smerf.objects.training.metrics import segmentation_scores

__all__ = ["PROTOCOL", "evaluate_scenes"]

PROTOCOL = {
    "views": "the first input_views are given, the others are drawn in full and measured",
    "psnr": "per scene over all pixels of its novel views, 8 bits, then the mean over scenes",
    "ssim": "11x11 Gaussian, sigma 1.5, valid; per image, then the mean",
    "fg_ari": "points of all novel views of a scene pooled, true background dropped, all predictions kept",
    "ari": "the same with the background",
    "miou": "slots matched one to one to true objects, background left out, unmatched objects count 0",
}
"""How the numbers of ``evaluate_scenes`` come about."""
_CHUNK = 8


@torch.no_grad()
def evaluate_scenes(
    model: Osrt,
    scenes: SceneSet,
    input_views: int,
    *,
    decoder: nn.Module | None = None,
    images: bool = False,
    progress: Callable[..., None] | None = None,
) -> dict[str, float]:
    """Measure novel views and masks of scenes.

    Args:
        model: Ready to use.
        scenes: With more views than ``input_views``; on any device.
        input_views: How many of the first views are given.
        decoder: Measured in place of the model's own.
        images: Measure SSIM as well.
        progress: Called as ``progress(done, scenes)``.

    Returns:
        ``psnr``, ``fg_ari``, ``ari``, ``miou`` and, with ``images``, ``ssim``. Without true masks (all 0) only the
        image metrics.
    """
    device = next(model.parameters()).device
    scenes = scenes.to(device).in_frame(model.config.frame)
    decoder = model.decoder if decoder is None else decoder
    labels, decibels, similarities = [], [], []
    for start in range(0, len(scenes), _CHUNK):
        part = scenes[start : start + _CHUNK]
        given, wanted = slice(0, input_views), slice(input_views, None)
        slots = model.encode(
            part.images(given), part.cam_pos[:, given], part.cam_R[:, given], part.fov_x[:, given],
            generator=torch.Generator().manual_seed(start),
        )  # fmt: skip
        prepared = decoder.prepare(slots)
        truth = part.images(wanted).cpu().numpy()
        pictures = []
        masks = []
        for view in range(input_views, part.views):
            rays = view_rays(part.cam_pos[:, view], part.cam_R[:, view], part.fov_x[:, view], part.size)
            decoded = decoder(prepared, *(x.flatten(1, 2)[:, None] for x in rays))
            pictures.append(decoded.colour.unflatten(1, part.size))
            masks.append(decoded.weights.argmax(-1).cpu())
        drawn = quantise(torch.stack(pictures, 1).cpu().numpy())
        labels.append(torch.cat(masks, 1))
        for scene in range(len(part)):
            height = drawn.shape[1] * drawn.shape[2]
            tall = (x[scene].reshape(height, -1, 3) for x in (drawn, quantise(truth)))
            decibels.append(min(psnr(*tall), 100.0))
            if images:
                similarities += [ssim(a, b) for a, b in zip(drawn[scene], quantise(truth)[scene])]
        if progress:
            progress(min(start + _CHUNK, len(scenes)), len(scenes))
    scores = {"psnr": sum(decibels) / len(decibels)}
    if similarities:
        scores["ssim"] = sum(similarities) / len(similarities)
    seg = scenes.seg[:, input_views:]
    if bool((seg > 0).any()):
        scores |= segmentation_scores(seg.flatten(1).cpu(), torch.cat(labels))
    return scores
