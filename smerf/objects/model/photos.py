"""Photos of any size as tokens: every patch with its colours and its own ray, packed into rows (NaViT)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from smerf.objects.cameras import patch_directions
from smerf.objects.config import EncoderConfig
from smerf.vision.packing import Packed, first_fit, pack, patches_of

__all__ = ["Photos", "best_row", "pack_photos", "split_token"]


@dataclass(frozen=True)
class Photos:
    """Photos of one size, of one or several scenes.

    ``images`` (N, H, W, 3) float in [0, 1], sides multiples of the patch; ``world_from_cam`` (N, 3, 4); ``fov_x`` (N);
    ``scene`` (N,) int64, the number of the scene that each belongs to.
    """

    images: Tensor
    world_from_cam: Tensor
    fov_x: Tensor
    scene: Tensor


def pack_photos(
    groups: Sequence[Photos], config: EncoderConfig, keep: Sequence[Tensor] | None = None
) -> Packed:
    """Cut photos into patches and pack scene by scene; a scene's photos follow each other in the order of the groups.

    Args:
        groups: Photos; the scenes are numbered from 0 without gaps.
        config: Patch, kind of ray and length of a row.
        keep: For each scene the tokens to keep, int64; all if not given.

    Returns:
        Rows of tokens: a patch's colours, channels first, the centre of its camera and the direction of its ray (see
        ``split_token``). ``photo`` holds the scene's number.

    Raises:
        ValueError: If a side is no multiple of the patch, or a scene has more tokens than a row.
    """
    parts: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for group in groups:
        height, width = group.images.shape[1:3]
        if height % config.patch or width % config.patch:
            raise ValueError(f"images: {width}x{height} pixels are no multiple of the patch, {config.patch}")
        for scene, cut in zip(group.scene.tolist(), _cut(group, config)):
            parts.setdefault(scene, []).append(cut)
    scenes = [map(torch.cat, zip(*parts[scene])) for scene in range(len(parts))]
    tokens, places = (list(each) for each in zip(*scenes))
    if keep is not None:
        tokens = [each[kept] for each, kept in zip(tokens, keep, strict=True)]
        places = [each[kept] for each, kept in zip(places, keep, strict=True)]
    row = config.row or best_row([len(each) for each in tokens], config.width)
    return pack(tokens, places, row)


def split_token(tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return colours (..., 3 * patch^2), camera centres (..., 3) and unit directions (..., 3) of packed tokens."""
    colours, centres, directions = tokens.split([tokens.shape[-1] - 6, 3, 3], -1)
    return colours, centres, directions


def best_row(lengths: Sequence[int], width: int) -> int:
    """Return the length of rows, one to four times the longest sequence, whose blocks cost the fewest operations.

    A token costs 24 D^2 for projections and MLP and 4 L D for attention along its row, padding as well.
    """
    longest = max(lengths)

    def cost(row: int) -> int:
        return len(first_fit(lengths, row)) * row * (24 * width**2 + 4 * row * width)

    return min((longest * times for times in range(1, 5)), key=cost)


def _cut(group: Photos, config: EncoderConfig) -> list[tuple[Tensor, Tensor]]:
    """Return the tokens (T, C) and places (T, 2) of every photo of a group."""
    size = (group.images.shape[1], group.images.shape[2])
    directions = patch_directions(group.world_from_cam, group.fov_x, size, config.patch, config.patch_ray)
    rows, columns = directions.shape[1:3]
    place = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(group.images.device)
    centres = group.world_from_cam[:, None, :, 3].expand(-1, rows * columns, -1)
    patches = torch.stack(
        [patches_of(image.permute(2, 0, 1), config.patch).flatten(0, 1) for image in group.images]
    )
    tokens = torch.cat([patches, centres, directions.flatten(1, 2)], -1)
    return [(each, place) for each in tokens]
