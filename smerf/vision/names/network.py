"""The network: convolutions to patches, a packed transformer over them, and a word for every fourth pixel.

Photos of any shape share rows of tokens (NaViT, arXiv 2307.06304, section 2); a crop keeps the places that its patches
have in the whole photo. Convolutions before a small transformer: Xiao et al. 2021 (arXiv 2106.14881).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.vision.blocks import Block, BlockConfig
from smerf.vision.names.inputs import CHANNELS, PATCH
from smerf.vision.packing import pack, segment_mask, unpack

__all__ = ["STEP", "NameNet", "NetConfig", "read_net", "write_net"]

STEP = 4
"""Pixels between the words along each axis."""
_FORMAT = "smerf-names-1"


@dataclass(frozen=True)
class NetConfig:
    """Sizes of the network; photos of at most ``places`` patches along each axis, in rows of ``row`` tokens."""

    words: tuple[str, ...]
    block: BlockConfig = field(
        default_factory=lambda: BlockConfig(width=96, heads=4, hidden=224, qk_norm="layer")
    )
    layers: int = 4
    stem: tuple[int, int] = (24, 48)
    places: int = 32
    row: int = 304


class NameNet(nn.Module):
    """Logits of "none" and of each word, for photos of any shape."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        width, (first, second) = config.block.width, config.stem
        self.near = nn.Sequential(
            nn.Conv2d(CHANNELS, first, 3, 2, 1), nn.GELU(), nn.Conv2d(first, second, 3, 2, 1), nn.GELU()
        )
        self.patch = nn.Conv2d(second, width, 3, 2, 1)
        self.rows = nn.Parameter(torch.randn(config.places, width) * 0.02)
        self.columns = nn.Parameter(torch.randn(config.places, width) * 0.02)
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.join = nn.Conv2d(width + second, 96, 1)
        self.classify = nn.Conv2d(96, len(config.words) + 1, 3, 1, 1)

    def forward(self, photos: Sequence[Tensor], starts: Sequence[tuple[int, int]] = ()) -> list[Tensor]:
        """Return logits (1 + words, H / 4, W / 4) of photos (C, H, W).

        Args:
            photos: Their sides are multiples of 8.
            starts: Row and column of each one's first patch in the whole photo; (0, 0) if not given.
        """
        near = [self.near(photo[None]) for photo in photos]
        grids = [self.patch(each)[0] for each in near]
        places = [
            torch.cartesian_prod(torch.arange(grid.shape[1]) + row, torch.arange(grid.shape[2]) + column)
            for grid, (row, column) in zip(grids, starts or [(0, 0)] * len(grids), strict=True)
        ]
        longest = max(len(place) for place in places)
        packed = pack([grid.flatten(1).T for grid in grids], places, max(self.config.row, longest))
        mask = segment_mask(packed.segment)
        x = packed.tokens + self.rows[packed.place[..., 0]] + self.columns[packed.place[..., 1]]
        for block in self.blocks:
            x = block(x, mask=mask)
        found, _ = unpack(self.norm(x), packed)
        return [self._words(tokens, grid, each) for tokens, grid, each in zip(found, grids, near)]

    def _words(self, tokens: Tensor, grid: Tensor, near: Tensor) -> Tensor:
        height, width = grid.shape[1:]
        far = tokens[: height * width].T.reshape(1, -1, height, width)
        far = functional.interpolate(far, scale_factor=PATCH // STEP, mode="bilinear", align_corners=False)
        return self.classify(functional.gelu(self.join(torch.cat([far, near], 1))))[0]


def write_net(path: Path, net: NameNet, least: float) -> None:
    """Write weights, float16, with the settings and the acceptance score in the header."""
    header = {"config": json.dumps(to_dict(net.config)), "least": repr(least)}
    write_tensors(path, {name: value.half() for name, value in net.state_dict().items()}, _FORMAT, header)


def read_net(path: Path) -> tuple[NameNet, float]:
    """Return the network and its acceptance score.

    Raises:
        UsageError: If there is no such file.
        InvalidDataError: If it is damaged or something else.
    """
    tensors, header = read_tensors(path, _FORMAT, "names", "run `smerf vision train`")
    net = NameNet(from_dict(NetConfig, json.loads(header["config"])))
    net.load_state_dict({name: value.float() for name, value in tensors.items()})
    return net.eval(), float(header["least"])
