"""The schedule of a training of object scenes, and checks of settings that its files share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from smerf.engine.settings import require

__all__ = ["TrainingConfig", "at_least", "within"]


def at_least(config: object, minimum: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        require(value >= minimum, name, f"{minimum} or more", value)


def within(config: object, name: str, low: float, high: float, *, above: bool = False) -> None:
    """Check that a number is finite and lies from ``low`` to ``high``, or with ``above`` above ``low``."""
    value = getattr(config, name)
    holds = math.isfinite(value) and (low < value if above else low <= value) and value <= high
    upper = "" if high == math.inf else f" to {high:g}"
    require(holds, name, f"more than {low:g}" if above else f"a number from {low:g}{upper}", value)


@dataclass(frozen=True)
class TrainingConfig:
    """The schedule. Rates follow the published recipe: linear warm-up, then exponential decay."""

    batch: int = 256
    """Scenes in a step, over all processes."""
    rays: int = 8192
    """Target rays of each scene."""
    input_views: int = 5
    """Views that the encoder sees."""
    targets: Literal["others", "all"] = "others"
    """Whether rays come from the views not given as input, or from every view."""
    contrast: float = 0.0
    """Fraction of the rays sampled in proportion to local image contrast, the rest evenly; needs no masks."""
    lr: float = 1e-4
    """Peak learning rate of Adam."""
    warmup: int = 5000
    """Steps of linear warm-up."""
    decay: float = 0.16
    """Factor of the learning rate after each ``decay_steps`` steps."""
    decay_steps: int = 4_000_000
    """See ``decay``."""
    clip: float = 0.0
    """Maximum norm of the gradient; 0 does not clip."""
    steps: int = 750_000
    """Steps of the whole training."""
    ema: float = 0.0
    """Decay of the averaged weights that are kept; 0 keeps the last ones."""
    broadcast_steps: int = 0
    """Steps in which a mixer model is first trained with a Spatial Broadcast decoder, which is then dropped; the
    encoder is frozen for a quarter as many steps after that."""
    teach: float = 0.0
    """Weight of the cross entropy of the mixer's slot weights against those of that first decoder. The encoder is then
    frozen to the end, every other step is on edited scenes as the first decoder renders them, and the learning rate
    starts again."""
    margin: float = 0.0
    """Logit margin for object slots over the shared background in those weights: the background is the more certain, so
    it would take the pixels of uncertain edges. More of it finds more of the objects and more floor around them."""
    background: float = 0.0
    """Weight of a prior that the background, the shared slot or else the largest of a scene, covers as much as it can:
    floor that any slot could render goes to one of them. Too early or too strong, it leaves one slot with
    everything."""
    background_step: int = 1500
    """Step at which that prior begins; it grows to its weight over 500 steps."""
    evaluate_every: int = 1000
    """Steps between measurements on held-out scenes."""
    held_out: int = 32
    """Scenes at the end of the set that are never trained on."""
    stuck_step: int = 0
    """Step at which a run whose FG-ARI was never above ``stuck_ari`` counts as stuck; 0 never checks."""
    stuck_ari: float = 0.3
    """See ``stuck_step``."""
    restarts: int = 0
    """How often a stuck run starts again with the next seed."""
    drop: float = 0.0
    """Share of a scene's input tokens that the encoder is not shown at first; it falls along a sigmoid to 0. Nothing is
    dropped once the training is over."""
    drop_steps: int = 0
    """Steps over which it falls; 0 takes all ``steps``."""
    drop_whole: float = 0.0
    """Share of the scenes that keep all tokens all the while."""
    quotas: tuple[tuple[str, int], ...] = ()
    """Data sets with their shares of the steps, as [[easy, 3], [photos, 1]]: a step is on scenes of one of them, in an
    order that the seed decides. Without quotas a step is on all scenes, whatever their sizes."""
    seed: int = 0
    """Random seed."""
    checkpoint_seconds: float = 60.0
    """Time between checkpoints."""

    def __post_init__(self) -> None:
        at_least(
            self, 1, "batch", "rays", "input_views", "steps", "decay_steps", "evaluate_every", "held_out"
        )
        at_least(
            self,
            0,
            "warmup",
            "broadcast_steps",
            "background_step",
            "stuck_step",
            "restarts",
            "seed",
            "drop_steps",
        )
        for name in ("lr", "decay"):
            within(self, name, 0.0, math.inf, above=True)
        for name in ("clip", "teach", "margin", "background", "checkpoint_seconds"):
            within(self, name, 0.0, math.inf)
        within(self, "contrast", 0.0, 1.0)
        within(self, "stuck_ari", -1.0, 2.0)
        within(self, "drop_whole", 0.0, 1.0)
        for name in ("ema", "drop"):
            value = getattr(self, name)
            require(0.0 <= value < 1.0, name, "a number from 0 to below 1", value)
        names = [name for name, _ in self.quotas]
        require(
            len(set(names)) == len(names) and all(share > 0 for _, share in self.quotas),
            "quotas", "names, each once, with shares of 1 or more", self.quotas,
        )  # fmt: skip
