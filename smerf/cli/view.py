"""``smerf view``: the desktop viewer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from smerf.cli.objects.view import is_slots, view_slots
from smerf.cli.options import Common, Json, Positional, Switch, parse_size, refuse_non_empty, scene_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from smerf.scene import BakedScene

__all__ = ["Options", "run"]

_SIZE = (1280, 800)
_BENCH_CAMERAS = 8


@dataclass(frozen=True, kw_only=True)
class Options(Common):
    """Open a baked scene in a window, or render it without one on a machine that has no display. H in the window shows
    the keys.

    Examples:
      smerf view runs/tabletop
      smerf view runs/tabletop --offscreen --split test -o frames
      smerf view runs/tabletop --bench --size 1920x1080
      smerf view slots.safetensors
    """

    scene: Positional[Annotated[Path, tyro.conf.arg(metavar="SCENE")]]
    """Run folder, baked scene, or slots of an object scene (.safetensors)."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WxH")] = None
    """Size of the window or of the images; 1280x800, or the size that a path or photos ask for."""
    mode: Literal["orbit", "walk", "fly"] | None = None
    """How to move at first."""
    fov: Annotated[float | None, tyro.conf.arg(metavar="DEGREES")] = None
    """Vertical field of view at the start; the scene's own if not given."""
    memory: Annotated[float, tyro.conf.arg(metavar="MB")] = 2048.0
    """Texture memory for submodels; those used longest ago are dropped."""
    path: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Camera path, as nerfstudio and our viewers save it: played in the window, rendered with --offscreen."""
    offscreen: Switch[bool] = False
    """Open no window: render --path, --split or --screenshot, on a server without a display."""
    split: Annotated[Literal["train", "test"] | None, tyro.conf.arg(metavar="train|test")] = None
    """With --offscreen, render the photos' cameras."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None
    """Folder for the frames of --offscreen, and for images and paths saved in the window."""
    screenshot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Save the first finished image as a PNG and close."""
    bench: Switch[bool] = False
    """Measure the time per frame at fixed cameras; opens no window."""
    frames: Annotated[int, tyro.conf.arg(metavar="INT")] = 20
    """Frames per camera of --bench."""
    json: Json = False
    """Print the result of --bench as JSON."""
    overwrite: Switch[bool] = False
    """Replace frames that exist."""


def run(options: Options) -> int:
    """Open the window, or render and print where the images are."""
    from smerf.errors import UsageError
    from smerf.scene import load_scene

    _check(options)
    size = parse_size(options.size) if options.size else None
    if is_slots(options.scene):
        return view_slots(
            options.scene, size=size, fov=options.fov, output=options.output,
            screenshot=options.screenshot, offscreen=options.offscreen,
        )  # fmt: skip
    folder = scene_folder(options.scene)
    if options.offscreen and not options.bench:
        if options.output is not None:
            refuse_non_empty(options.output, options.overwrite, "place")
        elif options.screenshot is None:
            raise UsageError("--offscreen needs -o DIR for its frames")
    scene = load_scene(folder)
    if options.bench:
        return _measure(options, scene, size or _SIZE)
    if options.offscreen:
        return _draw(options, scene, size)
    return _show(options, scene, size or _SIZE)


def _check(options: Options) -> None:
    from smerf.errors import UsageError

    if options.split and not options.offscreen:
        raise UsageError("--split renders frames: add --offscreen and -o DIR")
    if options.split and options.path:
        raise UsageError("give either --path FILE or --split test")
    if options.offscreen and not (options.path or options.split or options.screenshot or options.bench):
        raise UsageError(
            "--offscreen needs something to render: --path FILE, --split test, --screenshot FILE or --bench"
        )
    if options.memory <= 0 or options.frames < 1:
        raise UsageError("--memory and --frames must be positive")
    if options.fov is not None and not 1.0 <= options.fov <= 170.0:
        raise UsageError(f"--fov {options.fov}: must lie between 1 and 170 degrees")


def _show(options: Options, scene: BakedScene, size: tuple[int, int]) -> int:
    from smerf.export.desktop import desktop_viewer

    title = options.scene.resolve().name
    settings: dict[str, Any] = {
        "ceiling_bytes": int(options.memory * 1e6),
        "mode": options.mode,
        "fov": options.fov,
    }
    output = options.output or Path(".")
    path = desktop_viewer("path").read_path(options.path) if options.path else None
    settings["photos"] = lambda: _photos(options.scene)
    with desktop_viewer("window").Window(scene, title, size, output=output, **settings) as window:
        if options.screenshot is not None:
            window.viewer.finish()
            window.viewer.save_image(options.screenshot)
            print(f"image: {options.screenshot}")
            return 0
        if path is not None:
            window.viewer.tour.take(path)
            window.viewer.tour.play()
        window.run()
    return 0


def _photos(path: Path) -> dict[str, Callable[[int], np.ndarray]]:
    # Only when it is asked for: the window should be there at once.
    import numpy as np

    from smerf.export.photos import small_photo
    from smerf.pipeline.job import run_photos

    capture = run_photos(path)
    frames = capture.frames if capture else ()
    return {frame.name: lambda edge, frame=frame: np.asarray(small_photo(frame, edge)) for frame in frames}


def _draw(options: Options, scene: BakedScene, size: tuple[int, int] | None) -> int:
    from PIL import Image

    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.export.desktop import desktop_viewer
    from smerf.pipeline.evaluate import view_files

    offscreen = desktop_viewer("offscreen")
    wanted = []
    if options.path is not None:
        cameras = offscreen.path_cameras(desktop_viewer("path").read_path(options.path), size)
        wanted = [(options.output, f"{index:05d}.png", camera) for index, camera in enumerate(cameras)]
    elif options.split is not None:
        named = offscreen.split_cameras(scene, options.split, size)
        files = view_files([name for name, _ in named])
        wanted = [(options.output, f"{files[name]}.png", camera) for name, camera in named]
    if options.screenshot is not None:
        view = desktop_viewer("viewer").start_view(scene, options.fov)
        camera = desktop_viewer("renderer").pinhole(view.pose, *(size or _SIZE), view.fov)
        wanted.append((options.screenshot.parent, options.screenshot.name, camera))
    with catch_signals(), desktop_viewer("context").offscreen_context():
        with Progress("view", len(wanted), "frames", stops=True, quiet=options.quiet) as progress:
            pictures = offscreen.draw_cameras(scene, [camera for _, _, camera in wanted])
            for index, (picture, (folder, name, _)) in enumerate(zip(pictures, wanted)):
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(folder / name)
                progress.update(index + 1)
            pictures.close()
    if options.path or options.split:
        print(f"frames: {options.output} ({len(wanted) - (options.screenshot is not None)} frames)")
    if options.screenshot is not None:
        print(f"image: {options.screenshot}")
    return 0


def _measure(options: Options, scene: BakedScene, size: tuple[int, int]) -> int:
    from smerf.engine.progress import Progress
    from smerf.engine.signals import catch_signals
    from smerf.export.desktop import desktop_viewer
    from smerf.pipeline.summary import format_table

    offscreen = desktop_viewer("offscreen")
    records = []
    with catch_signals(), desktop_viewer("context").offscreen_context() as context:
        cameras = offscreen.fixed_cameras(scene, _BENCH_CAMERAS, size)
        with Progress("view", len(cameras), "cameras", stops=True, quiet=options.quiet) as progress:
            for times in offscreen.measure(scene, cameras, options.frames):
                record = {
                    "name": f"view/{times.camera}",
                    "size": list(times.size),
                    "submodel": times.submodel,
                }
                shares = {"median_ms": 50, "p90_ms": 90, "p99_ms": 99}
                record |= {key: times.percentile(share) for key, share in shares.items()}
                record |= {"frames": len(times.milliseconds), "device": context.renderer}
                records.append(record)
                progress.update(len(records))
        device = context.renderer
    if options.json:
        print(json.dumps(records, indent=1))
        return 0
    rows = [
        [
            record["name"].removeprefix("view/"),
            *(f"{record[key]:.2f}" for key in ("median_ms", "p90_ms", "p99_ms")),
        ]
        for record in records
    ]
    print(format_table(["camera", "median ms", "90 % ms", "99 % ms"], rows))
    print(f"{size[0]} x {size[1]}, {options.frames} frames each, {device}")
    return 0
