"""What changes over the steps of a training: learning rate, decoders, the background prior, when a run is stuck.

A training may have two phases. In the first, of ``broadcast_steps`` steps, slots are trained with a Spatial Broadcast
decoder; in the second the model's own decoder takes over. With ``teach`` it is distilled from the first decoder, on
slots that stay as they are.
"""

from __future__ import annotations

from smerf.engine.schedule import linear
from smerf.objects.config import TrainingConfig
from smerf.vision.packing import drop_share

__all__ = [
    "dropped_share",
    "is_broadcasting",
    "is_distilling",
    "is_encoder_frozen",
    "is_stuck",
    "learning_rate",
    "prior_weight",
]

_PRIOR_STEPS = 500


def is_broadcasting(step: int, training: TrainingConfig) -> bool:
    """Return whether the first decoder, Spatial Broadcast, is still trained."""
    return step < training.broadcast_steps


def is_distilling(step: int, training: TrainingConfig) -> bool:
    """Return whether the second decoder is trained by the first (see ``distillation``)."""
    return training.teach > 0 and 0 < training.broadcast_steps <= step


def is_encoder_frozen(step: int, training: TrainingConfig) -> bool:
    """Return whether the second decoder is so new that its gradients would spoil the encoder."""
    first = training.broadcast_steps
    return is_distilling(step, training) or first <= step < first + first // 4


def learning_rate(step: int, training: TrainingConfig) -> float:
    """Return the learning rate of a step: linear warm-up from 0, then exponential decay.

    Where one decoder teaches the next, both start again for the second.
    """
    if training.teach and step > training.broadcast_steps:
        step -= training.broadcast_steps
    if step < training.warmup:
        return training.lr * step / training.warmup
    return training.lr * training.decay ** ((step - training.warmup) / training.decay_steps)


def dropped_share(step: int, training: TrainingConfig) -> float:
    """Return the share of a scene's input tokens that the encoder is not shown at a step."""
    if not training.drop or is_encoder_frozen(step, training):
        return 0.0
    return drop_share(step, training.drop_steps or training.steps, 0.0, training.drop)


def prior_weight(step: int, training: TrainingConfig) -> float:
    """Return the weight of the background prior, which grows over 500 steps from ``background_step`` on."""
    return linear(0.0, training.background, (step - training.background_step) / _PRIOR_STEPS)


def is_stuck(step: int, best_ari: float, training: TrainingConfig) -> bool:
    """Return whether a run is past ``stuck_step`` and its FG-ARI was never above ``stuck_ari``."""
    return 0 < training.stuck_step <= step and best_ari < training.stuck_ari
