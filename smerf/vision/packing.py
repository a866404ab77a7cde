"""NaViT: photos of any size share sequences of one length (Patch n' Pack, arXiv 2307.06304).

A *row* of L tokens holds several photos one after the other; tokens see only those of their own photo. Letters: B rows,
L tokens of a row, E photos of a row at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smerf.vision.blocks import Attention, Block, BlockConfig

__all__ = [
    "Navit",
    "NavitConfig",
    "Packed",
    "drop_share",
    "first_fit",
    "pack",
    "patches_of",
    "segment_mask",
    "unpack",
]


@dataclass(frozen=True)
class Packed:
    """Photos in rows.

    ``tokens`` (B, L, P) float, 0 where padding; ``segment`` (B, L) int64, 0 for padding, else 1 .. E;
    ``place`` (B, L, 2) int64, row and column of the patch in its photo; ``photo`` (B, E) int64, the photo's
    index or -1.
    """

    tokens: Tensor
    segment: Tensor
    place: Tensor
    photo: Tensor


def patches_of(image: Tensor, patch: int) -> Tensor:
    """Cut an image (C, H, W), sides multiples of ``patch``, into (rows, columns, C * patch^2), channels first."""
    cut = image.unfold(1, patch, patch).unfold(2, patch, patch)
    return cut.permute(1, 2, 0, 3, 4).flatten(2)


def first_fit(lengths: Sequence[int], row: int, lookahead: int = 64) -> list[list[int]]:
    """Share sequences out among rows, each going to the first row with room.

    Args:
        lengths: Of the sequences.
        row: Length of a row.
        lookahead: Open rows at most; beyond it the fullest is closed. 1 closes a row at the first miss.

    Returns:
        For each row the indices of its sequences.

    Raises:
        ValueError: If a sequence is longer than a row.
    """
    done: list[list[int]] = []
    rows: list[tuple[int, list[int]]] = []
    for index, length in enumerate(lengths):
        if length > row:
            raise ValueError(f"lengths: sequence {index} has {length} tokens, a row {row}")
        for place, (used, members) in enumerate(rows):
            if used + length <= row:
                rows[place] = (used + length, [*members, index])
                break
        else:
            if len(rows) >= lookahead:
                done.append(rows.pop(max(range(len(rows)), key=lambda i: rows[i][0]))[1])
            rows.append((length, [index]))
    return done + [members for _, members in rows]


def pack(sequences: Sequence[Tensor], places: Sequence[Tensor], row: int, lookahead: int = 64) -> Packed:
    """Pack sequences of tokens (N_i, P) with their places (N_i, 2) into rows of ``row`` tokens.

    Raises:
        ValueError: If one is longer than a row.
    """
    rows = first_fit([len(each) for each in sequences], row, lookahead)
    most = max(map(len, rows))
    first = sequences[0]
    tokens = first.new_zeros(len(rows), row, first.shape[-1])
    segment = torch.zeros(len(rows), row, dtype=torch.int64, device=first.device)
    place = torch.zeros(len(rows), row, 2, dtype=torch.int64, device=first.device)
    photo = torch.full((len(rows), most), -1, dtype=torch.int64, device=first.device)
    for line, members in enumerate(rows):
        start = 0
        for number, index in enumerate(members):
            end = start + len(sequences[index])
            tokens[line, start:end], place[line, start:end] = sequences[index], places[index]
            segment[line, start:end], photo[line, number] = number + 1, index
            start = end
    return Packed(tokens, segment, place, photo)


def segment_mask(segment: Tensor) -> Tensor:
    """Return who may see whom, bool (B, L, L): tokens of one photo each other, padding itself alone."""
    same = (segment[:, :, None] == segment[:, None, :]) & (segment[:, None, :] > 0)
    return same | torch.eye(segment.shape[1], dtype=torch.bool, device=segment.device)


def unpack(values: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
    """Take what was made of rows apart again: (N, T, D) for the N sequences in their order, padded to the longest.

    Args:
        values: One vector a token, (B, L, D).
        packed: The rows.

    Returns:
        The values, and which of them are there, bool (N, T); the others hold those of other tokens.
    """
    owner = packed.photo.gather(1, (packed.segment - 1).clamp_min(0))
    owner = torch.where(packed.segment > 0, owner, -1).flatten()
    lengths = torch.bincount(owner[owner >= 0], minlength=int(packed.photo.max()) + 1)
    order = owner.argsort(stable=True)[int((owner < 0).sum()) :]
    is_there = torch.arange(int(lengths.max()), device=values.device) < lengths[:, None]
    index = torch.zeros_like(is_there, dtype=torch.int64)
    index[is_there] = order
    return values.flatten(0, 1)[index], is_there


def drop_share(
    seen: float, total: float, low: float = 0.2, high: float = 0.8, sharpness: float = 10.0
) -> float:
    """Return the share of tokens to drop after ``seen`` of ``total`` photos, falling from ``high`` to ``low``.

    A sigmoid about the middle of the training; NaViT found that falling rates help and rising ones hurt (section 3.2).
    """
    return low + (high - low) / (1.0 + math.exp(sharpness * (seen / max(total, 1.0) - 0.5)))


@dataclass(frozen=True)
class NavitConfig:
    """Sizes of a NaViT: patches of ``patch`` pixels, photos of at most ``rows`` x ``columns`` patches."""

    block: BlockConfig
    layers: int
    patch: int
    rows: int
    columns: int
    classes: int


class Navit(nn.Module):
    """A classifier of packed photos, with factorised positions and attention pooling for each photo."""

    def __init__(self, config: NavitConfig) -> None:
        super().__init__()
        width, bias = config.block.width, config.block.norm_bias
        pixels = 3 * config.patch**2
        self.config = config
        self.pixel_norm = nn.LayerNorm(pixels, bias=bias)
        self.embed = nn.Linear(pixels, width)
        self.token_norm = nn.LayerNorm(width, bias=bias)
        self.row_positions = nn.Parameter(torch.randn(config.rows, width) * 0.02)
        self.column_positions = nn.Parameter(torch.randn(config.columns, width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, config.block.eps, bias=bias)
        self.probe = nn.Parameter(torch.randn(width) * width**-0.5)
        self.probe_norm = nn.LayerNorm(width, config.block.eps, bias=bias)
        self.pool = Attention(config.block)
        self.class_norm = nn.LayerNorm(width, config.block.eps, bias=bias)
        self.classify = nn.Linear(width, config.classes, bias=False)

    def forward(self, packed: Packed) -> Tensor:
        """Return logits (photos, classes), in the order of the photos' indices."""
        mask = segment_mask(packed.segment)
        x = self.token_norm(self.embed(self.pixel_norm(packed.tokens)))
        x = x + self.row_positions[packed.place[..., 0]] + self.column_positions[packed.place[..., 1]]
        for block in self.blocks:
            x = block(x, mask=mask)
        pooled = self._pool(self.norm(x), packed)
        is_there = packed.photo >= 0
        vectors = torch.empty_like(pooled[is_there])
        vectors[packed.photo[is_there]] = pooled[is_there]
        return self.classify(self.class_norm(vectors))

    def _pool(self, x: Tensor, packed: Packed) -> Tensor:
        """Read each photo's tokens with the probe: (B, E, D)."""
        count = packed.photo.shape[1]
        probe = self.probe.expand(len(x), count, -1)
        numbers = torch.arange(1, count + 1, device=x.device)
        own = packed.segment[:, None, :] == numbers[:, None]
        # Empty places read whatever is there, and are dropped.
        own = own | ~own.any(-1, keepdim=True)
        return probe + self.pool(self.probe_norm(probe), *self.pool.keys_values(x), own)
