"""What a model of a given size would take: parameters, FLOPs, memory, GPUs and time, computed without making it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from smerf.vision.blocks import Attention, Block, BlockConfig

__all__ = ["GPUS", "PRESETS", "Plan", "Schedule", "TowerConfig", "Vit", "plan"]

_STATES = {
    "AdamW, float32 everything": 16,
    "bfloat16, float32 master, bfloat16 moments": 12,
    "inference, bfloat16": 2,
}
"""Bytes a parameter: weight, gradient, two moments (and the master weight)."""
GPUS = {"80 GB": 70.0, "141 GB": 125.0}
"""GiB of a GPU that are left for these states."""
_PEAK = 989e12
"""FLOP/s of an H100 in bfloat16, dense, by its data sheet."""
_SHARE = 0.4
"""Of the peak that a training reaches."""


@dataclass(frozen=True)
class Schedule:
    """Steps of a training and images in each."""

    steps: int
    batch: int


@dataclass(frozen=True)
class TowerConfig:
    """A plain vision transformer with attention pooling and a classifier."""

    block: BlockConfig
    layers: int
    size: int
    patch: int
    classes: int
    schedule: Schedule | None = None

    @property
    def tokens(self) -> int:
        """Tokens of an image."""
        return (self.size // self.patch) ** 2


def _block_22b(width: int, heads: int) -> BlockConfig:
    return BlockConfig(width, heads, 4 * width, norm_bias=False, qk_norm="layer", parallel=True)


PRESETS = {
    "tiny": TowerConfig(_block_22b(64, 4), 2, 32, 8, 10),
    "cpu": TowerConfig(_block_22b(192, 3), 6, 96, 8, 100),
    "base": TowerConfig(_block_22b(768, 12), 12, 224, 16, 1000),
    "vit-22b": TowerConfig(_block_22b(6144, 48), 48, 224, 14, 30_000, Schedule(177_000, 65_536)),
}
"""Named sizes; ``vit-22b`` is that of arXiv 2302.05442, table 1, with its schedule as far as it is public."""


class Vit(nn.Module):
    """Images to class logits through the blocks of ViT-22B."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width = config.block.width
        self.config = config
        self.patch = nn.Linear(3 * config.patch**2, width)
        self.positions = nn.Parameter(torch.zeros(config.tokens, width))
        self.blocks = nn.ModuleList(Block(config.block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width, config.block.eps, bias=False)
        self.probe = nn.Parameter(torch.zeros(1, 1, width))
        self.pool = Attention(config.block)
        self.classify = nn.Linear(width, config.classes)

    def forward(self, patches: Tensor) -> Tensor:
        """Return logits (B, classes) of images cut into patches (B, N, 3 * patch^2)."""
        x = self.patch(patches) + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        probe = self.probe.expand(len(x), -1, -1)
        return self.classify(self.pool(probe, *self.pool.keys_values(x))[:, 0])


@dataclass(frozen=True)
class Plan:
    """What a size takes.

    ``block_matrices`` are the parameters of the blocks' matrices alone, which papers quote. ``forward_flops`` are of
    one image; ``activation_gib`` of one image in bfloat16, without and with recomputation. ``states`` holds bytes a
    parameter by name. ``gpu_days`` is None where there is no schedule.
    """

    parameters: int
    block_matrices: int
    forward_flops: int
    activation_gib: tuple[float, float]
    states: dict[str, int]
    training_flops: float | None
    gpu_days: float | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "parameters": self.parameters,
            "block_matrices": self.block_matrices,
            "forward_flops": self.forward_flops,
            "activation_gib": list(self.activation_gib),
            "state_gib": {state: self.gib(state) for state in self.states},
            "training_flops": self.training_flops,
            "gpu_days": self.gpu_days,
        }

    def gib(self, state: str) -> float:
        """Return the memory of a state, without activations."""
        return self.parameters * self.states[state] / 2**30

    def gpus(self, state: str, kind: str) -> int:
        """Return how many GPUs hold a state between them."""
        return math.ceil(self.gib(state) / GPUS[kind])


def plan(config: TowerConfig) -> Plan:
    """Count what a size takes, on shapes alone."""
    with torch.device("meta"):
        model = Vit(config)
    parameters = sum(each.numel() for each in model.parameters())
    matrices = sum(each.numel() for each in model.blocks.parameters() if each.ndim == 2)
    flops = _forward_flops(config)
    schedule = config.schedule
    # Backward costs twice as much as forward.
    training = None if schedule is None else 3.0 * flops * schedule.steps * schedule.batch
    days = None if training is None else training / (_PEAK * _SHARE) / 86_400
    return Plan(parameters, matrices, flops, _activations(config), dict(_STATES), training, days)


def _forward_flops(config: TowerConfig) -> int:
    """Return the floating-point operations of one image: two for each multiplication of a matrix product."""
    tokens, width, inner, hidden = (
        config.tokens,
        config.block.width,
        config.block.all_heads,
        config.block.hidden,
    )
    block = 2 * tokens * (4 * width * inner + 2 * width * hidden) + 4 * tokens**2 * inner
    pool = 2 * width * inner * (2 * tokens + 2) + 4 * tokens * inner
    ends = 2 * tokens * 3 * config.patch**2 * width + 2 * width * config.classes
    return config.layers * block + pool + ends


def _activations(config: TowerConfig) -> tuple[float, float]:
    """Return the GiB of what one image's backward pass needs: everything, and the blocks' inputs alone."""
    width, inner, hidden = config.block.width, config.block.all_heads, config.block.hidden
    # Input, norm, queries, keys and values before and after their norms, what heads read, both sides of the activation.
    block = config.tokens * (2 * width + 6 * inner + 2 * hidden)
    return config.layers * block * 2 / 2**30, config.layers * config.tokens * width * 2 / 2**30
