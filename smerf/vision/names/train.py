"""Learning the vocabulary: draw scenes, train on crops of their photos, choose the acceptance score, write the file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from smerf.engine.adam_state import add_prefix, pack_adam, restore_adam, strip_prefix
from smerf.engine.schedule import Schedule
from smerf.vision.names.network import STEP, NameNet, NetConfig
from smerf.vision.names.photos import Photo, crop, ground_of, photos_of
from smerf.vision.names.words import WORDS

__all__ = ["NameTrainer", "TrainConfig", "draw_all", "draw_held_out"]


@dataclass(frozen=True)
class TrainConfig:
    """A training: scenes of ``views`` photos, ``steps`` of ``batch`` crops, and scenes that are only judged by."""

    scenes: int = 440
    hard_scenes: int = 60
    """Scenes more that are full of what has no word."""
    views: int = 8
    held_out: int = 14
    held_out_hard: int = 6
    held_out_views: int = 12
    steps: int = 3600
    batch: int = 6
    about: float = 0.7
    """Share of the crops that are about a word, each as often as another; the rest lie anywhere."""
    rate: float = 2e-3
    decay: float = 0.02
    warmup: int = 100
    final: float = 0.04
    seed: int = 0
    net: NetConfig = field(default_factory=lambda: NetConfig(WORDS))


_LEAST_PIXELS = 40
"""Pixels of a word from which a photo shows it."""
_HELD_OUT_SEED = 1_000_000
"""Seed of the first scene that is only judged by."""


def draw_all(
    folder: Path, config: TrainConfig, report: Callable[[int], None] = lambda done: None
) -> list[list[Photo]]:
    """Return the photos of the scenes to train on, rendering those that the folder lacks."""
    return _draw(folder, config.scenes, config.hard_scenes, config.views, config.seed * 10_000, report)


def draw_held_out(
    folder: Path, config: TrainConfig, report: Callable[[int], None] = lambda done: None
) -> list[list[Photo]]:
    """Return the photos of the scenes to judge by."""
    views, seed = config.held_out_views, _HELD_OUT_SEED
    return _draw(folder, config.held_out, config.held_out_hard, views, seed, report)


def _draw(
    folder: Path, easy: int, hard: int, views: int, seed: int, report: Callable[[int], None]
) -> list[list[Photo]]:
    scenes = []
    for number in range(easy + hard):
        is_hard = number >= easy
        own = seed + (number - easy if is_hard else number)
        scenes.append(photos_of(folder, own, views, is_hard=is_hard))
        report(number + 1)
    return scenes


def _word_weights(counts: np.ndarray) -> Tensor:
    """Return a weight for "none" and each word by its pixels, 1 on average over pixels: rare words weigh more."""
    share = (counts + 1.0) / (counts + 1.0).sum()
    weights = share**-0.25
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)


class NameTrainer:
    """The trainer of ``smerf.engine.loop``."""

    def __init__(self, config: TrainConfig, scenes: list[list[Photo]]) -> None:
        self.config, self.step = config, 0
        self.seconds = 0.0
        """Processor time of the steps."""
        torch.manual_seed(config.seed)
        self.net = NameNet(config.net)
        self._parameters = list(self.net.parameters())
        self._adam = torch.optim.AdamW(self._parameters, config.rate, weight_decay=config.decay)
        self._schedule = Schedule(config.steps)
        self._photos = [
            (photo, ground) for scene in scenes for ground in [ground_of(scene)] for photo in scene
        ]
        counts = np.stack(
            [
                np.bincount(photo.target.ravel(), minlength=len(config.net.words) + 1)
                for photo, _ in self._photos
            ]
        )
        self._showing = [np.flatnonzero(column >= _LEAST_PIXELS) for column in counts.T]
        self._weights = _word_weights(counts.sum(0))

    def _choose(self, rng: np.random.Generator) -> tuple[int, int]:
        """Return a photo's number and the word that its crop is about: most often any word is as likely as another."""
        word = int(rng.integers(1, len(self._showing))) if rng.random() < self.config.about else 0
        showing = self._showing[word]
        if word and len(showing):
            return int(showing[rng.integers(len(showing))]), word
        return int(rng.integers(len(self._photos))), 0

    def advance(self) -> dict[str, float]:
        """Take one optimiser step on a batch of crops."""
        began, config = time.process_time(), self.config
        rng = np.random.default_rng([config.seed, self.step, 3])
        for group in self._adam.param_groups:
            group["lr"] = config.rate * self._schedule.rate(self.step, config.warmup, config.final)
        chosen = [self._choose(rng) for _ in range(config.batch)]
        crops = [crop(*self._photos[number], rng, word) for number, word in chosen]
        logits = self.net([torch.from_numpy(each) for each, _, _ in crops], [start for *_, start in crops])
        # The word of the middle of every square of pixels that the network answers for.
        words = [each[STEP // 2 :: STEP, STEP // 2 :: STEP].astype(np.int64) for _, each, _ in crops]
        flat = torch.cat([each.flatten(1).T for each in logits])
        truth = torch.cat([torch.from_numpy(each).flatten() for each in words])
        loss = functional.cross_entropy(flat, truth, self._weights, label_smoothing=0.05)
        self._adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._adam.step()
        self.step += 1
        self.seconds += time.process_time() - began
        named = truth > 0
        right = (flat.argmax(1) == truth)[named].float().mean() if named.any() else torch.tensor(0.0)
        return {"loss": float(loss.detach()), "right": float(right)}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and moments."""
        return add_prefix("net", self.net.state_dict()) | pack_adam("adam", self._adam, self._parameters)

    def state(self) -> dict[str, Any]:
        """Return the step and the time that it took to get there."""
        return {"step": self.step, "seconds": self.seconds}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.net.load_state_dict(strip_prefix("net", tensors))
        restore_adam("adam", self._adam, self._parameters, tensors)
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
