"""``smerf run``: every stage that is not done yet, to the page and the report."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from smerf.cli.options import (
    AboutFlags,
    Common,
    Device,
    Minutes,
    Positional,
    Preset,
    RunOutput,
    Settings,
    Switch,
)

if TYPE_CHECKING:
    from smerf.pipeline.watch import Watch
    from smerf.teacher.asset_options import AssetOptions

__all__ = ["Options", "run"]


@dataclass(frozen=True, kw_only=True)
class Options(AboutFlags, Common):
    """Turn photos into a page: pose them, train, distill, bake, export, measure.

    A splat or mesh file is its own teacher: it is distilled as it is, without training.

    Stages that are done are skipped, so the same command continues a run that was stopped.

    Examples:
      smerf run captures/tabletop -o runs/tabletop
      smerf run ~/flat --minutes 60
      smerf run ~/flat --minutes 60 --dry-run
      smerf run ~/flat --watch
      smerf run scene.ply -o runs/scene
      smerf run chair.glb -o runs/chair
      smerf run ~/flat --preset standard --device cuda --set teacher.steps=30000
    """

    data: Positional[Annotated[Path, tyro.conf.arg(metavar="DATA")]]
    """Folder of photos, a video, a posed capture of any layout that is read, or a splat or mesh file."""
    output: RunOutput = None
    """Run folder; runs/NAME if not given."""
    minutes: Minutes = None
    """Time for all of it, 1 to 600: picture size, steps, grids and submodels are chosen to fit. New runs: 10."""
    dry_run: Switch[bool] = False
    """Print what the time would be spent on, and do nothing."""
    watch: Switch[bool] = False
    """Serve a page that shows what is there so far, and at the end the finished page until Ctrl-C."""
    preset: Preset = None
    """A fixed amount of work instead: preview (a laptop), standard (a GPU), paper."""
    device: Device = "auto"
    """Where to compute; auto takes the GPU if there is one."""
    seed: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Random seed of every stage."""
    set: Settings = ()
    """Change one setting, such as max_side=800 or teacher.steps=4000; may be repeated."""
    overwrite: Switch[bool] = False
    """Accept a changed config or capture; what the change touches is redone."""
    cameras: Annotated[str, tyro.conf.arg(metavar="orbit|walk|PATH")] = "auto"
    """Of a file: cameras around or inside it, or those of a cameras.json or of a posed capture in its space."""
    up: Annotated[str | None, tyro.conf.arg(metavar="X,Y,Z")] = None
    """Of a file: the direction that is up, such as 0,-1,0."""
    focal: Annotated[float | None, tyro.conf.arg(metavar="PX")] = None
    """Of a splat file: focal length in pixels of the photos that it was trained on; 1200 if not known."""
    splat_mode: Annotated[str | None, tyro.conf.arg(metavar="default|antialiased|3d")] = None
    """Of a splat file: how it was trained to be filtered, if the file does not say."""
    keep_all: Switch[bool] = False
    """Of a splat file: keep large faint splats and stray ones."""
    light: Switch[bool] = False
    """Of a mesh: let a plain light fall on it, instead of showing its colours as they are."""


def run(options: Options) -> int:
    """Run the stages and print the summary."""
    if options.dry_run:
        return _print_plan(options)
    return _run_watched(options) if options.watch else _run(options, None)


def _run_watched(options: Options) -> int:
    """Run the stages beside a live page, and serve the finished page until Ctrl-C."""
    from smerf.engine.signals import end_on_terminate
    from smerf.pipeline.run import default_output, require_capture
    from smerf.pipeline.watch import Watch

    require_capture(options.data)
    with Watch(options.output or default_output(options.data)) as watch:
        print(f"watch: {watch.page.url}", file=sys.stderr, flush=True)
        code = _run(options, watch)
        try:
            with end_on_terminate():
                shown = f"watch: {watch.page.url} shows the finished page (Ctrl-C stops)"
                print(shown, file=sys.stderr, flush=True)
                watch.page.wait()
        except KeyboardInterrupt:
            pass
        return code


def _run(options: Options, watch: Watch | None) -> int:
    from smerf.pipeline.run import run as run_stages
    from smerf.pipeline.summary import print_summary

    result = run_stages(
        options.data,
        options.output,
        minutes=options.minutes,
        preset=options.preset,
        settings=(*options.set, *options.about),
        seed=options.seed,
        device=options.device,
        overwrite=options.overwrite,
        quiet=options.quiet,
        verbose=options.verbose,
        source=_source_options(options),
        watch=watch,
    )
    print_summary(result.folder, result.metrics)
    return 0


def _print_plan(options: Options) -> int:
    from smerf.pipeline.run import plan

    how = {"minutes": options.minutes, "preset": options.preset, "device": options.device}
    print(plan(options.data, settings=options.set, **how).table())
    return 0


def _source_options(options: Options) -> AssetOptions | None:
    """Return what the command line says of a file, None if nothing."""
    values = (options.focal, options.splat_mode, options.up, options.cameras, options.keep_all, options.light)
    if values == (None, None, None, "auto", False, False):
        return None
    from smerf.teacher.asset_options import AssetOptions, parse_up

    up = parse_up(options.up)
    return AssetOptions(
        options.focal, options.splat_mode, up, options.cameras, options.keep_all, options.light
    )
