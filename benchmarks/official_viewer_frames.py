"""Compare both viewers with frames that the official SMERF viewer drew of the same baked scenes.

    python benchmarks/official_viewer_frames.py --data DIR [--viewers web desktop] [--json FILE] [--save DIR]

DIR holds one folder per scene with ``baked/sm_XXX/``, ``cameras.json`` (camera-to-world matrices in viewer
axes) and ``frames/``. The web viewer needs Chromium and playwright. The table gives differences per pixel
(largest channel) in levels of 255.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from smerf.capture.types import Camera
from smerf.export.desktop import desktop_viewer
from smerf.export.serve import SceneServer
from smerf.render.camera import MarchOptions
from smerf.scene import load_scene

VIEWER_FROM_TRAINING = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
CHROMIUM_FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
TOLERANCE = 2
FRACTION_WITHIN = 0.99
DRAW = """async ([matrix, fov]) => {
  await smerf.setCamera(matrix, fov);
  return document.querySelector("canvas").toDataURL();
}"""


def training_camera(camera_to_world_viewer: list[list[float]]) -> np.ndarray:
    matrix = np.array(camera_to_world_viewer, dtype=float)
    matrix[:3] = VIEWER_FROM_TRAINING @ matrix[:3]
    return matrix


def draw_in_page(browser, scene: Path, cameras: list[dict], occlusion: float) -> Iterator[Image.Image]:
    entry = sorted((scene / "baked").glob("sm_*"))[0].name
    size = {"width": cameras[0]["width"], "height": cameras[0]["height"]}
    with SceneServer(scene / "baked") as server:
        page = browser.new_page(viewport=size)
        page.set_default_timeout(180_000)
        query = f"dir=/baked/{entry}&ui=0&dpr=1&occlusion={occlusion}"
        page.goto(f"{server.url}viewer/web/index.html?{query}")
        for camera in cameras:
            matrix = training_camera(camera["camera_to_world_viewer_axes"]).ravel().tolist()
            url = page.evaluate(DRAW, [matrix, camera["fov_y_degrees"]])
            yield Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")
        page.close()


def draw_on_desktop(scene: Path, cameras: list[dict], occlusion: float) -> Iterator[Image.Image]:
    drawing = desktop_viewer("renderer")
    options = MarchOptions(enlarge_steps_when_occluded=occlusion < 1.0, visibility_delay=occlusion)
    renderer = drawing.Renderer(load_scene(scene / "baked"), options)
    for camera in cameras:
        pose = training_camera(camera["camera_to_world_viewer_axes"])
        view: Camera = drawing.pinhole(pose, camera["width"], camera["height"], camera["fov_y_degrees"])
        yield Image.fromarray(renderer.image(view))
    renderer.free()


def compare_scene(draw, viewer: str, scene: Path, occlusion: float, save: Path | None) -> list[dict]:
    cameras = json.loads((scene / "cameras.json").read_text())["frames"]
    records = []
    for index, (camera, ours) in enumerate(zip(cameras, draw(scene, cameras, occlusion))):
        theirs = Image.open(scene / camera["file"]).convert("RGB")
        difference = np.abs(np.asarray(ours, np.int16) - np.asarray(theirs, np.int16)).max(-1)
        records.append(
            {
                "name": f"official_viewer_frames/{scene.name}/{index}",
                "viewer": viewer,
                "occlusion_delay": occlusion,
                "mean": float(difference.mean()),
                "max": int(difference.max()),
                "share_within_2": float((difference <= TOLERANCE).mean()),
            }
        )
        if save is not None:
            save.mkdir(parents=True, exist_ok=True)
            ours.save(save / f"{scene.name}_{index}_{viewer}.png")
    return records


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--occlusion",
        type=float,
        nargs="+",
        default=[1.0, 0.99],
        help="1 is off; the official viewer uses 0.99",
    )
    parser.add_argument("--viewers", nargs="+", choices=("web", "desktop"), default=["web", "desktop"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--save", type=Path, help="folder for our frames")
    arguments = parser.parse_args()
    records = []
    scenes = sorted(path.parent for path in arguments.data.glob("*/cameras.json"))
    with contextlib.ExitStack() as stack:
        drawers = {}
        if "desktop" in arguments.viewers:
            stack.enter_context(desktop_viewer("context").offscreen_context())
            drawers["desktop"] = draw_on_desktop
        if "web" in arguments.viewers:
            from playwright.sync_api import sync_playwright

            playwright = stack.enter_context(sync_playwright())
            path = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
            stack.callback(browser.close)
            drawers["web"] = functools.partial(draw_in_page, browser)
        for scene in scenes:
            for occlusion in arguments.occlusion:
                for viewer, draw in drawers.items():
                    records += compare_scene(draw, viewer, scene, occlusion, arguments.save)
    print(f"{'frame':40} {'viewer':>8} {'delay':>6} {'mean':>7} {'max':>4} {'within 2/255':>13}")
    for record in records:
        share = f"{100 * record['share_within_2']:.3f} %"
        figures = f"{record['occlusion_delay']:6} {record['mean']:7.3f} {record['max']:4} {share:>13}"
        print(f"{record['name']:40} {record['viewer']:>8} {figures}")
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1))
    return 0 if records and all(record["share_within_2"] >= FRACTION_WITHIN for record in records) else 1


if __name__ == "__main__":
    sys.exit(main())
