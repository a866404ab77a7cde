"""``smerf objects train``: a model of object scenes."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Device, Positional, RunOutput, Settings, Switch, resolve_torch_device

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
    preset: Annotated[str | None, tyro.conf.arg(metavar="cpu-tiny|cpu-easy|gpu-lean|gpu-small|reference")] = None
    """Size of the model and schedule. New runs: cpu-tiny."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Seed of the start and of all draws."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Use only the first scenes."""
    set: Settings = ()
    """Change one setting, such as training.steps=4000 or decoder.kind=broadcast; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; the training begins anew."""


def run(options: Options) -> int:
    """Train the model and say where it is."""
    from smerf.objects.stage import process_group, train_objects
    from smerf.objects.store import MODEL_FILE
    from smerf.runs.signals import catch_signals, raise_if_stopped

    device = resolve_torch_device(options.device)
    path = options.output or Path("runs") / f"{options.scenes.resolve().name or 'scenes'}-objects"
    with process_group() as rank, catch_signals():
        job = _prepare(options, path, device, rank)
        try:
            if job.is_done:
                print("objects: done before", file=sys.stderr)
            else:
                job.train(train_objects)
                raise_if_stopped()
                job.finish()
        finally:
            job.close()
    if rank == 0:
        model = path / "objects" / MODEL_FILE
        print(f"model: {model}\nnext:  smerf objects encode {options.scenes} --model {model} -o slots.safetensors")
    return 0


class _Job:
    """One process's part in a training: the first one owns the run folder, the others only compute."""

    def __init__(self, options, path, device, rank, scenes, config):  # type: ignore[no-untyped-def]
        import time

        from smerf.config import to_dict
        from smerf.runs.folder import RunFolder, stage_key

        self.options, self.device, self.rank, self.scenes, self.config = options, device, rank, scenes, config
        self.run = RunFolder(path)
        self.key = stage_key(to_dict(config), f"{scenes.source} {len(scenes)}")
        self.is_done = self.run.is_done("objects", self.key)
        self._began = time.monotonic()
        self._is_open = False

    def open(self) -> None:
        from smerf.runs.environment import describe_environment
        from smerf.runs.files import write_json

        if self.rank:
            return
        self.run.__enter__()
        self._is_open = True
        if not self.is_done:
            self.run.begin("objects", self.key)
            _save_config(self.run.config, self.config)
            write_json(self.run.environment, describe_environment(["smerf", *sys.argv[1:]], self.device))

    def train(self, work) -> None:  # type: ignore[no-untyped-def]
        from smerf.runs.progress import Progress

        quiet = self.options.quiet or self.rank > 0
        with Progress("objects", run=None if self.rank else self.run, quiet=quiet) as progress:
            work(
                self.scenes, self.config, folder=self.run.folder("objects"), device=self.device,
                progress=progress, command=["smerf", *sys.argv[1:]],
            )  # fmt: skip

    def finish(self) -> None:
        import time

        if self.rank == 0:
            self.run.finish("objects", self.key, time.monotonic() - self._began)

    def close(self) -> None:
        if self._is_open:
            self.run.__exit__(*sys.exc_info())
            self._is_open = False


def _prepare(options: Options, path: Path, device: str, rank: int) -> _Job:
    """Read the scenes and the config, check that they go with what the folder holds, and take its lock."""
    from smerf.config import to_dict
    from smerf.errors import UsageError
    from smerf.objects.config import apply_settings, make_config
    from smerf.objects.readers import open_scenes
    from smerf.runs.folder import RunFolder, describe_differences

    scenes = open_scenes(options.scenes, limit=options.limit)
    run = RunFolder(path)
    saved = _load_config(run.config) if run.exists() else None
    if saved is not None and options.preset is None and options.seed is None:
        config = apply_settings(saved, options.set)
    else:
        preset = options.preset or (saved.preset if saved else "cpu-tiny")
        size = f"image=[{scenes.size[0]},{scenes.size[1]}]"
        config = make_config(preset, (size, *options.set), options.seed)
    if saved is not None and not options.overwrite:
        differences = describe_differences(to_dict(saved), to_dict(config))
        if differences:
            raise UsageError(
                f"{path}: holds a run of another config: {', '.join(differences[:6])}; "
                "give another folder with -o, or --overwrite to begin anew"
            )
    job = _Job(options, path, device, rank, scenes, config)
    job.open()
    return job


def _save_config(path: Path, config) -> None:  # type: ignore[no-untyped-def]
    import yaml

    from smerf.config import to_dict
    from smerf.runs.files import write_text

    write_text(path, yaml.safe_dump({"kind": "objects", **to_dict(config)}, sort_keys=False))


def _load_config(path: Path):  # type: ignore[no-untyped-def]
    import yaml

    from smerf.config import from_dict
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
