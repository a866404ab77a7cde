"""Attention layers and MLPs, with the starting values of the published models."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from smerf.vision.blocks import Block, BlockConfig, projection, xavier

__all__ = ["Block", "BlockConfig", "attention_layer", "mlp", "projection"]


def mlp(sizes: list[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these sizes with an activation between them."""
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        parts += [xavier(inputs, outputs), activation()]
    return nn.Sequential(*parts[:-1])


def attention_layer(width: int, inner: int, heads: int, hidden: int, key_width: int = 0) -> Block:
    """Return a pre-norm layer of the published models; see ``BlockConfig`` for the sizes."""
    return Block(BlockConfig(width, heads, hidden, inner, key_width))
