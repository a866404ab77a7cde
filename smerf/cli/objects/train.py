"""``smerf objects train``: a model of object scenes."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smerf.cli.options import Common, Device, Positional, RunOutput, Settings, Switch, resolve_device

if TYPE_CHECKING:
    from smerf.engine.folder import RunFolder
    from smerf.objects.config import ObjectsConfig
    from smerf.objects.data.scenes import SceneSet

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train a model on object scenes, without masks; the same command continues a training that was stopped.

    The decomposition into objects depends on the seed: the log shows FG-ARI on held-out scenes, and a run that
    stays below 0.3 is reported as stuck. On several GPUs or machines start it with torchrun.

    Examples:
      smerf objects train scenes/easy -o runs/easy --preset cpu-tiny
      torchrun --nproc-per-node 4 -m smerf objects train scenes/clevr -o runs/clevr --preset gpu-small
    """

    scenes: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENES")]]
    """Folder of scenes: ours, CLEVR-3D or ObSuRF's, or a Kubric export."""
    output: RunOutput = None
    """Run folder; runs/NAME-objects if not given."""
    preset: Annotated[str | None, tyro.conf.arg(metavar="cpu-tiny|cpu-easy|gpu-lean|gpu-small|reference")] = (
        None
    )
    """Size of the model and schedule. New runs: cpu-tiny."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Seed of the start and of all draws."""
    start: Annotated[Path | None, tyro.conf.arg(metavar="MODEL")] = None
    """Start from the weights of another run or model file of the same sizes, not from random ones."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Use only the first scenes."""
    set: Settings = ()
    """Change one setting, such as training.steps=4000 or decoder.kind=broadcast; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; the training begins anew."""


def run(options: Options) -> int:
    """Train the model and say where it is."""
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.objects.data.readers import open_scenes
    from smerf.objects.editing.store import MODEL_FILE
    from smerf.objects.training.stage import process_group

    device = resolve_device(options.device)
    path = options.output or Path("runs") / f"{options.scenes.resolve().name or 'scenes'}-objects"
    scenes = open_scenes(options.scenes, limit=options.limit)
    with process_group() as rank, catch_signals():
        config = _choose_config(options, path, scenes.size)
        # The first process owns the run folder; the others only compute.
        with RunFolder(path) if rank == 0 else nullcontext() as folder:
            _train(options, path, folder, config, scenes, device)
    if rank == 0:
        model = path / "objects" / MODEL_FILE
        print(
            f"model: {model}\nnext:  smerf objects encode {options.scenes} --model {model} -o slots.safetensors"
        )
    return 0


def _train(
    options: Options,
    path: Path,
    folder: RunFolder | None,
    config: ObjectsConfig,
    scenes: SceneSet,
    device: str,
) -> None:
    import time

    from smerf.cli.objects.parts import find_model
    from smerf.engine.environment import describe_environment
    from smerf.engine.files import write_json
    from smerf.engine.folder import RunFolder, stage_key
    from smerf.engine.progress import Progress
    from smerf.engine.settings import to_dict
    from smerf.engine.signals import raise_if_stopped
    from smerf.objects.editing.store import load_model, model_digest
    from smerf.objects.training.stage import train_objects, wait_for_all

    start = None if options.start is None else load_model(find_model(options.start))[0]
    origin = "" if start is None else f" {model_digest(start)}"
    key = stage_key(to_dict(config), f"{scenes.source} {len(scenes)}{origin}")
    if RunFolder(path).is_done("objects", key):
        if folder is not None:
            print("objects: done before", file=sys.stderr)
        return
    command = ["smerf", *sys.argv[1:]]
    if folder is not None:
        _save_config(folder.config, config)
        folder.begin("objects", key)
        write_json(folder.environment, describe_environment(command, device))
    # The first process may have had to clear the folder that all read checkpoints from.
    wait_for_all()
    began = time.monotonic()
    try:
        with Progress("objects", run=folder, quiet=options.quiet or folder is None) as progress:
            train_objects(
                scenes, config, folder=RunFolder(path).work("objects"), device=device, progress=progress,
                command=command, start=start,
            )  # fmt: skip
            # A training that was asked to stop returns early, with its checkpoint saved.
            raise_if_stopped()
    except BaseException:
        if folder is not None:
            folder.pause("objects", key, time.monotonic() - began)
        raise
    if folder is not None:
        folder.finish("objects", key, time.monotonic() - began)


def _choose_config(options: Options, path: Path, size: tuple[int, int]) -> ObjectsConfig:
    """Return the config of the command line; what it leaves open stays as an existing run has it."""
    from smerf.engine.folder import RunFolder, describe_differences
    from smerf.engine.settings import apply_overrides, to_dict
    from smerf.errors import UsageError
    from smerf.objects.config import make_config

    run = RunFolder(path)
    saved = _load_config(run.config) if run.exists() else None
    if saved is not None and options.preset is None and options.seed is None:
        config = apply_overrides(saved, options.set)
    else:
        preset = options.preset or (saved.preset if saved else "cpu-tiny")
        config = make_config(preset, (f"image=[{size[0]},{size[1]}]", *options.set), options.seed)
    differences = describe_differences(to_dict(saved), to_dict(config)) if saved is not None else []
    if differences and not options.overwrite:
        raise UsageError(
            f"{path}: holds a run of another config: {', '.join(differences[:6])}; "
            "give another folder with -o, or --overwrite to begin anew"
        )
    return config


def _save_config(path: Path, config: ObjectsConfig) -> None:
    import yaml

    from smerf.engine.files import write_text
    from smerf.engine.settings import to_dict

    write_text(path, yaml.safe_dump({"kind": "objects", **to_dict(config)}, sort_keys=False))


def _load_config(path: Path) -> ObjectsConfig:
    import yaml

    from smerf.engine.settings import from_dict
    from smerf.errors import InvalidDataError, UsageError
    from smerf.objects.config import ObjectsConfig

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{path}: cannot be read ({error})") from error
    if not isinstance(values, dict) or values.pop("kind", None) != "objects":
        raise UsageError(f"{path.parent}: holds a run of another kind; give another folder with -o")
    try:
        return from_dict(ObjectsConfig, values)
    except InvalidDataError as error:
        raise InvalidDataError(f"{path}: {error}") from error
