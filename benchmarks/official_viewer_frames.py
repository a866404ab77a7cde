"""Compare both viewers with frames that the official SMERF viewer drew of the same baked scenes.

    python -m benchmarks.official_viewer_frames --data DIR [--viewers web desktop] [--json FILE] [--save DIR]

DIR holds one folder per scene with ``baked/sm_XXX/``, ``cameras.json`` (camera-to-world matrices in viewer
axes) and ``frames/``. The web viewer needs Chromium and playwright. The table gives differences per pixel
(largest channel) in levels of 255.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.browser import chromium, render_camera
from benchmarks.common import Benchmark, Report
from smerf.capture.types import Camera
from smerf.export.desktop import desktop_viewer
from smerf.export.serve import SceneServer
from smerf.scene import load_scene
from smerf.scene.view import MarchOptions

VIEWER_FROM_TRAINING = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
TOLERANCE = 2
FRACTION_WITHIN = 0.99
Renderer = Callable[[Path, list[dict], float], Iterator[Image.Image]]


def training_camera(camera_to_world_viewer: list[list[float]]) -> np.ndarray:
    matrix = np.array(camera_to_world_viewer, dtype=float)
    matrix[:3] = VIEWER_FROM_TRAINING @ matrix[:3]
    return matrix


def render_in_page(browser: Any, scene: Path, cameras: list[dict], occlusion: float) -> Iterator[Image.Image]:
    entry = min((scene / "baked").glob("sm_*")).name
    size = {"width": cameras[0]["width"], "height": cameras[0]["height"]}
    with SceneServer(scene / "baked") as server:
        page = browser.new_page(viewport=size)
        page.set_default_timeout(180_000)
        query = f"dir=/baked/{entry}&ui=0&dpr=1&occlusion={occlusion}"
        page.goto(f"{server.url}viewer/web/index.html?{query}")
        for camera in cameras:
            matrix = training_camera(camera["camera_to_world_viewer_axes"]).ravel().tolist()
            yield Image.fromarray(render_camera(page, matrix, camera["fov_y_degrees"]))
        page.close()


def render_on_desktop(scene: Path, cameras: list[dict], occlusion: float) -> Iterator[Image.Image]:
    drawing = desktop_viewer("renderer")
    options = MarchOptions(enlarge_steps_when_occluded=occlusion < 1.0, visibility_delay=occlusion)
    renderer = drawing.Renderer(load_scene(scene / "baked"), options)
    for camera in cameras:
        pose = training_camera(camera["camera_to_world_viewer_axes"])
        view: Camera = drawing.pinhole(pose, camera["width"], camera["height"], camera["fov_y_degrees"])
        yield Image.fromarray(renderer.image(view))
    renderer.free()


def compare_scene(
    render: Renderer, viewer: str, scene: Path, occlusion: float, save: Path | None, report: Report
) -> None:
    """Report how far a viewer's frames of a scene are from the official ones."""
    cameras = json.loads((scene / "cameras.json").read_text())["frames"]
    for index, (camera, ours) in enumerate(zip(cameras, render(scene, cameras, occlusion), strict=True)):
        theirs = Image.open(scene / camera["file"]).convert("RGB")
        difference = np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16)).max(-1)
        report.add(
            f"official_viewer_frames/{scene.name}/{index}",
            viewer=viewer,
            occlusion_delay=occlusion,
            mean=float(difference.mean()),
            max=int(difference.max()),
            fraction_within_2=float((difference <= TOLERANCE).mean()),
        )
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            ours.save(save / f"{scene.name}_{index}_{viewer}.png")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--occlusion",
        type=float,
        nargs="+",
        default=[1.0, 0.99],
        help="1 is off; the official viewer uses 0.99",
    )
    parser.add_argument("--viewers", nargs="+", choices=("web", "desktop"), default=["web", "desktop"])
    parser.add_argument("--save", type=Path, help="folder for our frames")


def measure(options: argparse.Namespace, report: Report) -> int:
    with contextlib.ExitStack() as stack:
        renderers: dict[str, Renderer] = {}
        if "desktop" in options.viewers:
            stack.enter_context(desktop_viewer("context").offscreen_context())
            renderers["desktop"] = render_on_desktop
        if "web" in options.viewers:
            renderers["web"] = functools.partial(render_in_page, stack.enter_context(chromium()))
        for scene in sorted(path.parent for path in options.data.glob("*/cameras.json")):
            for occlusion in options.occlusion:
                for viewer, render in renderers.items():
                    compare_scene(render, viewer, scene, occlusion, options.save, report)
    print(f"{'frame':40} {'viewer':>8} {'delay':>6} {'mean':>7} {'max':>4} {'within 2/255':>13}")
    for record in report.records:
        fraction = f"{100 * record['fraction_within_2']:.3f} %"
        figures = f"{record['occlusion_delay']:6} {record['mean']:7.3f} {record['max']:4} {fraction:>13}"
        print(f"{record['name']:40} {record['viewer']:>8} {figures}")
    fractions = [record["fraction_within_2"] for record in report.records]
    return 0 if fractions and min(fractions) >= FRACTION_WITHIN else 1


BENCHMARK = Benchmark(__doc__, measure, options, needs="scenes with frames of the official viewer")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
