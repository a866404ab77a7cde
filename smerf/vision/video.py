"""ViViT: video transformers over tubelets, in the four forms of the paper (arXiv 2103.15691).

Letters: B videos, T steps of time, N = rows * columns positions in a frame, D width. Tokens are in the order time,
row, column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.vision.blocks import Attention, Block, BlockConfig

__all__ = ["Tubelets", "Vivit", "VivitConfig", "central_frame", "factorised_heads", "inflate"]

Form = Literal["joint", "factorised_encoder", "factorised_attention", "factorised_heads"]


@dataclass(frozen=True)
class VivitConfig:
    """Sizes of a video model.

    ``form``: ``joint`` (model 1, all tokens see all), ``factorised_encoder`` (2: each frame by itself, then
    ``time_layers`` over one vector a frame), ``factorised_attention`` (3: every layer looks through space, then through
    time) or ``factorised_heads`` (4: half of the heads look through space and half through time).
    """

    block: BlockConfig
    layers: int
    frames: int
    size: tuple[int, int]
    tubelet: tuple[int, int, int] = (2, 16, 16)
    classes: int = 400
    """0 for a model whose tokens are read."""
    form: Form = "joint"
    time_layers: int = 4
    pool: Literal["class", "mean"] = "class"
    """A class token, or the mean over tokens; models 3 and 4 have no class token."""
    embedding_norms: bool = False
    """Layer norms before and after the tubelet's linear map."""
    channels: int = 3
    """Of a frame."""

    def __post_init__(self) -> None:
        if self.form in ("factorised_attention", "factorised_heads") and self.pool == "class":
            raise ValueError(f"form={self.form}: has no class token; give pool=mean")
        if self.form == "factorised_heads" and self.block.heads % 2:
            raise ValueError(f"form=factorised_heads: needs an even number of heads, got {self.block.heads}")

    @property
    def steps(self) -> int:
        """Steps of time."""
        return self.frames // self.tubelet[0]

    @property
    def places(self) -> int:
        """Positions in a frame."""
        return (self.size[0] // self.tubelet[1]) * (self.size[1] // self.tubelet[2])


class Tubelets(nn.Module):
    """Blocks of t x h x w pixels through one linear map: a convolution whose stride is its kernel."""

    def __init__(
        self, width: int, tubelet: tuple[int, int, int], norms: bool = False, channels: int = 3
    ) -> None:
        super().__init__()
        self.project = nn.Conv3d(channels, width, tubelet, tubelet)
        pixels = channels * tubelet[0] * tubelet[1] * tubelet[2]
        self.pixel_norm = nn.LayerNorm(pixels) if norms else nn.Identity()
        self.norm = nn.LayerNorm(width) if norms else nn.Identity()

    def forward(self, video: Tensor) -> Tensor:
        """Turn video (B, frames, C, H, W) into tokens (B, T, N, D)."""
        x = video.transpose(1, 2)
        if isinstance(self.pixel_norm, nn.Identity):
            return self.norm(self.project(x).flatten(3).permute(0, 2, 3, 1))
        for axis, step in enumerate(self.project.stride):
            x = x.unfold(axis + 2, step, step)
        # (B, C, T, rows, columns, t, h, w) to pixels in the order of the kernel's.
        pixels = self.pixel_norm(x.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4).flatten(2, 3))
        return self.norm(functional.linear(pixels, self.project.weight.flatten(1), self.project.bias))


def inflate(weight: Tensor, steps: int) -> Tensor:
    """Turn an image kernel (D, 3, h, w) into a video kernel (D, 3, steps, h, w) that averages over time."""
    return (weight / steps)[:, :, None].repeat(1, 1, steps, 1, 1)


