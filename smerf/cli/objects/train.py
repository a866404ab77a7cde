"""``smerf objects train``: a model of object scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from smerf.cli.options import Common, Device, Positional, RunOutput, Settings, Switch, resolve_device

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Train a model on object scenes, without masks; the same command continues a training that was stopped.

    The decomposition into objects depends on the seed: the log shows FG-ARI on held-out scenes, and a run that
    stays below 0.3 is reported as stuck. On several GPUs or machines start it with torchrun.

    A folder of sets trains on all of them, whatever their image sizes; with training.quotas each folder (sets, or a
    posed capture of photos) is a data set that gets its share of the steps, and with heads a head of its own.

    Examples:
      smerf objects train scenes/easy -o runs/easy --preset cpu-tiny
      torchrun --nproc-per-node 4 -m smerf objects train scenes/clevr -o runs/clevr --preset gpu-small
      smerf objects train sets -o runs/sets --set "training.quotas=[[easy,3],[photos,1]]" --set "heads=[easy,photos]"
    """

    scenes: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENES")]]
    """Folder of scenes: ours, CLEVR-3D or ObSuRF's, or a Kubric export; or a folder of such folders."""
    output: RunOutput = None
    """Run folder; runs/NAME-objects if not given."""
    preset: Annotated[
        str | None, tyro.conf.arg(metavar="cpu-tiny|cpu-easy|cpu-clevr|gpu-lean|gpu-small|reference")
    ] = None
    """Size of the model and schedule. New runs: cpu-tiny."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Random seed of the first weights and of the training."""
    start: Annotated[Path | None, tyro.conf.arg(metavar="MODEL")] = None
    """Start from the weights of another run or model file of the same sizes, not from random ones."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Use only the first scenes."""
    set: Settings = ()
    """Change one setting, such as training.steps=4000 or decoder.kind=broadcast; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config; the training starts again."""


def run(options: Options) -> int:
    """Train the model and print its location."""
    from smerf.engine.distributed import process_group
    from smerf.engine.folder import RunFolder
    from smerf.engine.signals import catch_signals
    from smerf.objects.data.mixtures import open_mixture
    from smerf.objects.data.readers import holds_sets
    from smerf.pipeline.objects import choose_config, train

    device = resolve_device(options.device)
    run = RunFolder(options.output or Path("runs") / f"{options.scenes.resolve().name or 'scenes'}-objects")
    alone = None if holds_sets(options.scenes) else open_mixture(options.scenes, limit=options.limit)
    size = None if alone is None else alone.first.size
    with process_group(device) as process, catch_signals():
        config = choose_config(
            run, options.preset, options.set, options.seed, size, overwrite=options.overwrite
        )
        names = [name for name, _ in config.training.quotas]
        scenes = alone or open_mixture(options.scenes, config, options.limit, names=names)
        model = train(run, scenes, config, device, start=options.start, quiet=options.quiet)
    if process.is_first:
        print(
            f"model: {model}\nnext:  smerf objects encode {options.scenes} --model {model} -o slots.safetensors"
        )
    return 0
