"""Training of the model that finds what moves: rendered clips with true labels, and a user's own with doubtful ones.

One model, quotas of steps and a head for each data set (CoFT, arXiv 2207.03807). Everything lies in one folder and is
taken up again where it stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from smerf.engine.adam_state import add_prefix, pack_adam, restore_adam, strip_prefix
from smerf.engine.files import write_json
from smerf.engine.folder import describe_differences
from smerf.engine.loop import resume, run_steps
from smerf.engine.progress import Progress
from smerf.engine.quotas import quota_order
from smerf.engine.schedule import Schedule
from smerf.engine.settings import load_yaml, require, save_yaml, to_dict
from smerf.engine.signals import raise_if_stopped
from smerf.engine.tensors import read_tensors, write_tensors
from smerf.errors import UsageError
from smerf.vision.clips import Clips, make_clips
from smerf.vision.tubelets import Truth, box_iou, match, tubelet_loss
from smerf.vision.walkers import (
    FORMAT,
    MODEL_FILE,
    Seen,
    Walkers,
    WalkersConfig,
    input_score,
    load_walkers,
    save_walkers,
)

__all__ = ["OWN", "ROOMS", "WalkersTrainer", "WalkersTraining", "losses", "recall_at", "train_walkers"]

ROOMS, OWN = "rooms", "own"
_CLIPS_FORMAT, _KIND = "smerf-clips-1", "walkers"
_SHARD = 10
_PIXELS, _BOXES = 4.0, 0.5
_STILL_SHARE = 0.01
"""Share of the pixels that show nothing moving which may be marked where recall is measured."""
_MAX_LOSS = 0.02
"""A model that was trained on is kept unless recall on rendered clips falls by more."""


@dataclass(frozen=True)
class WalkersTraining:
    """Data, sizes and schedule."""

    model: WalkersConfig = field(default_factory=WalkersConfig)
    scenes: tuple[str, ...] = ("tabletop", "flat")
    rooms: int = 100
    """Places of the camera in each scene."""
    figures: int = 4
    """Clips of each place."""
    held_out: int = 10
    """Last places of each scene, which are measured on."""
    quotas: tuple[tuple[str, int], ...] = ((ROOMS, 1),)
    """Data sets with their shares of the steps."""
    steps: int = 300
    batch: int = 8
    rate: float = 3e-3
    warmup: int = 50
    final: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 < self.held_out < self.rooms, "held_out", f"1 to {self.rooms - 1}", self.held_out)
        require(min(self.steps, self.batch, self.figures) > 0, "steps", "1 or more", self.steps)


class WalkersTrainer:
    """What one step is, and what the next depends on."""

    def __init__(self, model: Walkers, sets: dict[str, Clips], config: WalkersTraining) -> None:
        self.model, self.sets, self.config = model.train(), sets, config
        self.step = 0
        self._order = quota_order(config.quotas, config.steps, config.seed)
        self._schedule = Schedule(config.steps)
        self._parameters = list(model.parameters())
        self._adam = torch.optim.AdamW(self._parameters, lr=config.rate)

    def advance(self) -> dict[str, float]:
        """Take one step on one data set."""
        config, name = self.config, self._order[self.step]
        for group in self._adam.param_groups:
            group["lr"] = config.rate * self._schedule.rate(self.step, config.warmup, config.final)
        batch = _sample(self.sets[name], config.batch, config.seed * 1_000_003 + self.step)
        # Heads of other data sets have no gradient at all, so that weight decay leaves them alone too.
        self._adam.zero_grad(set_to_none=True)
        parts = losses(self.model(batch.inputs.float() / 255.0, name), batch)
        total = torch.stack(list(parts.values())).sum()
        total.backward()
        nn.utils.clip_grad_norm_([each for each in self._parameters if each.grad is not None], 1.0)
        self._adam.step()
        self.step += 1
        return {"loss": total.item(), **{f"{name}.{part}": value.item() for part, value in parts.items()}}

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and moments."""
        return add_prefix("model", self.model.state_dict()) | pack_adam("adam", self._adam, self._parameters)

    def state(self) -> dict[str, Any]:
        """Return the step."""
        return {"step": self.step}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Continue from what ``tensors`` and ``state`` returned."""
        self.model.load_state_dict(strip_prefix("model", tensors))
        restore_adam("adam", self._adam, self._parameters, tensors)
        self.step = state["step"]


def losses(seen: Seen, batch: Clips) -> dict[str, Tensor]:
    """Return the weighted losses ``pixels``, ``score`` and ``box``; what nobody knows counts for nothing."""
    known = (batch.moving != Clips.UNKNOWN).float()
    target = batch.moving.float() / 254.0
    cross = functional.binary_cross_entropy_with_logits(seen.moving, target.clamp_max(1.0), reduction="none")
    tubes = tubelet_loss(seen.found, Truth(batch.boxes, batch.shown, batch.labelled))
    pixels = (cross * known).sum() / known.sum().clamp_min(1.0)
    return {"pixels": _PIXELS * pixels, "score": tubes["score"], "box": _BOXES * tubes["box"]}


def _sample(clips: Clips, count: int, seed: int) -> Clips:
    """Return some clips, half of them mirrored, half of them backwards, and half of them without colours."""
    generator = torch.Generator().manual_seed(seed)
    batch = clips[torch.randint(len(clips), (count,), generator=generator)]
    mirrored, backwards, colourless = torch.rand(3, count, generator=generator) < 0.5
    boxes = batch.boxes.clone()
    boxes[mirrored, ..., 0] = 1.0 - boxes[mirrored, ..., 0]
    values = {**vars(batch), "boxes": boxes, "inputs": _repainted(batch.inputs, colourless, generator)}
    for name in ("inputs", "moving"):
        values[name] = torch.where(_column(mirrored, values[name]), values[name].flip(-1), values[name])
    for name, value in values.items():
        values[name] = torch.where(_column(backwards, value), value.flip(1), value)
    return Clips(**values)


def _repainted(inputs: Tensor, colourless: Tensor, generator: torch.Generator) -> Tensor:
    """Return inputs whose colours trade places, or are grey: figures are not to be told by their paint.

    Differences grow or shrink by up to a half, as they do with contrast.
    """
    order = torch.rand(len(inputs), 3, generator=generator).argsort(1)
    colours = inputs[torch.arange(len(inputs))[:, None], :, order].transpose(1, 2)
    colours = colours.masked_fill(_column(colourless, colours), 128)
    gain = 1.5 ** (2.0 * torch.rand(len(inputs), 1, 1, 1, 1, generator=generator) - 1.0)
    differing = (inputs[:, :, 3:] * gain).clamp_max(255.0).to(torch.uint8)
    return torch.cat([colours, differing], 2)


def _column(flags: Tensor, like: Tensor) -> Tensor:
    return flags.view(-1, *(1,) * (like.ndim - 1))


@torch.no_grad()
def recall_at(model: Walkers, clips: Clips, head: str, share: float = _STILL_SHARE) -> dict[str, float]:
    """Return the recall of moving pixels where a share of the others is marked, for the model and for its input, and
    the mean overlap of the true boxes with those of the tubelets that are matched to them.
    """
    model.eval()
    scores, plain, overlaps = [], [], []
    for start in range(0, len(clips), 8):
        part = clips[slice(start, start + 8)]
        inputs = part.inputs.float() / 255.0
        seen = model(inputs, head)
        scores.append(seen.moving)
        reduced = functional.avg_pool2d(input_score(inputs.flatten(0, 1)), 2)
        plain.append(reduced[:, 0].unflatten(0, inputs.shape[:2]))
        truth = Truth(part.boxes, part.shown, part.labelled)
        for clip, (queries, things) in enumerate(match(seen.found, truth)):
            shown = part.shown[clip][:, things]
            overlaps.append(box_iou(seen.found.boxes[clip][:, queries], part.boxes[clip][:, things])[shown])
    model.train()
    moving, still = clips.moving > 127, clips.moving == 0
    found = {}
    for name, score in (("recall", torch.cat(scores)), ("recall_of_input", torch.cat(plain))):
        level = np.quantile(score[still].numpy(), 1.0 - share)
        found[name] = float((score[moving] > level).float().mean())
    return {**found, "tube_iou": float(torch.cat(overlaps).mean()) if overlaps else 0.0}


def _rooms(
    folder: Path, config: WalkersTraining, progress: Callable[[int, int], None]
) -> tuple[Clips, Clips]:
    """Return clips to train on and to measure on; what is in the folder already is not made again."""
    parts: tuple[list[Clips], list[Clips]] = ([], [])
    total = len(config.scenes) * config.rooms
    for number, scene in enumerate(config.scenes):
        for first in range(0, config.rooms, _SHARD):
            path = folder / f"{scene}-{first:04d}.safetensors"
            rooms = range(first, min(first + _SHARD, config.rooms))
            if not path.is_file():
                made = Clips.join(list(make_clips(scene, rooms, config.figures, config.seed)))
                write_tensors(path, vars(made), _CLIPS_FORMAT)
            clips = Clips(**read_tensors(path, _CLIPS_FORMAT, "clips", "delete it and train again")[0])
            split = max(0, config.rooms - config.held_out - first) * config.figures
            parts[0].append(clips[slice(0, split)])
            parts[1].append(clips[slice(split, None)])
            progress(number * config.rooms + rooms.stop, total)
            raise_if_stopped()
    return Clips.join(parts[0]), Clips.join(parts[1])


def _keep_config(folder: Path, config: WalkersTraining) -> None:
    """Write the config, unless the folder's clips and checkpoints are of another."""
    path = folder / "config.yaml"
    if path.is_file():
        known = load_yaml(WalkersTraining, path, _KIND)
        if differences := describe_differences(to_dict(known), to_dict(config)):
            changed = ", ".join(differences[:6])
            raise UsageError(
                f"{folder}: holds a training of another config: {changed}; give another folder with -o"
            )
    save_yaml(path, config, _KIND)


