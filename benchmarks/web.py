"""Frame times of the exported page in headless Chromium, what each optimisation brings, and another viewer's page.

    python benchmarks/web.py [SITE_OR_RUN] [--cameras 3] [--size 320x240] [--frames 20] [--ablate] [--gpu]
                             [--other URL] [--other-ready JS] [--other-camera JS] [--json FILE]

Held-out cameras of the scene's manifest are drawn at full detail, vsync and frame limit off, and every frame is
waited for by reading a pixel back. Beside the times stand texture fetches per sample and samples per ray, from a
counting build of the shader; --ablate repeats both with one optimisation switched off at a time. Without a page a
room made from formulas is baked and exported first. Without --gpu the browser draws in software (SwiftShader): the
figures then compare shaders, not devices.

--other names another viewer's page, opened once per camera. In the address {pos}, {look}, {matrix} and {fov} become
numbers with commas between (training axes, OpenGL camera-to-world, vertical degrees), {width} and {height} the size.
--other-ready is an expression that turns true when the page has loaded; --other-camera is a function
(matrix, fov) => ... for pages that take no camera by address. The page must draw one frame per animation frame; a
frame's time is that of its callback and of reading a pixel back from every WebGL canvas.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.page import at_size, choose_cameras, export_example, find_scene, find_site
from smerf.capture.types import Camera
from smerf.errors import SmerfError, UsageError
from smerf.scene import load_scene
from smerf.scene.serve import SceneServer

SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu-vsync",
    "--disable-frame-rate-limit",
    "--disable-renderer-backgrounding",
)
VARIANTS: dict[str, dict[str, int]] = {
    "everything": {},
    "colour with density": {"DENSITY_FIRST": 0},
    "no distance grid": {"SKIP_BY_DISTANCE": 0},
    "distance grid, radius only": {"SKIP_TO_CUBE": 0},
    "no occupancy bits": {"SKIP_BY_OCCUPANCY": 0},
    "no skipping": {"SKIP_BY_DISTANCE": 0, "SKIP_BY_OCCUPANCY": 0},
    "skips among samples": {"SKIP_TOGETHER": 0},
    "no early termination": {"EARLY_TERMINATION": 0},
    "core bent like the rest": {"STRAIGHT_CORE": 0},
    "appearance in the march": {"FUSED_APPEARANCE": 1},
}
"""Defines of the march, as in ``viewer/shaders/README.md``, by what is missing."""
WATCH = """(() => {
  globalThis.smerfFrameTimes = [];
  const contexts = new Set();
  const get = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    const context = get.call(this, kind, ...rest);
    if (context && String(kind).startsWith("webgl")) contexts.add(context);
    return context;
  };
  const request = globalThis.requestAnimationFrame.bind(globalThis);
  globalThis.requestAnimationFrame = (callback) => request((now) => {
    const since = performance.now();
    callback(now);
    for (const gl of contexts) {
      const bound = gl.getParameter(gl.FRAMEBUFFER_BINDING);
      gl.bindFramebuffer(gl.FRAMEBUFFER, null);
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
      gl.bindFramebuffer(gl.FRAMEBUFFER, bound);
    }
    smerfFrameTimes.push(performance.now() - since);
  });
})();"""
DEVICE = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  const names = gl && gl.getExtension("WEBGL_debug_renderer_info");
  return names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "unknown";
}"""


def pose(camera: Camera) -> list[float]:
    """Return the camera-to-world matrix as 16 numbers, rows."""
    return np.concatenate([camera.world_from_cam, [[0.0, 0.0, 0.0, 1.0]]]).ravel().tolist()


def fov(camera: Camera) -> float:
    """Return the vertical field of view in degrees."""
    lens = camera.intrinsics
    return math.degrees(2.0 * math.atan(lens.height / (2.0 * lens.fy)))


def summary(times: list[float]) -> dict[str, float]:
    """Return frames per second and percentiles of frame times in milliseconds."""
    if not times:
        raise UsageError("the page drew no frame: it must draw one at every animation frame")
    p50, p95, p99 = np.percentile(times, (50, 95, 99))
    spread = float(p95 - np.percentile(times, 5))
    return {
        "fps": 1e3 * len(times) / sum(times),
        "median_ms": float(p50),
        "p95_ms": float(p95),
        "p99_ms": float(p99),
        "spread": spread,
    }


def measure_own(page: Any, cameras: list[Camera], frames: int, defines: dict[str, int]) -> dict[str, Any]:
    """Draw the cameras in our page with these defines: frame times, and counts per ray."""
    views = [{"matrix": pose(camera), "fov": fov(camera)} for camera in cameras]
    ask = "(options) => smerf.benchmark(options)"
    timed = page.evaluate(ask, {"cameras": views, "frames": frames, "defines": defines})
    counted = {name: value for name, value in defines.items() if name != "FUSED_APPEARANCE"} | {"COUNT": 1}
    counts = page.evaluate(ask, {"cameras": views, "defines": counted})["counts"]
    mean = {name: float(np.mean([count[name] for count in counts])) for name in counts[0]}
    return {
        **summary(timed["frameMs"]),
        "size": [timed["width"], timed["height"]],
        "camera_ms": timed["cameraMs"],
        "samples_per_ray": mean["samples"],
        "colour_samples_per_ray": mean["colourSamples"],
        "iterations_per_ray": mean["iterations"],
        "fetches_per_ray": mean["fetches"],
        "fetches_per_sample": mean["fetches"] / max(mean["samples"], 1e-9),
    }


