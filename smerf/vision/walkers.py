"""What moves in a clip of a video before its cameras are known: ViViT, a pixel head, and STAR's tubelets.

Model 3 of ViViT (factorised self-attention) over tubelets of two frames and 8 x 8 pixels behind a small stem. The pixel
head adds to what the smallest difference says by itself. Each data set has heads of its own (CoFT, arXiv 2207.03807).
Letters: B clips, T frames, S queries.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.engine.settings import from_dict, to_dict
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.vision.blocks import BlockConfig
from smerf.vision.clips import FRAMES, SIZE, half_size
from smerf.vision.tubelets import Found, TubeletDecoder
from smerf.vision.video import Vivit, VivitConfig

__all__ = [
    "FORMAT",
    "MODEL_FILE",
    "Seen",
    "Walkers",
    "WalkersConfig",
    "input_score",
    "load_walkers",
    "save_walkers",
]

FORMAT, MODEL_FILE = "smerf-walkers-1", "walkers.safetensors"
_CHANNELS, _STEM, _TUBELET = 5, 24, (2, 4, 4)
_DETAIL = 8
"""Channels a pixel that the tokens give to the pixel head."""


@dataclass(frozen=True)
class WalkersConfig:
    """Sizes of the model, and the data sets that have heads."""

    width: int = 64
    heads: int = 4
    hidden: int = 128
    layers: int = 2
    queries: int = 4
    decoder_layers: int = 1
    sets: tuple[str, ...] = ("rooms",)

    @property
    def block(self) -> BlockConfig:
        """A layer."""
        return BlockConfig(self.width, self.heads, self.hidden, qk_norm="layer")


@dataclass(frozen=True)
class Seen:
    """Logits (B, T, 36, 48) that a pixel shows what moves, and the tubelets of what does."""

    moving: Tensor
    found: Found


class _Heads(nn.Module):
    """What a data set has of its own: the end of the pixel head, and the decoder's heads are trained by its boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = nn.Conv2d(16, 1, 1, bias=False)
        nn.init.zeros_(self.pixels.weight)
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, features: Tensor, difference: Tensor) -> Tensor:
        """Return logits (N, 1, h, w) of features (N, 16, h, w) and the averaged smallest difference (N, 1, h, w)."""
        return self.pixels(features) + self.gain * _compressed(difference) + self.bias


class Walkers(nn.Module):
    """The model."""

    def __init__(self, config: WalkersConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            nn.Conv2d(_CHANNELS, 16, 3, padding=1), nn.GELU(),
            nn.Conv2d(16, _STEM, 3, stride=2, padding=1), nn.GELU(),
            nn.Conv2d(_STEM, _STEM, 3, padding=1), nn.GELU(),
        )  # fmt: skip
        trunk = VivitConfig(
            config.block,
            config.layers,
            FRAMES,
            half_size(),
            _TUBELET,
            0,
            "factorised_attention",
            pool="mean",
            channels=_STEM,
        )
        self.trunk = Vivit(trunk)
        self.detail = nn.Linear(config.width, _TUBELET[0] * _TUBELET[1] * _TUBELET[2] * _DETAIL)
        self.mix = nn.Sequential(nn.Conv2d(_STEM + _DETAIL, 16, 3, padding=1), nn.GELU())
        self.decoder = TubeletDecoder(
            config.block, config.decoder_layers, config.queries, FRAMES // _TUBELET[0], _TUBELET[0]
        )
        self.heads = nn.ModuleDict({name: _Heads() for name in config.sets})

    def forward(self, inputs: Tensor, head: str) -> Seen:
        """Look at clips.

        Args:
            inputs: What ``clip_inputs`` gives, float (B, T, 5, 72, 96) in [0, 1].
            head: Data set whose head answers.
        """
        frames = inputs.flatten(0, 1)
        stem = self.stem(torch.cat([frames[:, :3] - 0.5, _compressed(frames[:, 3:])], 1))
        tokens = self.trunk.tokens(stem.unflatten(0, inputs.shape[:2]))
        features = self.mix(torch.cat([stem, self._spread(tokens)], 1))
        logits = self.heads[head](features, functional.avg_pool2d(input_score(frames), 2))
        return Seen(logits[:, 0].unflatten(0, inputs.shape[:2]), self.decoder(tokens))

    def _spread(self, tokens: Tensor) -> Tensor:
        """Return what tokens (B, T / 2, N, D) say of each pixel at half the size, (B T, 8, 36, 48)."""
        frames, rows, columns = _TUBELET
        count, steps = tokens.shape[:2]
        grid = (SIZE[0] // 2 // rows, SIZE[1] // 2 // columns)
        detail = self.detail(tokens).view(count, steps, *grid, frames, rows, columns, _DETAIL)
        return detail.permute(0, 1, 4, 7, 2, 5, 3, 6).reshape(
            count * steps * frames, _DETAIL, grid[0] * rows, -1
        )


def _compressed(difference: Tensor) -> Tensor:
    """Return differences in [0, 1] on a scale on which small ones, as most are, can be told apart; 0 stays 0."""
    return torch.log1p(50.0 * difference)


def input_score(frames: Tensor) -> Tensor:
    """Return what inputs (N, 5, 72, 96) say by themselves: the 3 x 3 mean of the smallest difference (N, 1, 72, 96)."""
    return functional.avg_pool2d(frames[:, 3:4], 3, 1, 1, count_include_pad=False)


def save_walkers(path: Path, model: Walkers) -> None:
    """Write a model, in half precision."""
    weights = {name: value.half() for name, value in model.state_dict().items()}
    write_tensors(path, weights, FORMAT, {"config": json.dumps(to_dict(model.config))})


def load_walkers(path: Path, sets: Sequence[str] = ()) -> Walkers:
    """Read a model; data sets that it has no head for get one that begins as its first.

    Raises:
        UsageError: If there is no such file.
        InvalidDataError: If it is damaged or holds something else.
    """
    weights, header = read_tensors(path, FORMAT, "a model of walkers", "smerf vision train walkers makes one")
    config = from_dict(WalkersConfig, json.loads(header["config"]))
    known = config.sets
    config = WalkersConfig(
        **{**vars(config), "sets": known + tuple(each for each in sets if each not in known)}
    )
    model = Walkers(config)
    for name in config.sets[len(known) :]:
        first = f"heads.{known[0]}."
        weights |= {
            name_.replace(first, f"heads.{name}."): value
            for name_, value in weights.items() if name_.startswith(first)
        }  # fmt: skip
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval()
