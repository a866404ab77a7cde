"""CLIP: one tower for images and one for words, whose vectors can be compared (arXiv 2103.00020).

``ImageTower`` and ``WordTower`` serve OWL-ViT as well.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.vision.blocks import Block, BlockConfig

__all__ = ["Clip", "ClipConfig", "ImageConfig", "ImageTower", "WordConfig", "WordTower"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Of the images that CLIP and OWL-ViT were trained on, RGB in [0, 1]."""
STD = (0.26862954, 0.26130258, 0.27577711)
"""See ``MEAN``."""


@dataclass(frozen=True)
class ImageConfig:
    """Sizes of an image tower: square images of ``size`` pixels in patches of ``patch``."""

    block: BlockConfig
    layers: int
    size: int
    patch: int

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.size // self.patch


@dataclass(frozen=True)
class WordConfig:
    """Sizes of a word tower; ``end`` is the id of the end token, 2 where files are from before it was stated."""

    block: BlockConfig
    layers: int
    vocabulary: int
    length: int
    end: int = 2


@dataclass(frozen=True)
class ClipConfig:
    """Both towers, and the width of the vectors that are compared."""

    image: ImageConfig
    words: WordConfig
    projection: int


class ImageTower(nn.Module):
    """Patches and one class token (first) through blocks; ``post_norm`` is left to the caller."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        width = config.block.width
        self.config = config
        self.class_token = nn.Parameter(torch.randn(width) * width**-0.5)
        self.patch = nn.Conv2d(3, width, config.patch, config.patch, bias=False)
        self.positions = nn.Parameter(torch.randn(config.grid**2 + 1, width) * width**-0.5)
        self.pre_norm = nn.LayerNorm(width, config.block.eps)
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(config.layers))
        self.post_norm = nn.LayerNorm(width, config.block.eps)

    def forward(self, images: Tensor) -> Tensor:
        """Turn normalised images (B, 3, size, size) into tokens (B, 1 + grid^2, D), row by row."""
        patches = self.patch(images).flatten(2).mT
        tokens = torch.cat([self.class_token.expand(len(images), 1, -1), patches], 1)
        tokens = self.pre_norm(tokens + self.positions)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class WordTower(nn.Module):
    """Token ids through causal blocks; the text's vector is read at its end token."""

    def __init__(self, config: WordConfig) -> None:
        super().__init__()
        width = config.block.width
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, width)
        self.positions = nn.Parameter(torch.randn(config.length, width) * 0.01)
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(width, config.block.eps)

    def forward(self, ids: Tensor, used: Tensor | None = None) -> Tensor:
        """Turn texts into vectors.

        Args:
            ids: Token ids (B, N) int64, each text with its end token.
            used: Bool (B, N), false for padding; all if not given.

        Returns:
            Vectors (B, D).
        """
        count = ids.shape[1]
        mask = torch.ones(1, count, count, dtype=torch.bool, device=ids.device).tril()
        if used is not None:
            # A first token that is padding still sees itself: a softmax needs one.
            mask = (mask & used[:, None, :]) | torch.eye(count, dtype=torch.bool, device=ids.device)
        x = self.tokens(ids) + self.positions[:count]
        for block in self.blocks:
            x = block(x, mask=mask)
        # Files from before transformers 4.31 state a wrong end token, 2; there it is the largest id.
        is_end = ids == self.config.end
        end = ids.argmax(-1) if self.config.end == 2 else is_end.int().argmax(-1)
        return self.final_norm(x)[torch.arange(len(ids), device=ids.device), end]


class Clip(nn.Module):
    """Images and texts as unit vectors of one space."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.image = ImageTower(config.image)
        self.words = WordTower(config.words)
        self.image_projection = nn.Linear(config.image.block.width, config.projection, bias=False)
        self.word_projection = nn.Linear(config.words.block.width, config.projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def encode_images(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, P) of normalised images (B, 3, size, size)."""
        first = self.image.post_norm(self.image(images)[:, 0])
        return functional.normalize(self.image_projection(first), dim=-1)

    def encode_patches(self, images: Tensor) -> Tensor:
        """Return unit vectors (B, grid^2, P) of the patches of normalised images, row by row."""
        patches = self.image.post_norm(self.image(images)[:, 1:])
        return functional.normalize(self.image_projection(patches), dim=-1)

    def encode_words(self, ids: Tensor, used: Tensor | None = None) -> Tensor:
        """Return unit vectors (B, P) of texts; see ``WordTower``."""
        return functional.normalize(self.word_projection(self.words(ids, used)), dim=-1)

    def forward(self, images: Tensor, ids: Tensor, used: Tensor | None = None) -> Tensor:
        """Return logits (images, texts): scaled cosines."""
        return self.logit_scale.exp() * self.encode_images(images) @ self.encode_words(ids, used).mT
