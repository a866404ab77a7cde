"""The training stage of object scenes: from a set of scenes to a model file, resuming where it stopped."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from smerf.engine.environment import describe_environment
from smerf.engine.files import write_json
from smerf.engine.loop import resume, run_steps
from smerf.engine.settings import to_dict
from smerf.errors import InvalidDataError
from smerf.objects.config import ObjectsConfig
from smerf.objects.data.mixtures import Mixture
from smerf.objects.data.scenes import SceneSet
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import MODEL_FILE, save_model
from smerf.objects.training.evaluate import PROTOCOL
from smerf.objects.training.trainer import ObjectsTrainer

__all__ = ["train_objects"]

_log = logging.getLogger(__name__)


def train_objects(
    scenes: SceneSet | Mixture,
    config: ObjectsConfig,
    *,
    folder: Path,
    device: str = "cpu",
    progress: Callable[..., None] | None = None,
    command: list[str] | None = None,
    start: Osrt | None = None,
) -> ObjectsTrainer:
    """Train a model on scenes; an unfinished training in the folder continues.

    Under ``smerf.engine.distributed.process_group`` all processes train it together.

    Args:
        scenes: The set, or several; the last ``config.training.held_out`` scenes of each are measured on and never
            trained on.
        config: Sizes and schedule.
        folder: Where checkpoints and, at the end, ``model.safetensors`` with its ``record.json`` are written.
        device: ``cpu`` or ``cuda``.
        progress: Called as ``progress(step, steps, **figures)``.
        command: The command line, for the record.
        start: A model of the same sizes to start from; random weights if not given.

    Returns:
        The trainer. When a stop is requested, a checkpoint is written and the training is left unfinished.

    Raises:
        InvalidDataError: If the scenes or the model to start from do not match the configuration.
        UsageError: If the batch can't be divided evenly over the processes.
    """
    training = config.training
    mixture = Mixture({"": (scenes,)}) if isinstance(scenes, SceneSet) else scenes
    for each in (each for sets in mixture.sets.values() for each in sets):
        if each.views <= training.input_views:
            raise InvalidDataError(
                f"scenes have {each.views} views, and {training.input_views} are given, which leaves none to measure "
                "on; set training.input_views"
            )
    trainer = ObjectsTrainer(mixture, config, device)
    if not resume(trainer, folder) and start is not None:
        trainer.init_from(start)
    before, began = trainer.seconds, time.monotonic()

    def after_step() -> None:
        trainer.seconds = before + time.monotonic() - began
        if trainer.step % training.evaluate_every == 0 or trainer.step == training.steps:
            _measure(trainer)

    is_complete = run_steps(
        trainer,
        training.steps,
        folder,
        checkpoint_seconds=training.checkpoint_seconds,
        report=_smoothed(trainer, progress) if progress else None,
        after_step=after_step,
    )
    if is_complete and trainer.process.is_first:
        _finish(trainer, folder, command or [])
    return trainer


def _smoothed(
    trainer: ObjectsTrainer, progress: Callable[..., None]
) -> Callable[[int, dict[str, float]], None]:
    """Return a report of the running mean of the loss, and of the last FG-ARI."""
    mean: float | None = None

    def report(step: int, figures: dict[str, float]) -> None:
        nonlocal mean
        mean = figures["loss"] if mean is None else 0.98 * mean + 0.02 * figures["loss"]
        shown = {name: trainer.scores[name] for name in trainer.scores if name.rpartition(".")[2] == "fg_ari"}
        psnr = -10.0 * math.log10(max(mean, 1e-10))
        progress(step, trainer.config.training.steps, loss=mean, psnr=psnr, **shown)

    return report


def _measure(trainer: ObjectsTrainer) -> None:
    """Measure on held-out scenes, and start a stuck run again if it may."""
    figures = trainer.evaluate() | trainer.meters()
    # JSON has no number for the meters of a training that diverged.
    scores = {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
    line = {"seed": trainer.seed, "step": trainer.step, "seconds": round(trainer.seconds, 1), **scores}
    trainer.history.append(line)
    if trainer.process.is_first:
        _log.info("held out: %s", line)
    if not trainer.is_stuck:
        return
    training = trainer.config.training
    restarts = trainer.restarts < training.restarts
    late = [
        each
        for each in trainer.history
        if each["seed"] == trainer.seed and each["step"] >= training.stuck_step
    ]
    if trainer.process.is_first and len(late) == 1:
        _log.warning(
            "seed %d: the maximum of FG-ARI is %.2f after %d steps, so it is probably stuck; %s",
            trainer.seed, trainer.best_ari, trainer.step,
            f"starting again with seed {trainer.seed + 1}" if restarts else "try another --seed",
        )  # fmt: skip
    if restarts:
        trainer.restart()


def _finish(trainer: ObjectsTrainer, folder: Path, command: list[str]) -> None:
    environment = describe_environment(command, trainer.device)
    record = {
        "command": command,
        "finished": time.strftime("%Y-%m-%d"),
        "steps": trainer.step,
        "seed": trainer.seed,
        "restarts": trainer.restarts,
        "seconds": round(trainer.seconds, 1),
        "processes": trainer.process.world_size,
        "data": trainer.mixture.source,
        "scenes": sum(len(part.scenes) for parts in trainer.sets.values() for part in parts),
        "held_out": sum(len(part.held_out) for parts in trainer.sets.values() for part in parts),
        "scores": {name: round(value, 4) for name, value in trainer.scores.items()},
        "protocol": PROTOCOL,
        "machine": {
            key: environment[key] for key in ("processor", "cores", "device", "gpu") if key in environment
        },
        "versions": {"smerf": environment["smerf"], "torch": torch.__version__},
    }
    model = trainer.averaged()
    for number, head in enumerate(trainer.config.heads):
        plain, own = model.with_head(head), record | {"head": head}
        save_model(plain, folder / f"{Path(MODEL_FILE).stem}-{head}.safetensors", own)
        if not number:
            save_model(plain, folder / MODEL_FILE, own)
    if not trainer.config.heads:
        save_model(model, folder / MODEL_FILE, record)
    write_json(
        folder / "record.json", record | {"config": to_dict(trainer.config), "history": trainer.history}
    )
