"""What moves in the frames of a video whose cameras are not known: masks, by the model or by what differs alone.

Letters: T frames, H W pixels at which they are compared (``reduced_size``).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_closing, binary_dilation, find_objects, label, uniform_filter
from torch.nn import functional

from smerf.engine.files import data_folder
from smerf.errors import UsageError
from smerf.vision.clips import FRAMES, Clips, clip_inputs, half_size
from smerf.vision.stabilise import REACH, differences
from smerf.vision.tubelets import MIN_SCORE, Track, link
from smerf.vision.walkers import FORMAT, MODEL_FILE, Walkers

__all__ = [
    "BY_DIFFERENCE",
    "BY_MODEL",
    "Motion",
    "MotionRule",
    "choose_model",
    "compare_frames",
    "doubtful_clips",
    "find_motion",
    "mark_motion",
    "measure_motion",
    "shipped_walkers",
    "source_of",
]  # fmt: skip

_DEFAULT = "shipped"
_WINDOW = 32
"""Frames that are compared at once."""
_STEP = FRAMES // 2
_LARGER = 0.08
_log = logging.getLogger(__name__)
_SQUARE = np.ones((3, 3), bool)


@dataclass(frozen=True)
class MotionRule:
    """What counts as moving: connected pixels whose score exceeds ``grown``, and somewhere ``seed`` or a track goes
    through them; in two frames in a row.
    """

    seed: float
    grown: float
    min_share: float = 0.002
    """Smallest component, as a fraction of the frame."""
    closing: int = 3
    """Pixels over which gaps are closed: little differs inside of a plain coat."""
    margin: float = 0.04
    """Components are dilated by this fraction of their height, at least by a pixel."""


BY_DIFFERENCE = MotionRule(seed=0.08, grown=0.03)
"""For the smallest difference in [0, 1]."""
BY_MODEL = MotionRule(seed=1.0, grown=-0.5)
"""For the model's logits."""


@dataclass(frozen=True)
class Motion:
    """How much each pixel moves, float32 (T, H, W): logits of the model or the smallest difference; and what the model
    follows over time, boxes as fractions of the frame.
    """

    scores: np.ndarray
    tracks: tuple[Track, ...] = ()

    def followed(self) -> np.ndarray:
        """Return what lies in the boxes of tracks, made larger by 8 %, bool (T, H, W)."""
        inside = np.zeros(self.scores.shape, bool)
        size = np.array(inside.shape[:0:-1])
        for track in self.tracks:
            for index, (box, score) in enumerate(zip(track.boxes, track.scores), track.first):
                if score >= MIN_SCORE and index < len(inside):
                    half = (0.5 + _LARGER) * box[2:]
                    low = np.floor((box[:2] - half).clip(0, 1) * size).astype(int)
                    high = np.ceil((box[:2] + half).clip(0, 1) * size).astype(int)
                    inside[index, low[1] : high[1], low[0] : high[0]] = True
        return inside


def compare_frames(frames: np.ndarray, report: Callable[[int], None] = lambda count: None) -> np.ndarray:
    """Return ``differences`` of a video of any length, with a warning where most frames can't be aligned.

    ``report`` is called with the number of frames of each part that is done.
    """
    parts = []
    for first in range(0, len(frames), _WINDOW):
        parts.append(_compared(frames, first, min(first + _WINDOW, len(frames))))
        report(len(parts[-1]))
    differing = np.concatenate(parts)
    alone = int(np.isnan(differing).all((1, 2, 3)).sum())
    if 2 * alone > len(frames):
        _log.warning(
            "%d of %d frames can't be aligned with those around them, and nothing is found there: "
            "give the frames of a video, a tenth of a second apart", alone, len(frames),
        )  # fmt: skip
    return differing


def _compared(frames: np.ndarray, first: int, last: int) -> np.ndarray:
    before = min(first, REACH)
    return differences(frames[first - before : last + REACH])[before : before + last - first]


def measure_motion(frames: np.ndarray, differing: np.ndarray, model: Walkers | None) -> Motion:
    """Return how much each pixel of a video's frames moves.

    Args:
        frames: In order, about a tenth of a second apart, uint8 (T, H, W, 3).
        differing: What ``compare_frames`` returns for them.
        model: Looks at what differs; without one the 3 x 3 mean of the smallest difference to the frames around.
    """
    if model is None:
        return Motion(uniform_filter(np.nan_to_num(differing[..., 0]), (0, 3, 3)))
    return _by_model(clip_inputs(frames, differing), model, frames.shape[1:3])


@torch.no_grad()
def _by_model(inputs: torch.Tensor, model: Walkers, size: tuple[int, int]) -> Motion:
    """Return the mean logits of the clips that hold a frame, and the tubelets of the clips as tracks."""
    count = len(inputs)
    padded = torch.cat([inputs, inputs[-1:].expand(max(0, FRAMES - count), -1, -1, -1)])
    starts = sorted({*range(0, len(padded) - FRAMES, _STEP), len(padded) - FRAMES})
    total, seen = torch.zeros(len(padded), *half_size()), torch.zeros(len(padded), 1, 1)
    clips = []
    for start in starts:
        clip = model(padded[start : start + FRAMES].float()[None] / 255.0, model.config.sets[-1])
        total[start : start + FRAMES] += clip.moving[0]
        seen[start : start + FRAMES] += 1
        clips.append((start, clip.found.boxes[0].numpy(), clip.found.logits[0].sigmoid().numpy()))
    logits = (total / seen)[:count, None]
    whole = functional.interpolate(logits, size, mode="bilinear", align_corners=False)[:, 0].numpy()
    return Motion(whole, tuple(link(clips)))


