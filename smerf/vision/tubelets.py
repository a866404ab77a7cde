"""STAR: queries that find things in a clip as tubelets, boxes over time, without proposals (arXiv 2304.12160).

Queries are sums of one of space and one of time, so that a query's number is one thing over the whole clip. Loss and
matching are those of DETR, over tubelets. Letters: B clips, T steps, F frames, N places, S queries, K things, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional

from smerf.vision.blocks import Attention, Block, BlockConfig

__all__ = [
    "MIN_SCORE",
    "Found",
    "Track",
    "Truth",
    "TubeletDecoder",
    "box_iou",
    "link",
    "match",
    "tubelet_loss",
]

_SCORE, _L1, _GIOU = 1.0, 5.0, 2.0
MIN_SCORE, _MIN_IOU = 0.3, 0.3


@dataclass(frozen=True)
class Found:
    """Tubelets: boxes (B, F, S, 4), centre and size as fractions of the frame, and logits (B, F, S) of their scores."""

    boxes: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Truth:
    """What is known of clips: boxes (B, F, K, 4), where each thing is ``shown`` (B, F, K), and which frames are
    ``labelled`` (B, F); one that is labelled and shows nothing says that nothing is there.
    """

    boxes: Tensor
    shown: Tensor
    labelled: Tensor


class _Layer(nn.Module):
    """Queries look at each other within a step, at themselves over time, and at the tokens of their step."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.space_norm = nn.LayerNorm(config.width, config.eps, bias=config.norm_bias)
        self.space = Attention(config)
        self.time_norm = nn.LayerNorm(config.width, config.eps, bias=config.norm_bias)
        self.time = Attention(config)
        self.over = Block(replace(config, key_width=config.width))

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Refine queries (B, T, S, D) by tokens (B, T, N, D)."""
        steps = queries.flatten(0, 1)
        normed = self.space_norm(steps)
        steps = steps + self.space(normed, *self.space.keys_values(normed))
        things = steps.view_as(queries).transpose(1, 2).flatten(0, 1)
        normed = self.time_norm(things)
        things = things + self.time(normed, *self.time.keys_values(normed))
        steps = things.unflatten(0, (len(queries), -1)).transpose(1, 2).flatten(0, 1)
        return self.over(steps, self.over.attention.keys_values(tokens.flatten(0, 1))).view_as(queries)


class TubeletDecoder(nn.Module):
    """The decoder and its heads; a step of time may stand for several frames.

    Args:
        block: Sizes of its layers.
        layers: How many.
        queries: Queries S.
        steps: Steps T of the encoder.
        frames_per_step: Frames that one step stands for.
    """

    def __init__(
        self, block: BlockConfig, layers: int, queries: int, steps: int, frames_per_step: int = 1
    ) -> None:
        super().__init__()
        width = block.width
        self.frames_per_step = frames_per_step
        self.space = nn.Parameter(torch.randn(queries, width))
        self.time = nn.Parameter(torch.randn(steps, width) * 0.1)
        self.layers = nn.ModuleList(_Layer(block) for _ in range(layers))
        self.norm = nn.LayerNorm(width, block.eps)
        self.box = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 4 * frames_per_step))
        self.score = nn.Linear(width, frames_per_step)
        nn.init.constant_(self.score.bias, -2.0)

    def forward(self, tokens: Tensor) -> Found:
        """Find tubelets in tokens (B, T, N, D) of a clip."""
        queries = (self.time[:, None] + self.space).expand(len(tokens), -1, -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        queries = self.norm(queries)
        boxes = torch.sigmoid(self.box(queries)).unflatten(-1, (self.frames_per_step, 4))
        logits = self.score(queries)
        return Found(boxes.transpose(2, 3).flatten(1, 2), logits.transpose(2, 3).flatten(1, 2))


def _corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    half = 0.5 * boxes[..., 2:]
    return boxes[..., :2] - half, boxes[..., :2] + half


def box_iou(one: Tensor, two: Tensor, *, generalised: bool = False) -> Tensor:
    """Return the intersection over union of boxes (..., 4), centre and size, or GIoU (Rezatofighi et al. 2019)."""
    (low_one, high_one), (low_two, high_two) = _corners(one), _corners(two)
    inner = (torch.minimum(high_one, high_two) - torch.maximum(low_one, low_two)).clamp_min(0.0).prod(-1)
    union = one[..., 2:].prod(-1) + two[..., 2:].prod(-1) - inner
    iou = inner / union.clamp_min(1e-9)
    if not generalised:
        return iou
    hull = (torch.maximum(high_one, high_two) - torch.minimum(low_one, low_two)).prod(-1).clamp_min(1e-9)
    return iou - (hull - union) / hull


def _box_loss(found: Tensor, true: Tensor) -> Tensor:
    """Return the loss (...) of boxes (..., 4)."""
    return _L1 * (found - true).abs().sum(-1) + _GIOU * (1.0 - box_iou(found, true, generalised=True))


@torch.no_grad()
def match(found: Found, truth: Truth) -> list[tuple[Tensor, Tensor]]:
    """Assign one query to each thing of each clip, for its whole length, so that the loss is the least.

    Costs are means over the frames that are labelled and show the thing; a thing that no labelled frame shows is left
    out.

    Returns:
        Of each clip the numbers of queries and of things, int64 (M,) each, sorted by queries.
    """
    shown = truth.shown & truth.labelled[..., None]
    loss = _box_loss(found.boxes[:, :, :, None], truth.boxes[:, :, None])
    # BCE with target 1 less BCE with target 0 is minus the logit.
    cost = (loss - _SCORE * found.logits[..., None]) * shown[:, :, None]
    mean = cost.sum(1) / shown.sum(1).clamp_min(1)[:, None]
    pairs = []
    for own, seen in zip(mean.double().cpu().numpy(), shown.any(1)):
        things = torch.nonzero(seen)[:, 0].cpu()
        queries, columns = linear_sum_assignment(own[:, things.numpy()])
        pairs.append((torch.from_numpy(queries), things[torch.from_numpy(columns)]))
    return pairs


def tubelet_loss(found: Found, truth: Truth) -> dict[str, Tensor]:
    """Return the losses ``score`` and ``box``, which is L1 and GIoU in the paper's weights; frames without labels count
    for nothing.
    """
    target = torch.zeros_like(found.logits)
    total, count = found.boxes.sum() * 0.0, 0
    for clip, (queries, things) in enumerate(match(found, truth)):
        shown = (truth.shown[clip] & truth.labelled[clip][:, None])[:, things]
        target[clip][:, queries] = shown.to(target.dtype)
        loss = _box_loss(found.boxes[clip][:, queries][shown], truth.boxes[clip][:, things][shown])
        total, count = total + loss.sum(), count + int(shown.sum())
    score = functional.binary_cross_entropy_with_logits(found.logits, target, reduction="none").mean(-1)
    labelled = truth.labelled.to(score.dtype)
    return {
        "score": _SCORE * (score * labelled).sum() / labelled.sum().clamp_min(1.0),
        "box": total / max(1, count),
    }


@dataclass
class Track:
    """A thing over a whole video: boxes (4,) float32 and scores of the frames from ``first`` on."""

    first: int
    boxes: list[np.ndarray] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def end(self) -> int:
        """The frame after its last."""
        return self.first + len(self.boxes)


def link(
    clips: Sequence[tuple[int, np.ndarray, np.ndarray]],
    min_score: float = MIN_SCORE,
    min_iou: float = _MIN_IOU,
) -> list[Track]:
    """Join the tubelets of clips that overlap in time into tracks, clip after clip: what was said of a frame stays.

    A tubelet whose mean score is high enough goes on with the track whose boxes overlap its own the most on the frames
    that both have, one to one; otherwise it begins a new one.

    Args:
        clips: In order; each with its first frame, boxes (F, S, 4) and scores (F, S) in [0, 1].
        min_score: Least mean score of a tubelet.
        min_iou: Least mean overlap.
    """
    tracks: list[Track] = []
    for first, boxes, scores in clips:
        tubes = np.flatnonzero(scores.mean(0) >= min_score)
        going = [track for track in tracks if track.first <= first < track.end]
        overlaps = np.array([[_overlap(track, first, boxes[:, tube]) for track in going] for tube in tubes])
        joined: dict[int, Track] = {}
        if len(tubes) and len(going):
            rows, columns = linear_sum_assignment(-overlaps)
            joined = {
                row: going[column] for row, column in zip(rows, columns) if overlaps[row, column] >= min_iou
            }
        for row, tube in enumerate(tubes):
            track = joined.get(row)
            if track is None:
                track = Track(first)
                tracks.append(track)
            known = track.end - first
            track.boxes += list(boxes[known:, tube].astype(np.float32))
            track.scores += scores[known:, tube].tolist()
    return tracks


def _overlap(track: Track, first: int, boxes: np.ndarray) -> float:
    """Return the mean IoU of a track and boxes (F, 4) from a frame on, over the frames that both have."""
    own = np.stack(track.boxes[first - track.first :])[: len(boxes)]
    return float(
        box_iou(torch.from_numpy(own), torch.from_numpy(boxes[: len(own)].astype(np.float32))).mean()
    )
