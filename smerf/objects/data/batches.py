"""Training batches of object scenes: input views, and target rays with their colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from smerf.errors import InvalidDataError
from smerf.objects.cameras import pixel_directions, to_reference_frame
from smerf.objects.config import TrainingConfig
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.photos import Photos

__all__ = ["MixedBatch", "SceneBatch", "TargetRays", "local_contrast", "sample_batch"]


@dataclass(frozen=True)
class TargetRays:
    """Rays ``origins`` and ``directions`` (B, R, 3) with their ``colours`` (B, R, 3) and true object numbers ``labels``
    (B, R) int64, 0 for the background.
    """

    origins: Tensor
    directions: Tensor
    colours: Tensor
    labels: Tensor


@dataclass(frozen=True)
class SceneBatch(TargetRays):
    """Input views and target rays of some scenes.

    ``images`` (B, V, H, W, 3) float32 in [0, 1] with ``world_from_cam`` (B, V, 3, 4) and ``fov_x`` (B, V).
    """

    images: Tensor
    world_from_cam: Tensor
    fov_x: Tensor


@dataclass(frozen=True)
class MixedBatch(TargetRays):
    """Input photos of several sizes, and target rays; scenes are in the order of ``photos``."""

    photos: tuple[Photos, ...]

    @classmethod
    def of(cls, batches: Sequence[SceneBatch]) -> MixedBatch:
        """Join batches of one size each."""
        photos, first = [], 0
        for each in batches:
            count, views = each.fov_x.shape
            scene = torch.arange(first, first + count, device=each.fov_x.device).repeat_interleave(views)
            photos.append(
                Photos(
                    each.images.flatten(0, 1), each.world_from_cam.flatten(0, 1), each.fov_x.flatten(), scene
                )
            )
            first += count
        names = [field.name for field in fields(TargetRays)]
        rays = {name: torch.cat([getattr(each, name) for each in batches]) for name in names}
        return cls(**rays, photos=tuple(photos))

    @property
    def lengths(self) -> Tensor:
        """Pixels of each scene's input photos, (B,) int64."""
        owners = torch.cat([each.scene for each in self.photos])
        pixels = [each.images.shape[1] * each.images.shape[2] for each in self.photos]
        sizes = torch.cat([torch.full_like(each.scene, n) for each, n in zip(self.photos, pixels)])
        return torch.zeros(len(self.colours), dtype=torch.int64, device=owners.device).index_add(
            0, owners, sizes
        )


def sample_batch(
    scenes: SceneSet,
    which: Tensor,
    training: TrainingConfig,
    generator: torch.Generator,
    *,
    frame: str = "world",
    contrast: Tensor | None = None,
    rows: slice = slice(None),
) -> SceneBatch:
    """Sample input views and target rays of scenes, with repetition.

    Args:
        scenes: The set.
        which: Numbers of the scenes, (B,) int64.
        training: Number of input views and rays, and what rays are taken from.
        generator: On the CPU. It moves on by the whole batch, whatever ``rows`` are kept.
        frame: Coordinates of the cameras; ``reference`` makes the first input view the frame.
        contrast: Weights of ``local_contrast``, by which the fraction ``training.contrast`` of the rays is sampled.
        rows: Part of the batch to return.

    Raises:
        InvalidDataError: If the scenes have too few views.
    """
    inputs = training.input_views
    if scenes.views < inputs + (training.targets == "others"):
        raise InvalidDataError(
            f"scenes have {scenes.views} views, too few for {inputs} as input with targets={training.targets}"
        )
    first = inputs if training.targets == "others" else 0
    order, chosen = _sample_views_and_pixels(scenes, which, training, first, generator, contrast, rows)
    which = which[rows].to(scenes.rgb.device)
    height, width = scenes.size
    scene, row_of = which[:, None], torch.arange(len(which), device=which.device)[:, None]
    poses, fov_x = scenes.world_from_cam[scene, order], scenes.fov_x[scene, order]
    if frame == "reference":
        poses = to_reference_frame(poses)
    place, pixel = chosen // (height * width) + first, chosen % (height * width)
    view, row, column = order.gather(1, place), pixel // width, pixel % width
    target = poses[row_of, place]
    return SceneBatch(
        images=scenes.rgb[scene, order[:, :inputs]].float() / 255.0,
        world_from_cam=poses[:, :inputs],
        fov_x=fov_x[:, :inputs],
        origins=target[..., 3],
        directions=pixel_directions(target, fov_x[row_of, place], column.float(), row.float(), scenes.size),
        colours=scenes.rgb[scene, view, row, column].float() / 255.0,
        labels=scenes.seg[scene, view, row, column].long(),
    )


def _sample_views_and_pixels(
    scenes: SceneSet,
    which: Tensor,
    training: TrainingConfig,
    first: int,
    generator: torch.Generator,
    contrast: Tensor | None,
    rows: slice,
) -> tuple[Tensor, Tensor]:
    """Return the order of views (B, V), and pixels (B, R) counted over the views from ``first`` on."""
    pixels = (scenes.views - first) * scenes.size[0] * scenes.size[1]
    order = torch.rand(len(which), scenes.views, generator=generator).argsort(1)
    chosen = torch.randint(pixels, (len(which), training.rays), generator=generator)
    guided = 0 if contrast is None else round(training.contrast * training.rays)
    u = torch.rand(len(which), guided, generator=generator) if guided else None
    which, order, chosen = (x[rows].to(scenes.rgb.device) for x in (which, order, chosen))
    if u is not None and contrast is not None:
        chosen[:, :guided] = _guided_pixels(contrast[which], order[:, first:], u[rows].to(chosen.device))
    return order, chosen


def _guided_pixels(weights: Tensor, views: Tensor, u: Tensor) -> Tensor:
    """Sample pixels of ``views`` (B, N) in proportion to the weights (B, V, H * W), for uniform numbers u (B, R)."""
    cdf = weights.gather(1, views[..., None].expand(-1, -1, weights.shape[2])).flatten(1).cumsum(1)
    return torch.searchsorted(cdf, u * cdf[:, -1:]).clamp_max(cdf.shape[1] - 1)


def local_contrast(scenes: SceneSet) -> Tensor:
    """Return how much each pixel differs from its surroundings, float32 (S, V, H * W), positive.

    The blurred length of the colour gradient: high on and around objects, low on plain floors. It comes from
    the images alone, without masks.
    """
    parts = []
    for start in range(0, len(scenes), 256):
        image = scenes.rgb[start : start + 256].flatten(0, 1).permute(0, 3, 1, 2).float() / 255.0
        padded = torch.nn.functional.pad(image, (0, 1, 0, 1), mode="replicate")
        across = (padded[..., :-1, 1:] - image).abs().sum(1, keepdim=True)
        along = (padded[..., 1:, :-1] - image).abs().sum(1, keepdim=True)
        smooth = torch.nn.functional.avg_pool2d(across + along, 5, 1, 2, count_include_pad=False)
        parts.append(smooth.unflatten(0, (-1, scenes.views)).flatten(2))
    return torch.cat(parts) + 1e-4
