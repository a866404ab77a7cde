"""The closed vocabulary at work: photos with depth in, the words of their pixels out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from smerf.capture.types import Camera
from smerf.vision.find import DepthPhoto
from smerf.vision.label import Detection, Labels, Votes, name_components
from smerf.vision.names.inputs import PATCH, look, mirrored
from smerf.vision.names.network import NameNet, read_net

__all__ = ["DIVISIONS", "Ground", "NameEyes", "accepted", "likelihoods", "measure_ground"]

_LEVELS = (0.25, 0.4, 0.55, 0.7, 0.85)
"""Scores that a pixel's word is rounded down to."""
_LEAST_VOTE = 0.25
"""Votes a view from which a voxel belongs to a thing."""
DIVISIONS = 512
"""Voxels along the diagonal of a scene: masks, unlike boxes, are worth fine ones, and a cup is small."""


@dataclass(frozen=True)
class Ground:
    """What a capture's photos say together: the height of the lowest thing, and how many units a metre is, if known."""

    height: float
    metre: float | None


def measure_ground(photos: Sequence[DepthPhoto], metre: float | None) -> Ground:
    """Return the ground of photos, without the lowest hundredth of what they see."""
    chosen = photos[:: max(1, len(photos) // 32)]
    heights = np.concatenate([photo.points()[0][::17, 2] for photo in chosen])
    return Ground(float(np.percentile(heights, 1)) if len(heights) else 0.0, metre)


class NameEyes:
    """The network, and how it looks at photos."""

    def __init__(self, path: Path) -> None:
        """Read the weights that ``smerf vision train names`` wrote."""
        self.path = path
        self.net, self.least = read_net(self.path)

    @cached_property
    def sha256(self) -> str:
        """Return the digest of the weights' file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def words(self) -> tuple[str, ...]:
        """Return the vocabulary."""
        return self.net.config.words

    def detections(self, rgb: np.ndarray, photo: DepthPhoto, ground: Ground) -> list[Detection]:
        """Return what pixels show, as masks: each score of ``_LEVELS`` that a word reaches, where it does.

        Args:
            rgb: uint8 (H, W, 3) of any size.
            photo: Its depth.
            ground: Of the capture.
        """
        depth = photo.read()
        likely = likelihoods(self.net, rgb, depth, photo.camera, ground)
        levels = [(word, level) for word in range(len(self.words)) for level in _LEVELS]
        masks = [(word, level, likely[word + 1] >= level) for word, level in levels]
        return [Detection(word, level, mask=mask) for word, level, mask in masks if mask.any()]


@torch.no_grad()
def likelihoods(
    net: NameNet, rgb: np.ndarray, depth: np.ndarray, camera: Camera, ground: Ground
) -> np.ndarray:
    """Return how likely each pixel of the depth shows nothing known, and each word: (1 + words, H, W).

    The mean of the photo and of its mirror image.
    """
    height, width = depth.shape
    rows, columns = (max(1, round(side / PATCH)) * PATCH for side in (height, width))
    image = torch.from_numpy(np.array(rgb[..., :3])).permute(2, 0, 1)[None].float()
    image = functional.interpolate(
        image, (rows, columns), mode="bilinear", antialias=True, align_corners=False
    )
    lens = camera.intrinsics
    x, y = columns / width, rows / height
    lens = replace(
        lens, width=columns, height=rows, fx=lens.fx * x, fy=lens.fy * y, cx=lens.cx * x, cy=lens.cy * y
    )
    row = ((np.arange(rows) + 0.5) / y).astype(int)
    column = ((np.arange(columns) + 0.5) / x).astype(int)
    channels = look(
        image[0].permute(1, 2, 0).round().byte().numpy(), depth[np.ix_(row, column)],
        replace(camera, intrinsics=lens), ground.height, ground.metre,
    )  # fmt: skip
    plain, turned = net([torch.from_numpy(channels), torch.from_numpy(mirrored(channels))])
    chance = 0.5 * (plain.softmax(0) + turned.flip(-1).softmax(0))
    found = functional.interpolate(chance[None], (height, width), mode="bilinear", align_corners=False)[0]
    return np.asarray(found.numpy())


def accepted(votes: Votes, least: float) -> Labels:
    """Make things of the votes of ``NameEyes``, and keep those whose score is the acceptance score or more.

    Words are not weighted by size: masks, unlike boxes, do not hold what stands on a table.
    """
    labels = name_components(votes, weigh=False, least=_LEAST_VOTE)
    return replace(labels, objects=tuple(each for each in labels.objects if each.score >= least))