def fill(template: str, camera: Camera, size: tuple[int, int]) -> str:
    """Return an address with the camera in place of the words in braces."""
    matrix = camera.world_from_cam
    place, forward = matrix[:, 3], -matrix[:, 2]
    values = {
        "pos": place,
        "look": place + forward,
        "matrix": pose(camera),
        "fov": [fov(camera)],
        "width": [size[0]],
        "height": [size[1]],
    }
    for name, numbers in values.items():
        template = template.replace(f"{{{name}}}", ",".join(f"{number:.7g}" for number in numbers))
    return template


def measure_other(
    browser: Any,
    template: str,
    cameras: list[Camera],
    size: tuple[int, int],
    frames: int,
    ready: str,
    set_camera: str | None,
) -> dict[str, Any]:
    """Open another viewer once per camera and time its animation frames."""
    times: list[float] = []
    for camera in cameras:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, device_scale_factor=1)
        page.set_default_timeout(600_000)
        page.add_init_script(WATCH)
        page.goto(fill(template, camera, size))
        page.wait_for_function(ready)
        if set_camera:
            page.evaluate(f"([matrix, fov]) => void ({set_camera})(matrix, fov)", [pose(camera), fov(camera)])
        # The frames right after loading still carry its work.
        page.evaluate("smerfFrameTimes.length = 0")
        page.wait_for_function(f"smerfFrameTimes.length >= {frames + 3}")
        times += page.evaluate("smerfFrameTimes")[3 : frames + 3]
        page.close()
    return {**summary(times), "size": list(size)}


def print_tables(records: list[dict[str, Any]]) -> None:
    """Print frame times, and per variant how its median compares with everything switched on."""
    print(f"device: {records[0]['device']}")
    print(
        f"{'page':28} {'fps':>7} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'p50 / ours':>10}"
        f" {'samples/ray':>12} {'fetches/sample':>15} {'fetches/ray':>12}"
    )
    for record in records:
        ratio = record["median_ms"] / records[0]["median_ms"]
        line = f"{record['name'].removeprefix('web/'):28} {record['fps']:7.2f} {record['median_ms']:9.1f}"
        line += f" {record['p95_ms']:9.1f} {record['p99_ms']:9.1f} {ratio:10.2f}"
        if "samples_per_ray" in record:
            line += f" {record['samples_per_ray']:12.1f} {record['fetches_per_sample']:15.2f}"
            line += f" {record['fetches_per_ray']:12.1f}"
        print(line)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, nargs="?", help="an exported page's folder, or a run")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--size", default="320x240")
    parser.add_argument("--frames", type=int, default=20, help="per camera")
    parser.add_argument("--ablate", action="store_true", help="switch off one optimisation at a time")
    parser.add_argument("--gpu", action="store_true", help="let the browser find the machine's GPU")
    parser.add_argument("--other", metavar="URL", help="another viewer's page; see above")
    parser.add_argument("--other-ready", metavar="JS", default="document.readyState === 'complete'")
    parser.add_argument("--other-camera", metavar="JS")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    width, height = (int(edge) for edge in options.size.split("x"))
    from playwright.sync_api import sync_playwright

    try:
        with sync_playwright() as playwright, tempfile.TemporaryDirectory() as temporary:
            site = find_site(options.path or export_example(Path(temporary)).parent)
            scene = load_scene(find_scene(site))
            cameras = [
                at_size(entry.camera, width, height) for entry in choose_cameras(scene, options.cameras)
            ]
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=[*FLAGS, *(() if options.gpu else SOFTWARE)]
            )
            with SceneServer(site) as server:
                page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
                page.set_default_timeout(600_000)
                page.goto(f"{server.url}?ui=0&dpr=1&quality=high")
                page.evaluate("smerf.ready")
                shared = {
                    "frames": options.frames * len(cameras),
                    "device": f"{platform.machine()}, {page.evaluate(DEVICE)}",
                    "versions": {"chromium": browser.version},
                }
                records = []
                for name, defines in VARIANTS.items() if options.ablate else [("everything", {})]:
                    found = measure_own(page, cameras, options.frames, defines)
                    records.append({"name": f"web/{name}", **found, "defines": defines, **shared})
                page.close()
                if options.other:
                    found = measure_other(
                        browser, options.other, cameras, (width, height), options.frames,
                        options.other_ready, options.other_camera,
                    )  # fmt: skip
                    own = records[0]
                    own |= {"peer": options.other, "peer_ms": found["median_ms"]}
                    own["speedup"] = found["median_ms"] / own["median_ms"]
                    records.append({"name": "web/other page", **found, **shared})
            browser.close()
    except SmerfError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print_tables(records)
    if options.json:
        options.json.write_text(json.dumps(records, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