def central_frame(weight: Tensor, steps: int) -> Tensor:
    """Turn an image kernel (D, 3, h, w) into a video kernel that sees the middle frame, floor(steps / 2), alone."""
    result = weight.new_zeros(*weight.shape[:2], steps, *weight.shape[2:])
    result[:, :, steps // 2] = weight
    return result


def factorised_heads(attention: Attention, x: Tensor) -> Tensor:
    """Attend with the first half of the heads within a frame, and with the other within a place: x (B, T, N, D)."""
    steps, places = x.shape[1:3]
    tokens = x.flatten(1, 2)
    parts = (attention.queries(tokens), *attention.keys_values(tokens))
    # (B, h, T, N, d); the attention runs over the last axis but one.
    space, time = zip(*(part.unflatten(2, (steps, places)).chunk(2, 1) for part in parts))
    in_frame = attention.attend(*space)
    in_place = attention.attend(*(part.transpose(2, 3) for part in time)).transpose(2, 3)
    return attention.merge(torch.cat([in_frame, in_place], 1).flatten(2, 3)).view_as(x)


class TimedBlock(Block):
    """A block that looks through space, then through time (model 3)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__(config)
        self.time_norm = nn.LayerNorm(config.width, config.eps, bias=config.norm_bias)
        self.time = Attention(config)

    def forward_video(self, x: Tensor) -> Tensor:
        """Refine tokens (B, T, N, D)."""
        frames = x.flatten(0, 1)
        normed = self.attention_norm(frames)
        frames = frames + self.attention(normed, *self.attention.keys_values(normed))
        places = frames.view_as(x).transpose(1, 2).flatten(0, 1)
        normed = self.time_norm(places)
        places = places + self.time(normed, *self.time.keys_values(normed))
        return self.refine(places.unflatten(0, (len(x), -1)).transpose(1, 2))


class Vivit(nn.Module):
    """A video classifier."""

    def __init__(self, config: VivitConfig) -> None:
        super().__init__()
        width, is_timed = config.block.width, config.form == "factorised_attention"
        has_class = config.pool == "class"
        self.config = config
        self.tubelets = Tubelets(width, config.tubelet, config.embedding_norms, config.channels)
        # Model 1 has one token for the video and a position for it; model 2 one a frame and one for time.
        in_table = config.form == "joint" and has_class
        self.positions = nn.Parameter(torch.randn(config.steps * config.places + in_table, width) * 0.02)
        self.class_token = nn.Parameter(torch.zeros(width)) if has_class else None
        self.blocks = nn.ModuleList(
            (TimedBlock if is_timed else Block)(config.block) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width, config.block.eps)
        if config.form == "factorised_encoder":
            self.time_token = nn.Parameter(torch.zeros(width)) if has_class else None
            self.time_blocks = nn.ModuleList(Block(config.block) for _ in range(config.time_layers))
            self.time_norm = nn.LayerNorm(width, config.block.eps)
        self.classify = nn.Linear(width, config.classes) if config.classes else nn.Identity()

    def forward(self, video: Tensor) -> Tensor:
        """Return logits (B, classes) of normalised video (B, frames, 3, H, W)."""
        return self.classify(self.encode(video))

    def encode(self, video: Tensor) -> Tensor:
        """Return one vector a video, (B, D)."""
        if self.config.form == "joint":
            return self._joint(self.tubelets(video))
        if self.config.form == "factorised_encoder":
            x = self.tubelets(video)
            return self._in_two(x + self.positions.view(x.shape[1:]))
        return self.tokens(video).mean((1, 2))

    def tokens(self, video: Tensor) -> Tensor:
        """Return one vector a tubelet, (B, T, N, D), of the two forms that keep time: models 3 and 4."""
        x = self.tubelets(video)
        x = x + self.positions.view(x.shape[1:])
        for block in self.blocks:
            if isinstance(block, TimedBlock):
                x = block.forward_video(x)
            elif isinstance(block, Block):
                x = block.refine(x + factorised_heads(block.attention, block.attention_norm(x)))
        return self.norm(x)

    def _joint(self, x: Tensor) -> Tensor:
        tokens = _prepend(self.class_token, x.flatten(1, 2)) + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self._pool(self.norm(tokens))

    def _in_two(self, x: Tensor) -> Tensor:
        frames = _prepend(self.class_token, x.flatten(0, 1))
        for block in self.blocks:
            frames = block(frames)
        steps = _prepend(self.time_token, self._pool(self.norm(frames)).view(*x.shape[:2], -1))
        for block in self.time_blocks:
            steps = block(steps)
        return self._pool(self.time_norm(steps))

    def _pool(self, tokens: Tensor) -> Tensor:
        return tokens[:, 0] if self.config.pool == "class" else tokens.mean(1)


def _prepend(token: Tensor | None, tokens: Tensor) -> Tensor:
    """Put a token (D,) before tokens (B, N, D)."""
    return tokens if token is None else torch.cat([token.expand(len(tokens), 1, -1), tokens], 1)