def train_walkers(
    folder: Path,
    config: WalkersTraining,
    own: Clips | None = None,
    start: Path | None = None,
    command: str = "",
    *,
    progress: Callable[[str, str, float | None], Progress],
) -> dict[str, Any]:
    """Make the rendered clips, train, and write ``walkers.safetensors`` and ``record.json``.

    Args:
        folder: Where everything lies; an unfinished training continues.
        config: What and how long.
        own: A user's clips; they need a share in ``config.quotas``.
        start: Model to go on from; it is kept if recall on rendered clips falls by more than .02.
        command: For the record.
        progress: Makes the progress of a step from its name, unit and total.

    Returns:
        The record.

    Raises:
        MissingPartError: If embreex is not installed.
        UsageError: If the folder holds a training of another config, or the quotas don't fit the data.
    """
    names = tuple(name for name, _ in config.quotas)
    if (OWN in names) != (own is not None):
        raise UsageError(
            f"quotas: name {', '.join(names)}; {OWN} belongs there if clips of yours are given, and only then"
        )
    _keep_config(folder, config)
    with progress("clips", "rooms", None) as shown:
        rooms, held_out = _rooms(folder / "clips", config, shown.update)
    sets = {ROOMS: rooms} | ({} if own is None else {OWN: own})
    torch.manual_seed(config.seed)
    model = Walkers(replace(config.model, sets=names)) if start is None else load_walkers(start, names)
    before = None if start is None else recall_at(model, held_out, ROOMS)
    trainer = WalkersTrainer(model, sets, config)
    began = time.process_time()
    resume(trainer, folder, is_shared=False)
    with progress("train", "steps", config.steps) as shown:
        run_steps(
            trainer, config.steps, folder, is_shared=False,
            report=lambda step, figures: shown.update(step, config.steps, loss=figures["loss"]),
        )  # fmt: skip
        raise_if_stopped()
    spent = time.process_time() - began
    after = recall_at(model, held_out, ROOMS)
    is_kept = before is None or after["recall"] >= before["recall"] - _MAX_LOSS
    if not is_kept:
        assert start is not None
        model = load_walkers(start, names)
    path = folder / MODEL_FILE
    save_walkers(path, model)
    record = {
        "format": FORMAT,
        "what": "which pixels of a video show what moves, before its cameras are known",
        "command": command,
        "settings": to_dict(config),
        "clips": {name: len(clips) for name, clips in sets.items()},
        "held_out": {"clips": len(held_out), "share_of_still_pixels": _STILL_SHARE, **after},
        **({} if before is None else {"before": before, "trained_weights_kept": is_kept}),
        "cpu_seconds_of_last_session": spent,
        "parameters": sum(value.numel() for value in model.parameters()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_json(folder / "record.json", record)
    return record
