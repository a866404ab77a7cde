"""The one transformer block of the package, from CLIP's to that of ViT-22B.

Letters: B batch, N tokens that look, T tokens looked at, D width, h heads, d = D / h. Masks are bool and true where
attention is allowed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Attention", "Block", "BlockConfig", "attention_meters", "projection", "xavier"]


@dataclass(frozen=True)
class BlockConfig:
    """Sizes and choices of a block; the defaults are those of object scenes."""

    width: int
    """Width D of the tokens."""
    heads: int
    """Attention heads."""
    hidden: int
    """Hidden width of the MLP."""
    inner: int = 0
    """Width of all heads together; 0 is ``width``."""
    key_width: int = 0
    """Width of what is attended to; 0 is ``width``."""
    qkv_bias: bool = False
    """Whether queries, keys and values have biases."""
    out_bias: bool = True
    """Whether the attention's output has one."""
    norm_bias: bool = True
    """Whether the layer norms have one."""
    qk_norm: Literal["none", "layer", "unit"] = "none"
    """Norm of queries and keys, per head: none; a layer norm with one gain for all heads (ViT-22B); or unit vectors
    times sqrt(d) times a gain per head, whose product is not scaled any further (the public NaViT)."""
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu"] = "gelu"
    """Between the MLP's layers; ``quick_gelu`` is CLIP's x sigmoid(1.702 x)."""
    eps: float = 1e-5
    """Of the layer norms."""
    parallel: bool = False
    """Whether attention and MLP read the same norm and are added together (ViT-22B)."""

    def __post_init__(self) -> None:
        if self.all_heads % self.heads:
            raise ValueError(f"inner: {self.all_heads} is not a multiple of heads={self.heads}")

    @property
    def all_heads(self) -> int:
        """Width of all heads together."""
        return self.inner or self.width


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


class QuickGelu(nn.Module):
    """CLIP's approximation of GELU: x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of x, same shape."""
        return x * torch.sigmoid(1.702 * x)


def activation(name: str) -> nn.Module:
    """Return the activation of a config."""
    if name == "quick_gelu":
        return QuickGelu()
    return nn.ReLU() if name == "relu" else nn.GELU("tanh" if name == "gelu_tanh" else "none")


class UnitNorm(nn.Module):
    """Unit vectors times sqrt(d) times a gain per head, on (B, h, N, d)."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(heads, 1, head_width))

    def forward(self, x: Tensor) -> Tensor:
        """Return normed vectors, same shape."""
        return functional.normalize(x, dim=-1) * (x.shape[-1] ** 0.5 * self.weight)


def _head_norm(config: BlockConfig) -> nn.Module:
    head_width = config.all_heads // config.heads
    if config.qk_norm == "unit":
        return UnitNorm(config.heads, head_width)
    return nn.LayerNorm(head_width, config.eps, bias=False) if config.qk_norm == "layer" else nn.Identity()


class Attention(nn.Module):
    """Attention of queries over keys and values; what is attended to can be projected once and kept.

    Heads are told by their width, so that a part of the heads may live on each of several processes.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        inner, keys = config.all_heads, config.key_width or config.width
        self.heads, self.head_width = config.heads, inner // config.heads
        self.scale = 1.0 if config.qk_norm == "unit" else self.head_width**-0.5
        self.query = projection(config.width, inner, config.qkv_bias)
        self.key = projection(keys, inner, config.qkv_bias)
        self.value = projection(keys, inner, config.qkv_bias)
        self.out = projection(inner, config.width, config.out_bias)
        self.query_norm, self.key_norm = _head_norm(config), _head_norm(config)

    def queries(self, x: Tensor) -> Tensor:
        """Project tokens (B, N, D) to queries (B, h, N, d)."""
        return self.query_norm(self._split(self.query(x)))

    def keys_values(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Project what is attended to, (B, T, C), to keys and values, each (B, h, T, d)."""
        return self.key_norm(self._split(self.key(z))), self._split(self.value(z))

    def merge(self, mixed: Tensor) -> Tensor:
        """Turn what the heads have read, (B, h, N, d), into (B, N, D)."""
        return self.out(mixed.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from x (B, N, D); ``mask`` is (B, T), or (B, N, T) where tokens differ in what they may see."""
        return self.merge(self.attend(self.queries(x), keys, values, mask))

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Read values with projected queries: (B, h, N, d)."""
        return functional.scaled_dot_product_attention(
            queries, keys, values, _per_head(mask), scale=self.scale
        )

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_width)).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer layer: attention and MLP, each added to its input, one after the other or in parallel.

    Sources: Dosovitskiy et al. 2021 (arXiv 2010.11929); ViT-22B (arXiv 2302.05442), section 2.
    """

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.config = config
        self.attention_norm = nn.LayerNorm(config.width, config.eps, bias=config.norm_bias)
        self.attention = Attention(config)
        if not config.parallel:
            self.mlp_norm = nn.LayerNorm(config.width, config.eps, bias=config.norm_bias)
        self.mlp = nn.Sequential(
            xavier(config.width, config.hidden, 1e-6),
            activation(config.activation),
            xavier(config.hidden, config.width, 1e-6),
        )

    def forward(
        self, x: Tensor, keys_values: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Refine tokens (B, N, D).

        Args:
            x: Tokens.
            keys_values: What ``attention.keys_values`` made of what is looked at; the tokens themselves if not given.
            mask: (B, T) or (B, N, T); all may look at all if not given.
        """
        normed = self.attention_norm(x)
        keys, values = self.attention.keys_values(normed) if keys_values is None else keys_values
        attended = self.attention(normed, keys, values, mask)
        if self.config.parallel:
            return x + attended + self.mlp(normed)
        return self.refine(x + attended)

    def refine(self, x: Tensor) -> Tensor:
        """Add what the MLP of a sequential block makes of tokens (B, N, D)."""
        return x + self.mlp(self.mlp_norm(x))


def _per_head(mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    return mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]


@torch.no_grad()
def attention_meters(
    block: Block, x: Tensor, mask: Tensor | None = None, counted: Tensor | None = None
) -> tuple[float, float]:
    """Return the largest absolute logit and the mean entropy in nats of a block's self-attention; inf, nan if diverged.

    Both warn of divergence long before the loss does: logits grow, entropy falls towards 0 (ViT-22B, section 2.2).

    Args:
        block: The block.
        x: Its input (B, N, D).
        mask: As for the block.
        counted: Which tokens look, bool (B, N), so that padding counts for nothing; all if not given.
    """
    normed = block.attention_norm(x)
    keys, _ = block.attention.keys_values(normed)
    logits = (block.attention.queries(normed) @ keys.mT).float() * block.attention.scale
    allowed = _per_head(mask)
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -torch.inf)
    weights = torch.softmax(logits, -1)
    if counted is not None:
        logits, weights = (each.transpose(1, 2)[counted] for each in (logits, weights))
    entropy = -torch.special.xlogy(weights, weights).sum(-1).mean()
    finite = logits[logits.isfinite()]
    return float(finite.abs().max()) if len(finite) else math.inf, float(entropy)
