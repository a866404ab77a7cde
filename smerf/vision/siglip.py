"""SigLIP 2's image tower in its NaFlex form: photos of any shape, in rows of patches (arXiv 2502.14786)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.vision.blocks import Attention, Block, BlockConfig, activation, xavier

__all__ = ["NaFlex", "NaFlexConfig", "resize_positions"]


@dataclass(frozen=True)
class NaFlexConfig:
    """Sizes: patches of ``patch`` pixels, and a table of ``grid`` x ``grid`` positions."""

    block: BlockConfig
    layers: int
    patch: int
    grid: int


def resize_positions(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize a table of positions (G, G, D) to a photo's rows and columns of patches: (rows * columns, D)."""
    resized = functional.interpolate(
        table.permute(2, 0, 1)[None], grid, mode="bilinear", align_corners=False, antialias=True
    )
    return resized[0].flatten(1).mT


class PoolingHead(nn.Module):
    """One learned query that reads all tokens: a + mlp(norm(a)), where a is what it has read."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, config.width))
        self.attention = Attention(config)
        self.norm = nn.LayerNorm(config.width, config.eps)
        self.mlp = nn.Sequential(
            xavier(config.width, config.hidden),
            activation(config.activation),
            xavier(config.hidden, config.width),
        )

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Pool tokens (B, N, D), those where ``mask`` (B, N) is true, to (B, D)."""
        probe = self.probe.expand(len(tokens), -1, -1)
        read = self.attention(probe, *self.attention.keys_values(tokens), mask)
        return (read + self.mlp(self.norm(read)))[:, 0]


class NaFlex(nn.Module):
    """The image tower: patches in any grid, positions resized to it."""

    def __init__(self, config: NaFlexConfig) -> None:
        super().__init__()
        width = config.block.width
        self.config = config
        self.patch = nn.Linear(3 * config.patch**2, width)
        self.positions = nn.Parameter(torch.randn(config.grid**2, width) * width**-0.5)
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(config.layers))
        self.post_norm = nn.LayerNorm(width, config.block.eps)
        self.head = PoolingHead(config.block)

    def forward(self, patches: Tensor, grids: Tensor) -> tuple[Tensor, Tensor]:
        """Encode photos.

        Args:
            patches: (B, N, 3 * patch^2), pixels of a patch row by row with channels last; padding at the end.
            grids: Rows and columns of patches of each photo, (B, 2) int64.

        Returns:
            Vectors (B, D), and tokens (B, N, D), of which the padding's mean nothing.
        """
        table = self.positions.unflatten(0, (self.config.grid, self.config.grid))
        x = self.patch(patches)
        positions = torch.zeros_like(x)
        for row, (height, width) in enumerate(grids.tolist()):
            positions[row, : height * width] = resize_positions(table, (height, width))
        x = x + positions
        mask = torch.arange(x.shape[1], device=x.device) < grids.prod(-1, keepdim=True)
        for block in self.blocks:
            x = block(x, mask=mask)
        x = self.post_norm(x)
        return self.head(x, mask), x
