"""Where photos differ from what a teacher has learnt, compared with how much other photos differ at the same place.

Thin and shiny things differ in every photo, a passer-by in one. A place is a cell of contracted space that is met by
the pixels' rays, at the teacher's own depth. Shapes: h w a reduced photo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from smerf.capture.downscale import scale_intrinsics
from smerf.capture.types import Camera
from smerf.fields.ray_bank import camera_rays
from smerf.fields.rays import Rays
from smerf.kernels.reference.contraction import contract
from smerf.teacher.model import Teacher

__all__ = [
    "PhotoScore", "ReducedPhoto", "affordable", "place_cells", "reduce_photo", "reduction", "score_photos",
    "view_photo",
]  # fmt: skip

_CHUNK = 8192
_MIN_SIDE, _MAX_SIDE = 48, 160
"""Longest sides in pixels between which photos are reduced."""
_PLACES, _PLACE_PIXELS = 32, 2.0
"""Places along the median distance of what the photos show, unless a place would be less wide than so many pixels."""
_CUT = 0.15
"""Residuals count up to this in the mean of their place: one photo says little of the others."""
_GAIN = 2.0
"""A photo is at most so much brighter or darker than the scene."""


@dataclass(frozen=True)
class ReducedPhoto:
    """A photo whose blocks of ``factor`` x ``factor`` pixels are averaged: colours (h, w, 3) in [0, 1] over the
    teacher's background, and which pixels may be used (h, w).
    """

    camera: Camera
    colours: np.ndarray
    used: np.ndarray


@dataclass(frozen=True)
class PhotoScore:
    """What was found of a photo, each (h, w) float32.

    ``residual`` is the mean absolute difference of the three channels, blurred by a pixel; 0 where the photo's own mask
    ignores it. ``place`` is the mean residual of the other photos that see the same place, and ``others`` says how many
    these are.
    """

    residual: np.ndarray
    place: np.ndarray
    others: np.ndarray


def reduction(size: tuple[int, int], photos: int, budget: float, least: int = _MIN_SIDE) -> int:
    """Return the whole factor by which photos of a (width, height) are reduced.

    At least 2 where they are not small already; the longest side is at most 160 pixels, and all photos together have
    at most ``budget`` pixels unless the longest side would fall below ``least``.
    """
    longest = max(size)
    factor = max(2, -(-longest // _MAX_SIDE))
    while photos * (size[0] // factor) * (size[1] // factor) > budget:
        factor += 1
    return max(1, min(factor, longest // least))


def affordable(marks: tuple[float, ...], share: float, most: float) -> tuple[float, ...]:
    """Return the last of the marks, as many as there may be looks of a ``share`` each for ``most`` in all."""
    count = min(len(marks), int(most / max(share, 1e-9)))
    return marks[len(marks) - count :]


def reduce_photo(
    camera: Camera, pixels: np.ndarray, used: np.ndarray, background: float, factor: int
) -> ReducedPhoto:
    """Average whole blocks of a photo: pixels (H, W, 3 or 4) uint8, used (H, W) bool.

    A block counts where all of its pixels do; columns and rows that fill none are cut.
    """
    height, width = (side // factor for side in used.shape)
    whole = pixels[: height * factor, : width * factor].astype(np.float32) / 255.0
    if whole.shape[-1] == 4:
        whole = whole[..., :3] * whole[..., 3:] + (1.0 - whole[..., 3:]) * background
    blocks = whole.reshape(height, factor, width, factor, 3).mean((1, 3))
    whole_used = used[: height * factor, : width * factor].reshape(height, factor, width, factor)
    kept: np.ndarray = np.asarray(whole_used.all((1, 3)))
    intrinsics = scale_intrinsics(camera.intrinsics, width, height, (1.0 / factor, 1.0 / factor))
    return ReducedPhoto(replace(camera, intrinsics=intrinsics), blocks, kept)


def score_photos(
    teacher: Teacher,
    photos: Sequence[ReducedPhoto],
    device: torch.device,
    refine: Callable[[Rays, Tensor], Rays] | None = None,
) -> list[PhotoScore]:
    """Compare photos with what a teacher shows.

    Args:
        teacher: Answers their rays.
        photos: The photos.
        device: Where the teacher lies.
        refine: Moves rays as the cameras ``frames`` (R,) were refined, if they were.
    """
    residuals, points, distances = [], [], []
    for index, photo in enumerate(photos):
        shown, point, distance = view_photo(teacher, photo.camera, index, device, refine)
        residuals.append(_residual(photo, shown))
        points.append(point)
        distances.append(distance)
    used = [photo.used for photo in photos]
    return _against_others(residuals, place_cells(teacher, photos, points, distances), used)


def place_cells(
    teacher: Teacher,
    photos: Sequence[ReducedPhoto],
    points: Sequence[np.ndarray],
    distances: Sequence[np.ndarray],
) -> list[np.ndarray]:
    """Return the number of the place of each pixel (P,) of photos, from what ``view_photo`` found for them."""
    typical = float(np.median(np.concatenate(distances)))
    pixel = float(np.median([1.0 / photo.camera.intrinsics.fx for photo in photos]))
    edge = typical * max(1.0 / _PLACES, _PLACE_PIXELS * pixel)
    return _cells(points, teacher.scene_scale, edge * teacher.scene_scale)


@torch.no_grad()
def view_photo(
    teacher: Teacher,
    camera: Camera,
    index: int,
    device: torch.device,
    refine: Callable[[Rays, Tensor], Rays] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what a camera sees: colours (h, w, 3), and points (P, 3) at the median distances (P,)."""
    colours, points, distances = [], [], []
    whole = camera_rays(camera).to(device)
    for start in range(0, len(whole), _CHUNK):
        rays = whole[start : start + _CHUNK]
        if refine is not None:
            rays = refine(rays, torch.full((len(rays),), index, device=device))
        answer = teacher.query(rays)
        opacity = answer.weights.sum(-1, keepdim=True)
        middles = 0.5 * (answer.edges[:, 1:] + answer.edges[:, :-1])
        # The median: a mean would follow the little light that comes from far away.
        half = (answer.weights.cumsum(-1) < 0.5 * opacity).sum(-1, keepdim=True)
        distance = middles.gather(-1, half.clamp_max(middles.shape[-1] - 1))[:, 0]
        colours.append((answer.colour + (1.0 - opacity) * teacher.background).cpu())
        points.append((rays.origins + distance[:, None] * rays.directions).cpu())
        distances.append(distance.cpu())
    shape = camera.intrinsics.height, camera.intrinsics.width, 3
    image = torch.cat(colours).clamp(0.0, 1.0).view(shape).numpy()
    return image, torch.cat(points).numpy(), torch.cat(distances).numpy()


