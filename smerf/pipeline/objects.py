"""The training run of object scenes, and the models and slots that paths on a command line mean."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smerf.engine import distributed
from smerf.engine.environment import describe_environment
from smerf.engine.files import write_json
from smerf.engine.folder import RunFolder, describe_differences, stage_key
from smerf.engine.progress import Progress
from smerf.engine.settings import apply_overrides, load_yaml, save_yaml, to_dict
from smerf.engine.signals import raise_if_stopped
from smerf.errors import UsageError
from smerf.objects.config import ObjectsConfig, make_config, plain_values

if TYPE_CHECKING:
    from smerf.objects.data.mixtures import Mixture
    from smerf.objects.data.scenes import SceneSet
    from smerf.objects.editing.slots import SavedSlots
    from smerf.objects.model.osrt import Osrt
    from smerf.scene.slots import SlotScene

__all__ = ["SHIPPED", "choose_config", "find_model", "load_scene_of_slots", "load_with_model", "train"]

SHIPPED = "shipped"
"""What slots call the model that comes with the package."""
_KIND, _STAGE = "objects", "objects"


def choose_config(
    run: RunFolder,
    preset: str | None,
    settings: tuple[str, ...],
    seed: int | None,
    size: tuple[int, int] | None,
    *,
    overwrite: bool = False,
) -> ObjectsConfig:
    """Return the config of the command line; what it leaves open stays as an existing run has it.

    Args:
        run: The run, begun or not.
        preset: One of ``smerf.objects.config.PRESETS``.
        settings: Dotted ``key=value`` pairs.
        seed: Seed of the training.
        size: Height and width of the images of the set; the preset's if not given.
        overwrite: Accept another config than that of an existing run.

    Raises:
        UsageError: If a setting is not valid, or an existing run has another config.
    """
    saved = load_yaml(ObjectsConfig, run.config, _KIND) if run.exists() else None
    if saved is not None and preset is None and seed is None:
        config = apply_overrides(saved, settings)
    else:
        name = preset or (saved.preset if saved else "cpu-tiny")
        image = () if size is None else (f"image=[{size[0]},{size[1]}]",)
        config = make_config(name, (*image, *settings), seed)
    differences = describe_differences(to_dict(saved), to_dict(config)) if saved is not None else []
    if differences and not overwrite:
        raise UsageError(
            f"{run.path}: holds a run of another config: {', '.join(differences[:6])}; "
            "give another folder with -o, or --overwrite to start again"
        )
    return config


def train(
    run: RunFolder,
    scenes: SceneSet | Mixture,
    config: ObjectsConfig,
    device: str,
    *,
    start: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Train a model in a run folder, or continue; every process of ``torchrun`` calls this.

    The first process writes the run, the others only compute.

    Args:
        run: Not locked yet.
        scenes: The set.
        config: Sizes and schedule.
        device: ``cpu`` or ``cuda``.
        start: Run folder or model file to start from; random weights if not given.
        quiet: Show no progress.

    Returns:
        The model file.

    Raises:
        UsageError: If the folder holds something else, or the batch can't be divided over the processes.
        InvalidDataError: If the scenes or ``start`` do not match the config.
    """
    from smerf.objects.model.store import MODEL_FILE, load_model, model_digest
    from smerf.objects.training.stage import train_objects

    init = None if start is None else load_model(find_model(start))[0]
    origin = "" if init is None else f" {model_digest(init)}"
    key = stage_key(plain_values(config), f"{scenes.source} {len(scenes)}{origin}")
    process = distributed.this_process()
    with _first_locks(run, process):
        if run.is_done(_STAGE, key):
            if process.is_first:
                print("objects: already done", file=sys.stderr)
            return run.folder(_STAGE) / MODEL_FILE
        command = ["smerf", *sys.argv[1:]]
        if process.is_first:
            if run.stage(_STAGE) is None:
                save_yaml(run.config, config, _KIND)
            run.begin(_STAGE, key)
            write_json(run.environment, describe_environment(command, device))
        # The first process may have had to clear the folder that all read checkpoints from.
        distributed.barrier()
        owner = run if process.is_first else None
        with _timed(owner, key), Progress(_STAGE, run=owner, quiet=quiet or owner is None) as progress:
            train_objects(
                scenes,
                config,
                folder=run.work(_STAGE),
                device=device,
                progress=progress,
                command=command,
                start=init,
            )
            # A training that was asked to stop returns early, with its checkpoint saved.
            raise_if_stopped()
        if process.is_first:
            # With the result, not before it: a failed training leaves the config of the model that is there.
            save_yaml(run.config, config, _KIND)
    return run.folder(_STAGE) / MODEL_FILE


@contextmanager
def _first_locks(run: RunFolder, process: distributed.Process) -> Iterator[None]:
    if not process.is_first:
        yield
        return
    with run:
        yield


@contextmanager
def _timed(run: RunFolder | None, key: str) -> Iterator[None]:
    """Mark the stage as finished at the end of the block, or keep the time of an unfinished session."""
    began = time.monotonic()
    try:
        yield
    except BaseException:
        if run is not None:
            run.pause(_STAGE, key, time.monotonic() - began)
        raise
    if run is not None:
        run.finish(_STAGE, key, time.monotonic() - began)


def find_model(path: Path | None) -> Path:
    """Return the model file that a path means: a file, a run folder, or, for ``None``, the shipped model.

    Raises:
        UsageError: If there is none.
    """
    from smerf.objects.model.store import MODEL_FILE, shipped_model

    if path is None:
        return shipped_model()
    for candidate in (path, path / MODEL_FILE, path / _STAGE / MODEL_FILE):
        if candidate.is_file():
            return candidate
    raise UsageError(f"{path}: holds no finished object model; smerf objects train makes one")


def load_with_model(slots: Path, model: Path | None, device: str) -> tuple[SavedSlots, Osrt, dict[str, Any]]:
    """Read slots and the model that made them, with its record: the given model, or the one that the slots name.

    Raises:
        UsageError: If either is not there.
        InvalidDataError: If either is damaged.
    """
    from smerf.objects.editing.slots import load_slots
    from smerf.objects.model.store import load_model

    saved = load_slots(slots)
    if model is None and saved.where != SHIPPED:
        model = Path(saved.where)
        if not model.exists():
            raise UsageError(
                f"{saved.where}: the model of these slots is not there; say where it is with --model"
            )
    return saved, *load_model(find_model(model), device)


def load_scene_of_slots(slots: Path, model: Path | None, arc: float | None) -> SlotScene:
    """Read slots for the viewers.

    Args:
        slots: File that encode or edit wrote.
        model: The model, where it is not where the slots say.
        arc: Degrees from the x axis within which cameras may stand; what the training's record says if not given.

    Raises:
        UsageError: If a file is not there, or the model's decoder is one that the viewers do not render.
        InvalidDataError: If a file is damaged.
    """
    from smerf.objects.editing.pack import pack_scene

    saved, loaded, record = load_with_model(slots, model, "cpu")
    if arc is None:
        trained = record.get("data", {}).get("recipe", {}).get("azimuth", 180.0)
        arc = trained if trained < 180.0 else None
    elif not 0.0 < arc <= 180.0:
        raise UsageError(f"--arc {arc:g}: must lie between 0 and 180 degrees")
    return pack_scene(loaded, saved, slots.parent, arc)