def find_motion(
    frames: np.ndarray,
    model: Walkers | None,
    step: int = 1,
    report: Callable[[int], None] = lambda count: None,
) -> np.ndarray:
    """Return which pixels of a video's frames show what moves, bool (T, H, W).

    Args:
        frames: In order, uint8 (T, H, W, 3).
        model: As for ``measure_motion``.
        step: Frames that make about a tenth of a second.
        report: As for ``compare_frames``.
    """
    rule = BY_DIFFERENCE if model is None else BY_MODEL
    moving = np.zeros(frames.shape[:3], bool)
    for phase in range(min(step, len(frames))):
        own = frames[phase::step]
        moving[phase::step] = mark_motion(measure_motion(own, compare_frames(own, report), model), rule)
    return moving


def mark_motion(motion: Motion, rule: MotionRule) -> np.ndarray:
    """Return which pixels move by a rule, bool (T, H, W)."""
    certain = (motion.scores > rule.seed) | motion.followed()
    found = [_components(score > rule.grown, sure, rule) for score, sure in zip(motion.scores, certain)]
    return _lasting(np.stack(found), rule)


def _components(moving: np.ndarray, certain: np.ndarray, rule: MotionRule) -> np.ndarray:
    """Return the pixels (H, W) of large components that are certain somewhere."""
    grown = binary_closing(np.pad(moving, rule.closing), _SQUARE, rule.closing)
    inner = slice(rule.closing, -rule.closing)
    labels, count = label(grown[inner, inner], _SQUARE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = np.isin(np.arange(count + 1), labels[certain]) & (sizes >= rule.min_share * moving.size)
    kept[0] = False
    return kept[labels]


def _lasting(found: np.ndarray, rule: MotionRule) -> np.ndarray:
    """Return components (T, H, W) that meet one of the frame before or after, dilated."""
    result = np.zeros_like(found)
    for index, frame in enumerate(found):
        around = np.zeros_like(frame)
        for other in (index - 1, index + 1):
            if 0 <= other < len(found):
                around |= found[other]
        around = binary_dilation(around, _SQUARE, max(2, round(0.05 * frame.shape[0])))
        labels, _ = label(frame, _SQUARE)
        for number, box in enumerate(find_objects(labels), 1):
            component = labels == number
            if around[component].any() or len(found) == 1:
                margin = max(1, round(rule.margin * (box[0].stop - box[0].start)))
                result[index] |= binary_dilation(component, _SQUARE, margin)
    return result


def doubtful_clips(frames: np.ndarray, people: np.ndarray, step: int = 1) -> Clips:
    """Return clips of a user's video: moving where people are seen and something differs, still where neither is, and
    unknown where only one of both says so.

    Args:
        frames: In order, uint8 (T, H, W, 3), at least eight steps.
        people: Where they show people, bool (T, H, W).
        step: Frames that make about a tenth of a second.
    """
    clips = []
    for phase in range(0, step, max(1, step // 2)):
        numbers = np.arange(phase, len(frames), step)
        for first in range(0, len(numbers) - FRAMES + 1, _STEP):
            own = numbers[first : first + FRAMES]
            differing = differences(frames[own])
            moves = uniform_filter(differing[..., 0], (0, 3, 3)) > BY_DIFFERENCE.grown
            clips.append(_doubtful(clip_inputs(frames[own], differing), people[own], moves))
    return Clips.join(clips)


def _doubtful(inputs: torch.Tensor, people: np.ndarray, moves: np.ndarray) -> Clips:
    both, either = (
        functional.interpolate(torch.from_numpy(each.astype(np.float32))[:, None], half_size(), mode="area")[
            :, 0
        ]
        for each in (people & moves, people | moves)
    )
    moving = torch.full(both.shape, Clips.UNKNOWN, dtype=torch.uint8)
    moving[either < 0.05] = 0
    moving[both > 0.5] = 254
    return Clips(
        inputs[None],
        moving[None],
        torch.zeros(1, FRAMES, 3, 4),
        torch.zeros(1, FRAMES, 3, dtype=torch.bool),
        torch.zeros(1, FRAMES, dtype=torch.bool),
    )


def shipped_walkers() -> Path:
    """Return where the weights of the package are."""
    return data_folder() / "walkers" / MODEL_FILE


def choose_model(word: str | None) -> Path | None:
    """Return the file of a model: a path, a folder of a training, ``shipped``, or ``none`` for what differs alone.

    Raises:
        UsageError: If there is none.
    """
    word = word or _DEFAULT
    if word == "none":
        return None
    path = shipped_walkers() if word == "shipped" else Path(word)
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise UsageError(
            f"{path}: is not there; smerf vision train walkers makes a model, --model none needs none"
        )
    return path


def source_of(model: Path | None) -> dict[str, str]:
    """Return what a record of masks says of a model, or of masks without one."""
    if model is None:
        return {"version": "smallest difference"}
    return {"version": FORMAT, "sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
