"""The training stage of object scenes: from a set of scenes to a model file, resuming where it stopped."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed

from smerf.engine.checkpoint import load_latest, save_checkpoint
from smerf.engine.environment import describe_environment
from smerf.engine.files import write_json
from smerf.engine.settings import to_dict
from smerf.engine.signals import stop_requested
from smerf.objects.config import ObjectsConfig
from smerf.objects.data.scenes import SceneSet
from smerf.objects.editing.store import MODEL_FILE, save_model
from smerf.objects.model.osrt import Osrt
from smerf.objects.training.evaluate import PROTOCOL
from smerf.objects.training.trainer import ObjectsTrainer

__all__ = ["process_group", "train_objects", "wait_for_all"]

_log = logging.getLogger(__name__)


@contextmanager
def process_group() -> Iterator[int]:
    """Join the other processes of ``torchrun``, if there are any; yields the rank of this one.

    Gradients travel by gloo, which every machine has; with a GPU for each process, by NCCL.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield 0
        return
    has_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    if has_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if has_gpus else "gloo")
    try:
        yield distributed.get_rank()
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Wait until every process of ``torchrun`` is here."""
    if distributed.is_initialized():
        distributed.barrier()


def train_objects(
    scenes: SceneSet,
    config: ObjectsConfig,
    *,
    folder: Path,
    device: str = "cpu",
    progress: Callable[..., None] | None = None,
    command: list[str] | None = None,
    start: Osrt | None = None,
) -> ObjectsTrainer:
    """Fit a model to scenes; an unfinished training in the folder goes on.

    Args:
        scenes: The set; its last ``config.training.held_out`` scenes are measured on and never trained on.
        config: Sizes and schedule.
        folder: Where checkpoints and, at the end, ``model.safetensors`` with its ``record.json`` are written.
        device: ``cpu`` or ``cuda``.
        progress: Called as ``progress(step, steps, **figures)``.
        command: The command line, for the record.
        start: A model of the same sizes to start from; random weights if not given.

    Returns:
        The trainer. When a stop is requested, a checkpoint is written and the training is left unfinished.

    Raises:
        InvalidDataError: If the scenes or the model to start from do not fit the configuration.
    """
    trainer = ObjectsTrainer(scenes, config, device)
    is_first = trainer.rank == 0
    saved = load_latest(folder)
    if saved:
        trainer.restore(saved[1], saved[2])
    elif start is not None:
        trainer.start_from(start)
    history: list[dict[str, Any]] = list(saved[2].get("history", [])) if saved else []

    def save() -> None:
        if is_first:
            save_checkpoint(folder, trainer.step, trainer.tensors(), trainer.state() | {"history": history})

    def report(step: int, figures: dict[str, float]) -> None:
        if progress and is_first:
            progress(step, config.training.steps, **figures)

    warned: set[int] = set()
    for scores in trainer.run(report=report, save=save, stop=stop_requested):
        rounded = {name: round(value, 4) for name, value in scores.items()}
        line = {"seed": trainer.seed, "step": trainer.step, "seconds": round(trainer.seconds, 1), **rounded}
        history.append(line)
        _log.info("held out: %s", line)
        if trainer.is_stuck and is_first and trainer.seed not in warned:
            warned.add(trainer.seed)
            again = trainer.restarts < config.training.restarts
            _log.warning(
                "seed %d: FG-ARI %.2f at most after %d steps, so it is probably stuck; %s",
                trainer.seed, trainer.best_ari, trainer.step,
                f"beginning anew with seed {trainer.seed + 1}" if again else "try another --seed",
            )  # fmt: skip
    if trainer.step == config.training.steps and is_first:
        _finish(trainer, history, folder, command or [])
    return trainer


def _finish(trainer: ObjectsTrainer, history: list[dict[str, Any]], folder: Path, command: list[str]) -> None:
    environment = describe_environment(command, trainer.device)
    record = {
        "command": command,
        "finished": time.strftime("%Y-%m-%d"),
        "steps": trainer.step,
        "seed": trainer.seed,
        "restarts": trainer.restarts,
        "seconds": round(trainer.seconds, 1),
        "processes": trainer.processes,
        "data": trainer.scenes.source,
        "scenes": len(trainer.scenes),
        "held_out": len(trainer.held_out),
        "scores": {name: round(value, 4) for name, value in trainer.scores.items()},
        "protocol": PROTOCOL,
        "machine": {
            key: environment[key] for key in ("processor", "cores", "device", "gpu") if key in environment
        },
        "versions": {"smerf": environment["smerf"], "torch": torch.__version__},
    }
    save_model(trainer.averaged(), folder / MODEL_FILE, record)
    write_json(folder / "record.json", record | {"config": to_dict(trainer.config), "history": history})
