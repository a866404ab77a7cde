"""Reading thousands of photos with a few latents: attention in chunks, whose memory does not grow with their number.

Letters: B sets, M latents, N photos of a set, D width, h heads, d = D / h. A set has no order.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from smerf.vision.blocks import Block, BlockConfig
from smerf.vision.experts import SwitchExperts

__all__ = ["ReaderConfig", "SetReader", "attend_in_chunks", "set_scale"]


def set_scale(count: int, trained: int) -> float:
    """Return the factor of the logits of a set of ``count`` for a reader trained on sets of ``trained``.

    A softmax over more keys spreads out; logits times log(count) / log(trained) hold it together. Smaller sets
    are left as they are.
    """
    return max(1.0, math.log(max(count, 2)) / math.log(max(trained, 2)))


def attend_in_chunks(
    queries: Tensor, chunks: Iterable[tuple[Tensor, Tensor]], scale: float
) -> tuple[Tensor, Tensor]:
    """Attend over keys and values that come in chunks, with a running softmax.

    Args:
        queries: (B, h, M, d).
        chunks: Keys and values, each (B, h, C, d).
        scale: Factor of the logits.

    Returns:
        What is read, (B, h, M, d), and the logarithm of the sum of exponentials, (B, h, M); both as of one softmax
        over all keys.
    """
    shape = queries.shape[:-1]
    highest = queries.new_full(shape, -torch.inf)
    total, read = queries.new_zeros(shape), torch.zeros_like(queries)
    for keys, values in chunks:
        logits = queries @ keys.mT * scale
        higher = torch.maximum(highest, logits.amax(-1))
        kept = torch.exp(highest - higher)
        weights = torch.exp(logits - higher[..., None])
        total = total * kept + weights.sum(-1)
        read = read * kept[..., None] + weights @ values
        highest = higher
    return read / total[..., None], highest + total.log()


@dataclass(frozen=True)
class ReaderConfig:
    """Sizes of a reader, and the number of photos that it was trained with."""

    width: int = 64
    heads: int = 1
    photo_width: int = 64
    experts: int = 0
    """Switch experts in place of the MLP that looks at each photo; 0 for one MLP."""
    trained: int = 64


class SetReader(nn.Module):
    """Answers a question from a set of photos: a query reads their tokens once, by normed attention.

    Experts decide photo by photo, without a capacity: which others there are changes nothing.
    """

    def __init__(self, config: ReaderConfig) -> None:
        super().__init__()
        width = config.width
        self.config = config
        self.embed = nn.Linear(config.photo_width, width)
        self.look = (
            SwitchExperts(width, 2 * width, config.experts, sys.maxsize)
            if config.experts
            else nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        )
        self.read = Block(BlockConfig(width, config.heads, 2 * width, qk_norm="layer"))
        # Alike things meet from the start; from matrices apart, the first gradients are too small to learn from.
        self.read.attention.key.load_state_dict(self.read.attention.query.state_dict())
        self.answer = nn.Linear(width, config.photo_width)

    def forward(
        self, photos: Iterable[Tensor], count: int, query: Tensor, *, is_scaled: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Read a set.

        Args:
            photos: Chunks (B, C, P) of the photos' vectors, taken one after the other.
            count: Photos in all chunks together.
            query: What is asked for, (B, P).
            is_scaled: Whether logits grow with the number of photos (``set_scale``).

        Returns:
            The answer, (B, P), and the mean balance loss of the experts (), 0 without.
        """
        attention = self.read.attention
        balance = query.new_zeros(())

        def tokens() -> Iterator[tuple[Tensor, Tensor]]:
            nonlocal balance
            for chunk in photos:
                x, loss = self._tokens(chunk)
                balance = balance + loss * chunk.shape[1] / count
                yield attention.keys_values(self.read.attention_norm(x))

        asked, _ = self._tokens(query[:, None])
        scale = attention.scale * (set_scale(count, self.config.trained) if is_scaled else 1.0)
        read, _ = attend_in_chunks(attention.queries(self.read.attention_norm(asked)), tokens(), scale)
        return self.answer(self.read.refine(asked + attention.merge(read)))[:, 0], balance

    def _tokens(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Turn vectors (B, C, P) into tokens (B, C, D), with the experts' balance loss ()."""
        x = self.embed(vectors)
        if isinstance(self.look, SwitchExperts):
            seen, balance, _ = self.look(x)
            return x + seen, balance
        return x + self.look(x), x.new_zeros(())
