"""OWL-ViT and OWLv2: boxes in an image whose classes are any texts (arXiv 2205.06230, 2306.09683)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.vision.clip import ClipConfig, ImageTower, WordTower

__all__ = ["Found", "Owl", "OwlConfig", "box_bias"]


@dataclass(frozen=True)
class OwlConfig:
    """Sizes of a detector; ``has_objectness`` is OWLv2, whose images are padded to squares instead of stretched."""

    towers: ClipConfig
    has_objectness: bool = False


@dataclass(frozen=True)
class Found:
    """What a detector says of each token.

    ``boxes`` (B, N, 4): centre and size in [0, 1] of the square image. ``logits`` (B, N, Q) for each query, the lowest
    float for padding. ``objectness`` (B, N) logits, from OWLv2 alone.
    """

    boxes: Tensor
    logits: Tensor
    objectness: Tensor | None = None


def box_bias(grid: int) -> Tensor:
    """Return where the boxes of a grid's tokens start, before the sigmoid: (grid^2, 4).

    The centre starts at the cell's far corner ((j + 1) / grid, (i + 1) / grid), which is what the public weights were
    trained with, and the size at 1 / grid.
    """
    steps = torch.arange(1, grid + 1) / grid
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    corner = torch.stack([x, y], -1).reshape(-1, 2)
    start = torch.cat([corner, torch.full_like(corner, 1.0 / grid)], -1)
    return torch.log(start + 1e-4) - torch.log1p(-start + 1e-4)


def _head(width: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, outputs)
    )


class ClassHead(nn.Module):
    """Scores of tokens against query vectors: cosines with a shift and a scale of each token."""

    def __init__(self, width: int, query_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, query_width)
        self.shift = nn.Linear(width, 1)
        self.scale = nn.Linear(width, 1)

    def forward(self, tokens: Tensor, queries: Tensor, used: Tensor | None = None) -> Tensor:
        """Return logits (B, N, Q) of tokens (B, N, D) for queries (B, Q, P); ``used`` (B, Q) bool."""
        logits = _normalise(self.project(tokens)) @ _normalise(queries).mT
        logits = (logits + self.shift(tokens)) * (functional.elu(self.scale(tokens)) + 1.0)
        if used is not None:
            logits = torch.where(used[:, None, :], logits, torch.finfo(logits.dtype).min)
        return logits


def _normalise(vectors: Tensor) -> Tensor:
    return vectors / (torch.linalg.vector_norm(vectors, dim=-1, keepdim=True) + 1e-6)


class Owl(nn.Module):
    """An open-vocabulary detector: every patch proposes one box."""

    bias: Tensor

    def __init__(self, config: OwlConfig) -> None:
        super().__init__()
        towers = config.towers
        width = towers.image.block.width
        self.config = config
        self.image, self.words = ImageTower(towers.image), WordTower(towers.words)
        # The comparison of whole images is not used here, but part of the files.
        self.image_projection = nn.Linear(width, towers.projection, bias=False)
        self.word_projection = nn.Linear(towers.words.block.width, towers.projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))
        self.norm = nn.LayerNorm(width, towers.image.block.eps)
        self.class_head = ClassHead(width, towers.words.block.width)
        self.box_head = _head(width, 4)
        self.objectness_head = _head(width, 1) if config.has_objectness else None
        self.register_buffer("bias", box_bias(towers.image.grid), persistent=False)

    def refresh_buffers(self) -> None:
        """Compute again what no file stores."""
        self.bias = box_bias(self.config.towers.image.grid)

    def image_tokens(self, images: Tensor) -> Tensor:
        """Turn normalised images (B, 3, size, size) into tokens (B, grid^2, D): patches times the class token."""
        tokens = self.image.post_norm(self.image(images))
        return self.norm(tokens[:, 1:] * tokens[:, :1])

    def queries(self, ids: Tensor, used: Tensor | None = None) -> Tensor:
        """Turn texts (Q, N) into unit query vectors (Q, P); see ``WordTower``."""
        return functional.normalize(self.word_projection(self.words(ids, used)), dim=-1)

    def detect(self, tokens: Tensor, queries: Tensor, used: Tensor | None = None) -> Found:
        """Find queries (B, Q, P) in the tokens of images; ``used`` (B, Q) bool is false for padding."""
        boxes = torch.sigmoid(self.box_head(tokens) + self.bias)
        objectness = None if self.objectness_head is None else self.objectness_head(tokens)[..., 0]
        return Found(boxes, self.class_head(tokens, queries, used), objectness)

    def forward(self, images: Tensor, ids: Tensor, used: Tensor | None = None) -> Found:
        """Find texts in images.

        Args:
            images: Normalised, (B, 3, size, size).
            ids: Token ids (B, Q, N) int64; a text whose first id is 0 is padding.
            used: Bool (B, Q, N), false for padding within a text.
        """
        batch, count, _ = ids.shape
        vectors = self.queries(ids.flatten(0, 1), None if used is None else used.flatten(0, 1))
        return self.detect(self.image_tokens(images), vectors.unflatten(0, (batch, count)), ids[..., 0] > 0)
