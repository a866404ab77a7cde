"""Attention layers and MLPs, with the starting values of the published models."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "Layer", "mlp", "projection"]


def projection(inputs: int, outputs: int, bias: bool = False) -> nn.Linear:
    """Return a linear layer that starts from a normal of variance 1/inputs, cut at two deviations."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    std = math.sqrt(1.0 / inputs)
    nn.init.trunc_normal_(layer.weight, std=std, a=-2.0 * std, b=2.0 * std)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def xavier(inputs: int, outputs: int, bias_std: float = 0.0) -> nn.Linear:
    """Return a linear layer with Xavier-uniform weights and a small or zero bias."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight)
    nn.init.normal_(layer.bias, std=bias_std)
    return layer


def mlp(sizes: list[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these sizes with an activation between them."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        parts += [xavier(inputs, outputs), activation()]
    return nn.Sequential(*parts[:-1])


class Attention(nn.Module):
    """Attention of queries over keys and values; the two projections of the latter can be kept.

    Args:
        width: Width of the queries and of the output.
        inner: Width of all heads together.
        heads: Number of heads.
        key_width: Width of what is attended to; ``width`` if not given.
    """

    def __init__(self, width: int, inner: int, heads: int, key_width: int | None = None) -> None:
        super().__init__()
        if inner % heads:
            raise ValueError(f"inner: {inner} is not a multiple of heads={heads}")
        self.heads = heads
        self.query = projection(width, inner)
        self.key = projection(key_width or width, inner)
        self.value = projection(key_width or width, inner)
        self.out = projection(inner, width, bias=True)

    def keys_values(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Project what is attended to, (B, T, C), to keys and values, each (B, heads, T, inner / heads)."""
        return self._split(self.key(z)), self._split(self.value(z))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from x (B, N, width); ``mask`` (B, T) is true where attention is allowed."""
        allowed = None if mask is None else mask[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(self._split(self.query(x)), keys, values, allowed)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Layer(nn.Module):
    """A pre-norm transformer layer: attention and MLP, each added to its input."""

    def __init__(self, width: int, inner: int, heads: int, hidden: int, key_width: int | None = None) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, inner, heads, key_width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(xavier(width, hidden, 1e-6), nn.GELU(), xavier(hidden, width, 1e-6))

    def forward(
        self, x: Tensor, keys_values: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Refine x (B, N, width) by attending to itself, or to kept keys and values."""
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed) if keys_values is None else keys_values
        x = x + self.attention(normed, keys, values, mask)
        return x + self.mlp(self.mlp_norm(x))
