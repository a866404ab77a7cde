"""Training the closed vocabulary of ``smerf label``, and judging it by drawn scenes that it never saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from smerf.engine.files import write_json
from smerf.engine.loop import resume, run_steps
from smerf.engine.progress import Progress
from smerf.engine.settings import to_dict
from smerf.engine.signals import raise_if_stopped
from smerf.pipeline.sight import grid_of
from smerf.vision.find import DepthPhoto
from smerf.vision.label import Detection, Votes, collect_votes, instance_of_voxels
from smerf.vision.names.eyes import DIVISIONS, Ground, NameEyes, accepted, measure_ground
from smerf.vision.names.network import write_net
from smerf.vision.names.photos import Photo
from smerf.vision.names.train import NameTrainer, TrainConfig, draw_all, draw_held_out

__all__ = ["Judged", "choose_least", "judge", "train_names"]

_PRECISION = 0.8
"""Share of the things named in held-out drawn scenes that must be right at the acceptance score."""
_LEAST_VOXELS = 20


@dataclass(frozen=True)
class Judged:
    """What a scene's votes say against the truth.

    ``named`` are (score, word, true word or None) of the things that votes make at any score. ``true`` are for each
    true thing of the vocabulary its (word, word that wins its votes, best score of a right name, or 0).
    """

    named: tuple[tuple[float, str, str | None], ...]
    true: tuple[tuple[str, str, float], ...]

    def precision(self, least: float) -> tuple[int, int]:
        """Return how many things named at a score are right, and how many are named."""
        at = [word == truth for score, word, truth in self.named if score >= least]
        return sum(at), len(at)

    def recall(self, least: float) -> tuple[int, int]:
        """Return how many true things are named right at a score, and how many there are."""
        return sum(best >= least > 0 for *_, best in self.true), len(self.true)

    @staticmethod
    def of_all(parts: Sequence[Judged]) -> Judged:
        """Return several scenes as one."""
        return Judged(
            tuple(each for part in parts for each in part.named),
            tuple(each for part in parts for each in part.true),
        )


def judge(votes: Votes, owner: np.ndarray, words: Mapping[int, str | None]) -> Judged:
    """Compare what votes make with the truth.

    A named thing is that true thing which most of its voxels belong to; true things count from 20 voxels on.

    Args:
        votes: Of ``NameEyes``.
        owner: The true thing of each voxel, (N,), 0 for none.
        words: The word of each, None outside the vocabulary.
    """
    named, best = [], dict[int, float]()
    for each in accepted(votes, 0.0).objects:
        thing = int(np.bincount(owner[each.voxels]).argmax())
        truth = words.get(thing)
        named.append((each.score, each.word, truth))
        if each.word == truth:
            best[thing] = max(best.get(thing, 0.0), each.score)
    true = []
    for thing, word in words.items():
        rows = owner == thing
        if word is not None and rows.sum() >= _LEAST_VOXELS:
            total = votes.votes[rows].mean(0)
            winner = votes.words[int(total.argmax())] if total.any() else ""
            true.append((word, winner, best.get(thing, 0.0)))
    return Judged(tuple(named), tuple(true))


def choose_least(judged: Judged) -> float:
    """Return the least score at which enough of what is named is right; 1 if there is none."""
    for hundredths in range(25, 100):
        right, named = judged.precision(hundredths / 100)
        if named and right >= _PRECISION * named:
            return hundredths / 100
    return 1.0


def judge_drawn(
    eyes: NameEyes, scenes: Sequence[list[Photo]], *, known_metre: bool, quiet: bool = False
) -> Judged:
    """Judge the network by drawn scenes; ``known_metre`` is whether the unit of length is told."""
    parts = []
    with Progress("judge", len(scenes), "scenes", stops=True, quiet=quiet) as progress:
        for number, scene in enumerate(scenes, 1):
            photos = [DepthPhoto(str(i), each.camera, partial(_depth, each)) for i, each in enumerate(scene)]
            ground = measure_ground(photos, 1.0 if known_metre else None)
            votes = collect_votes(_seen(eyes, scene, photos, ground), grid_of(photos, DIVISIONS), eyes.words)
            owner = instance_of_voxels(votes, ((p, s.owner) for p, s in zip(photos, scene)))
            words = {
                i: eyes.words[word - 1] if word else None
                for i, word in enumerate(scene[0].words.tolist())
                if i
            }
            parts.append(judge(votes, owner, words))
            progress.update(number)
    return Judged.of_all(parts)


def _depth(photo: Photo) -> np.ndarray:
    return photo.depth


def _seen(
    eyes: NameEyes, scene: Sequence[Photo], photos: Sequence[DepthPhoto], ground: Ground
) -> Iterator[tuple[DepthPhoto, Sequence[Detection]]]:
    for photo, each in zip(photos, scene):
        yield photo, eyes.detections(each.rgb, photo, ground)


def train_names(
    folder: Path, config: TrainConfig, command: Sequence[str], *, quiet: bool = False
) -> dict[str, Any]:
    """Draw scenes, train on their photos, choose the acceptance score, and write the weights with their record.

    Args:
        folder: Gets ``names.safetensors`` and ``record.json``; the scenes and checkpoints that are there are used.
        config: What to draw and how to train.
        command: For the record.
        quiet: Show no progress.

    Returns:
        The record.
    """
    with Progress("draw", config.scenes + config.hard_scenes, "scenes", stops=True, quiet=quiet) as progress:
        trainer = NameTrainer(config, draw_all(folder / "scenes", config, progress.update))
    resume(trainer, folder)
    with Progress("train", config.steps, quiet=quiet) as progress:

        def report(step: int, figures: dict[str, float]) -> None:
            progress.update(step, loss=figures["loss"], right=figures["right"])

        run_steps(trainer, config.steps, folder, report=report)
    raise_if_stopped()
    path = folder / "names.safetensors"
    write_net(path, trainer.net, 1.0)
    eyes = NameEyes(path)
    with Progress(
        "draw", config.held_out + config.held_out_hard, "scenes", stops=True, quiet=quiet
    ) as progress:
        held_out = draw_held_out(folder / "scenes", config, progress.update)
    judged = {known: judge_drawn(eyes, held_out, known_metre=known, quiet=quiet) for known in (True, False)}
    # One score for both, so the stricter one.
    least = max(map(choose_least, judged.values()))
    write_net(path, trainer.net, least)
    record = {
        "format": "smerf-names-1",
        "what": "a closed vocabulary for smerf label, learned from drawn things alone",
        "words": list(config.net.words),
        "command": list(command),
        "settings": to_dict(config),
        "training_seconds": trainer.seconds,
        "parameters": sum(each.numel() for each in trainer.net.parameters()),
        "least": least,
        "held_out": {
            "metres known" if known else "metres unknown": _figures(each, least)
            for known, each in judged.items()
        },
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    write_json(folder / "record.json", record)
    return record


def _figures(judged: Judged, least: float) -> dict[str, Any]:
    """Return what a record says of held-out scenes: at the acceptance score, and which word wins each thing's votes."""
    right, named = judged.precision(least)
    found, true = judged.recall(least)
    by_word = {}
    for word in sorted({each[0] for each in judged.true}):
        winners = [winner == word for truth, winner, _ in judged.true if truth == word]
        by_word[word] = [sum(winners), len(winners)]
    return {"named": named, "right": right, "true": true, "found": found, "wins by word": by_word}
