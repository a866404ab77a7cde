"""Measure the desktop viewer: frame rate at fixed cameras, what a frame costs, and the time to the first picture.

    python -m benchmarks.desktop [SCENE ...] [--size 1280x800] [--cameras 8] [--frames 20] [--json FILE]

SCENE is a run or a baked scene; without one a room made from formulas is baked first. Frames are drawn in full
detail without a display. Samples, texture fetches and steps are counted per ray by a second copy of the march
shader that is compiled with COUNT = 1. The first picture is timed from the start of the Python process,
interpreter and imports included; in a window where there is a display, else without one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import ROOT, Benchmark, Report, size
from smerf.errors import SmerfError
from smerf.export.desktop import desktop_viewer
from smerf.scene import BakedScene, load_scene

STARTS = 3
FIRST_PICTURE = """
import sys, time
sys.path.insert(0, {root!r})
from smerf.scene import load_scene
from smerf.export.desktop import desktop_viewer
scene = load_scene({scene!r})
if {has_display}:
    window = desktop_viewer("window").Window(scene, size={size})
    viewer, step = window.viewer, window.step
else:
    context = desktop_viewer("context").offscreen_context()
    viewer = desktop_viewer("viewer").Viewer(scene, {size}, 2 << 30)
    step = viewer.tick
while not viewer.has_image:
    step(time.monotonic())
print(time.time(), time.process_time())
viewer.finish()
print(time.time(), time.process_time())
"""


def counting_renderer(scene: BakedScene) -> Any | None:
    """Return a renderer whose march counts, or ``None`` where that is not possible."""
    GL = desktop_viewer("context").gl()
    shaders, module = desktop_viewer("shaders"), desktop_viewer("renderer")
    renderer = module.Renderer(scene)
    defines = shaders.scene_defines(
        scene, renderer.options.step_multiplier, bool(renderer.exposure), renderer.unknown_colours is not None
    )
    source = shaders.assemble("march.frag", {**defines, "COUNT": 1})
    try:
        march = shaders.Program(shaders.assemble("screen.vert", {}), source)
    except SmerfError:
        renderer.free()
        return None
    renderer.march.free()
    renderer.march = march
    march.use()
    for unit, name in enumerate(module._SAMPLERS):
        GL.glUniform1i(march.at(f"u_{name}"), unit)
    return renderer


def count(renderer: Any, scene: BakedScene, camera: Any) -> dict[str, float]:
    """Return the means per ray of one camera's picture."""
    GL = desktop_viewer("context").gl()
    submodel = renderer.load(scene.params.choose_submodel(camera.world_from_cam[:, 3]))
    width, height = camera.intrinsics.width, camera.intrinsics.height
    target = renderer.target("count", width, height)
    renderer.draw(target, submodel, camera)
    out = np.empty((height, width, 4), np.float32)
    GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, target.blended_frame)
    GL.glReadBuffer(GL.GL_COLOR_ATTACHMENT0)
    GL.glReadPixels(0, 0, width, height, GL.GL_RGBA, GL.GL_FLOAT, out)
    submodel.free()
    steps, samples, coloured, fetches = out.reshape(-1, 4).mean(0).astype(float)
    return {
        "samples_per_ray": samples,
        "coloured_fraction": coloured / max(samples, 1e-9),
        "fetches_per_ray": fetches,
        "fetches_per_sample": fetches / max(samples, 1e-9),
        "steps_per_ray": steps,
    }


def measure_scene(
    scene: BakedScene, name: str, size: tuple[int, int], cameras: int, frames: int
) -> dict[str, Any]:
    """Draw a scene's fixed cameras; return one record over all their frames. Needs a current context."""
    offscreen = desktop_viewer("offscreen")
    chosen = offscreen.fixed_cameras(scene, cameras, size)
    times = [ms for each in offscreen.measure(scene, chosen, frames) for ms in each.milliseconds]
    record: dict[str, Any] = {
        "name": f"desktop/{name}",
        "size": list(size),
        "cameras": len(chosen),
        "frames": len(times),
    }
    median = float(np.median(times))
    record |= {"median_ms": median, "spread": float(np.percentile(times, 75) - np.percentile(times, 25))}
    record |= {f"p{percent}_ms": float(np.percentile(times, percent)) for percent in (90, 99)}
    record["fps"] = 1e3 / median
    counter = counting_renderer(scene)
    if counter is not None:
        # A quarter of the edge is enough for means.
        small = offscreen.fixed_cameras(scene, cameras, (max(1, size[0] // 4), max(1, size[1] // 4)))
        counts = [count(counter, scene, camera) for _, camera in small]
        counter.free()
        record |= {key: statistics.fmean(each[key] for each in counts) for key in counts[0]}
    return record


def first_picture(scene: Path, size: tuple[int, int]) -> dict[str, float]:
    """Return median seconds from the start of a process to the first and to the finished picture.

    Processor seconds beside them say how much of that is work, which a busy machine does not change.
    """
    has_display = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    code = FIRST_PICTURE.format(root=str(ROOT), scene=str(scene), size=tuple(size), has_display=has_display)
    found = []
    for _ in range(STARTS):
        since = time.time()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        first, first_cpu, finished, finished_cpu = map(float, done.stdout.split())
        found.append([first - since, first_cpu, finished - since, finished_cpu])
    names = ("first_picture_s", "first_picture_cpu_s", "finished_picture_s", "finished_picture_cpu_s")
    return dict(zip(names, np.median(found, axis=0).tolist()))


def write_example(folder: Path) -> Path:
    """Bake the built-in room and return its folder."""
    from smerf.scene.example import example_scene
    from smerf.scene.write import write_scene

    scene = example_scene(256)
    write_scene(folder / "room", scene.params, scene.mlp, [scene.submodel(0)], scene.manifest)
    return folder / "room"


def print_table(records: list[dict[str, Any]]) -> None:
    """Print one line a scene."""
    columns = {
        "median ms": "median_ms", "90 %": "p90_ms", "99 %": "p99_ms", "frames/s": "fps",
        "samples/ray": "samples_per_ray", "fetches/sample": "fetches_per_sample", "steps/ray": "steps_per_ray",
        "first s": "first_picture_s", "first CPU s": "first_picture_cpu_s",
    }  # fmt: skip
    print(f"{'scene':16}" + "".join(f"{title:>15}" for title in columns))
    for record in records:
        cells = (f"{record[key]:15.2f}" if key in record else f"{'-':>15}" for key in columns.values())
        print(f"{record['name'].removeprefix('desktop/'):16}" + "".join(cells))
    print(f"{records[0]['size'][0]} x {records[0]['size'][1]}, {records[0]['renderer']}")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenes", type=Path, nargs="*", metavar="SCENE")
    parser.add_argument("--size", type=size, default=(1280, 800))
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--frames", type=int, default=20)


def measure(options: argparse.Namespace, report: Report) -> None:
    with tempfile.TemporaryDirectory() as temporary, desktop_viewer("context").offscreen_context() as context:
        for path in options.scenes or [write_example(Path(temporary))]:
            folder = path / "baked" if (path / "baked").is_dir() else path
            name = path.parent.name if path.name == "baked" else path.name
            record = measure_scene(load_scene(folder), name, options.size, options.cameras, options.frames)
            report.add(**record, **first_picture(folder, options.size), renderer=context.renderer)
    print_table(report.records)


BENCHMARK = Benchmark(
    __doc__, measure, options, short=["--size", "160x100", "--cameras", "2", "--frames", "3"]
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
