"""Measuring a model on scenes that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from smerf.evaluation.metrics import psnr, quantise, ssim
from smerf.objects.cameras import view_rays
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.osrt import Osrt
from smerf.objects.training.metrics import segmentation_scores

__all__ = ["PROTOCOL", "evaluate_scenes"]

PROTOCOL = {
    "views": "the first input_views are given, the others are rendered in full and measured",
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
    head: str | None = None,
    images: bool = False,
    progress: Callable[..., None] | None = None,
) -> dict[str, float]:
    """Measure novel views and masks of scenes.

    Args:
        model: Ready to use.
        scenes: With more views than ``input_views``; on any device.
        input_views: How many of the first views are given.
        decoder: Measured in place of the model's own.
        head: Data set whose head to use, of a model with heads.
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
        generator = torch.Generator().manual_seed(start)
        rendered, masks = _render_views(model, decoder, part, input_views, generator, head)
        labels.append(masks.flatten(1))
        truth = quantise(part.images(slice(input_views, None)).cpu().numpy())
        for ours, theirs in zip(quantise(rendered.cpu().numpy()), truth):
            # All views of a scene as one tall image.
            tall = (x.reshape(-1, x.shape[2], 3) for x in (ours, theirs))
            decibels.append(min(psnr(*tall), 100.0))
            if images:
                similarities += [ssim(a, b) for a, b in zip(ours, theirs)]
        if progress:
            progress(min(start + _CHUNK, len(scenes)), len(scenes))
    scores = {"psnr": sum(decibels) / len(decibels)}
    if similarities:
        scores["ssim"] = sum(similarities) / len(similarities)
    seg = scenes.seg[:, input_views:]
    if bool((seg > 0).any()):
        scores |= segmentation_scores(seg.flatten(1).cpu(), torch.cat(labels))
    return scores


def _render_views(
    model: Osrt,
    decoder: nn.Module,
    scenes: SceneSet,
    input_views: int,
    generator: torch.Generator,
    head: str | None,
) -> tuple[Tensor, Tensor]:
    """Return colours (B, V, H, W, 3) and the strongest slot (B, V, H, W), on the CPU, of all views not given."""
    given = slice(0, input_views)
    starts = None if model.slots is None else model.slots.begin(len(scenes), generator)
    slots = model.encode(
        scenes.images(given),
        scenes.world_from_cam[:, given],
        scenes.fov_x[:, given],
        starts=starts,
        head=head,
    )
    prepared = model.toned(decoder.prepare(slots), head)
    images, masks = [], []
    for view in range(input_views, scenes.views):
        rays = view_rays(scenes.world_from_cam[:, view], scenes.fov_x[:, view], scenes.size)
        decoded = decoder(prepared, *(x.flatten(1, 2)[:, None] for x in rays))
        images.append(decoded.colour.unflatten(1, scenes.size))
        masks.append(decoded.weights.argmax(-1).cpu().unflatten(1, scenes.size))
    return torch.stack(images, 1), torch.stack(masks, 1)