def _residual(photo: ReducedPhoto, shown: np.ndarray) -> np.ndarray:
    """Return the residual (h, w) after the photo's own exposure and white balance are taken out."""
    from scipy.ndimage import gaussian_filter

    difference = np.zeros(photo.used.shape, np.float32)
    for channel in range(3):
        truth, found = photo.colours[..., channel], shown[..., channel]
        comparable = photo.used & (found > 0.05) & (truth > 0.05) & (truth < 0.95)
        ratio = np.median(truth[comparable] / found[comparable]) if comparable.any() else 1.0
        gain = float(np.clip(ratio, 1.0 / _GAIN, _GAIN))
        difference += np.abs(truth - (found * gain).clip(0.0, 1.0)) / 3.0
    blurred = gaussian_filter(np.where(photo.used, difference, 0.0), 1.0)
    weight = gaussian_filter(photo.used.astype(np.float32), 1.0)
    smooth: np.ndarray = np.where(photo.used, blurred / np.maximum(weight, 1e-3), 0.0).astype(np.float32)
    return smooth


def _cells(points: Sequence[np.ndarray], scene_scale: float, edge: float) -> list[np.ndarray]:
    """Return the number of the place of each point (P,): places grow with the distance from the cameras, as
    contraction shrinks what is far; ``edge`` is theirs in contracted space.
    """
    along = int(np.ceil(4.0 / edge)) + 1
    cells = []
    for group in points:
        contracted = contract(torch.from_numpy(group) * scene_scale).numpy()
        steps = np.floor((contracted + 2.0) / edge).astype(np.int64).clip(0, along - 1)
        cells.append((steps[:, 0] * along + steps[:, 1]) * along + steps[:, 2])
    return cells


def _against_others(
    residuals: Sequence[np.ndarray], cells: Sequence[np.ndarray], used: Sequence[np.ndarray]
) -> list[PhotoScore]:
    """Give each photo the means of the others at its places."""
    known, numbers = np.unique(np.concatenate(cells), return_inverse=True)
    parts = np.split(numbers.reshape(-1), np.cumsum([len(cell) for cell in cells])[:-1])
    total, photos, own = np.zeros(len(known)), np.zeros(len(known)), []
    for residual, part, usable in zip(residuals, parts, used):
        weight = usable.reshape(-1).astype(np.float64)
        count = np.bincount(part, weight, len(known))
        summed = np.bincount(part, weight * residual.reshape(-1).clip(max=_CUT), len(known))
        mean = np.where(count > 0, summed / np.maximum(count, 1.0), 0.0)
        is_seen = count > 0
        own.append((mean[part], is_seen[part]))
        total += mean
        photos += is_seen
    scores = []
    for residual, part, (mean, is_seen) in zip(residuals, parts, own):
        others = photos[part] - is_seen
        place = (total[part] - mean) / np.maximum(others, 1.0)
        shape = residual.shape
        scores.append(
            PhotoScore(
                residual, place.reshape(shape).astype(np.float32), others.reshape(shape).astype(np.float32)
            )
        )
    return scores
