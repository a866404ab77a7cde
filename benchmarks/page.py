"""Compare the exported page, drawn by a headless browser, with the PyTorch reference and the native renderer.

    python -m benchmarks.page [SITE_OR_RUN] [--photos CAPTURE] [--frames 3] [--size 240x160] [--json FILE]

Held-out cameras of the scene's manifest (all its cameras where it names no held-out ones) are drawn at the
same size by all three. Without a page a room made from formulas is baked and exported first. The table gives
differences per pixel (largest channel) in levels of 255, and with --photos the PSNR of each picture against
the photo reduced to that size. Needs Chromium and playwright. Exits with 1 if fewer than 99 % of a frame's
pixels agree within 2/255, or the page reports an error.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.browser import browser_versions, chromium, is_complaint, render_camera
from benchmarks.common import Benchmark, Report, size
from smerf.capture import load_capture, load_image
from smerf.capture.types import Camera, Intrinsics
from smerf.errors import UsageError
from smerf.evaluation.metrics import psnr
from smerf.export.serve import SceneServer
from smerf.export.site import export_site
from smerf.render import march as native
from smerf.render import reference
from smerf.scene import BakedScene, load_scene
from smerf.scene.example import example_camera, example_scene
from smerf.scene.manifest import SceneCamera
from smerf.scene.write import write_scene

TOLERANCE = 2
FRACTION_WITHIN = 0.99


@dataclass(frozen=True)
class Difference:
    """How far two pictures are apart, in levels of 255 (largest channel of each pixel)."""

    fraction_within: float
    maximum: int
    mean: float


def find_site(path: Path) -> Path:
    """Return the folder of the page: the path itself, or a run's ``site``."""
    for folder in (path / "site", path):
        if (folder / "index.html").is_file():
            return folder
    raise UsageError(f"{path}: holds no exported page; smerf export or smerf run makes one")


def find_scene(site: Path) -> Path:
    """Return the baked scene that a page shows."""
    found = sorted(path.parent for path in site.rglob("manifest.json"))
    if not found:
        raise UsageError(f"{site}: the page has no manifest.json, so its cameras are not known")
    return found[0]


def at_size(camera: Camera, width: int, height: int) -> Camera:
    """Return a camera that sees all of the photo's field along the tighter axis, with its principal point."""
    intrinsics = camera.intrinsics
    scale = max(width / intrinsics.width, height / intrinsics.height)
    cx = width / 2 + (intrinsics.cx - intrinsics.width / 2) * scale
    cy = height / 2 + (intrinsics.cy - intrinsics.height / 2) * scale
    sized = Intrinsics("PINHOLE", width, height, intrinsics.fx * scale, intrinsics.fy * scale, cx, cy)
    return replace(camera, intrinsics=sized)


def choose_cameras(scene: BakedScene, count: int) -> list[SceneCamera]:
    """Return ``count`` held-out cameras, spread over the list."""
    cameras = [entry for entry in scene.manifest.cameras if entry.split == "test"] or scene.manifest.cameras
    if not cameras:
        raise UsageError("the scene's manifest names no cameras")
    picked = np.linspace(0, len(cameras) - 1, min(count, len(cameras))).round().astype(int)
    return [cameras[index] for index in picked]


def to_bytes(image: np.ndarray) -> np.ndarray:
    return np.round(255.0 * np.clip(image, 0.0, 1.0)).astype(np.int16)


def compare(first: np.ndarray, second: np.ndarray) -> Difference:
    """Compare two pictures (H, W, 3) int16."""
    difference = np.abs(first - second).max(-1)
    fraction = float((difference <= TOLERANCE).mean())
    return Difference(fraction, int(difference.max()), float(difference.mean()))


class Page:
    """The exported page in a headless browser. ``errors`` holds what it wrote to the console."""

    def __init__(self, browser, address: str, width: int, height: int) -> None:
        self.errors: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
        self.page.set_default_timeout(180_000)
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(address)
        self.page.evaluate("smerf.ready")

    def _note(self, message) -> None:
        if is_complaint(message):
            self.errors.append(message.text)

    def render(self, camera: Camera) -> np.ndarray:
        """Draw a camera and return the canvas, (H, W, 3) int16."""
        intrinsics = camera.intrinsics
        fov = math.degrees(2.0 * math.atan(intrinsics.height / (2.0 * intrinsics.fy)))
        matrix = np.concatenate([camera.world_from_cam, [[0.0, 0.0, 0.0, 1.0]]])
        fractions = {
            "fx": intrinsics.fx / intrinsics.width,
            "fy": intrinsics.fy / intrinsics.height,
            "cx": intrinsics.cx / intrinsics.width,
            "cy": intrinsics.cy / intrinsics.height,
        }
        return render_camera(self.page, matrix.ravel().tolist(), fov, fractions).astype(np.int16)


def export_example(folder: Path) -> Path:
    """Bake and export the built-in room, seen by three cameras; return the page's folder."""
    scene = example_scene(256)
    cameras = [SceneCamera(f"turn {i}", "test", example_camera(turn=2.0 * math.pi * i / 3)) for i in range(3)]
    manifest = replace(scene.manifest, cameras=tuple(cameras))
    submodels = (scene.submodel(k) for k in range(len(scene.params.params_to_sm)))
    write_scene(folder / "baked", scene.params, scene.mlp, submodels, manifest)
    return export_site(folder / "baked", folder / "site").parent


def photos_of(capture: Path, cameras: list[SceneCamera], width: int, height: int) -> list[np.ndarray]:
    """Return the photos of the cameras, cut and resized to what ``at_size`` sees, (H, W, 3) int16."""
    frames = {frame.name: frame for frame in load_capture(capture).frames}
    photos = []
    for entry in cameras:
        if entry.name not in frames:
            raise UsageError(f"{capture}: has no photo {entry.name}, which the scene's manifest names")
        frame = frames[entry.name]
        pixels = load_image(frame)
        if pixels.shape[-1] == 4:
            alpha = pixels[..., 3:] / 255.0
            pixels = np.round(pixels[..., :3] * alpha + 255.0 * (1.0 - alpha)).astype(np.uint8)
        rows, columns = pixels.shape[:2]
        scale = max(width / columns, height / rows)
        left, top = (columns - width / scale) / 2, (rows - height / scale) / 2
        box = (left, top, columns - left, rows - top)
        sized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX, box=box)
        photos.append(np.asarray(sized, np.int16))
    return photos


def compare_frame(scene: BakedScene, camera: Camera, drawn: np.ndarray, photo: np.ndarray | None) -> dict:
    """Return how a frame of the page differs from the renderers', and from the photo."""
    peers = {
        "reference": to_bytes(reference.render_camera(scene, camera)),
        "native": to_bytes(native.render_camera(scene, camera)),
    }
    record: dict[str, float] = {}
    for name, image in peers.items():
        difference = compare(drawn, image)
        record[f"{name}_within_2"] = difference.fraction_within
        record[f"{name}_max"] = difference.maximum
        record[f"{name}_mean"] = difference.mean
    if photo is not None:
        for name, image in {"page": drawn, **peers}.items():
            record[f"{name}_psnr"] = psnr(image / 255.0, photo / 255.0)
    return record


def measure_page(browser: Any, path: Path, options: argparse.Namespace, report: Report) -> list[str]:
    """Render the page's held-out cameras, report one record a frame; return what the page wrote to the console."""
    width, height = options.size
    site = find_site(path)
    scene = load_scene(find_scene(site))
    cameras = choose_cameras(scene, options.frames)
    photos = photos_of(options.photos, cameras, width, height) if options.photos else [None] * len(cameras)
    with SceneServer(site) as server:
        page = Page(browser, f"{server.url}?ui=0&dpr=1&backend=webgl", width, height)
        for entry, photo in zip(cameras, photos, strict=True):
            camera = at_size(entry.camera, width, height)
            started = time.perf_counter()
            drawn = page.render(camera)
            seconds = time.perf_counter() - started
            report.add(
                f"page/{entry.name}", size=[width, height], page_ms=1e3 * seconds,
                **compare_frame(scene, camera, drawn, photo), **browser_versions(browser, page.page),
            )  # fmt: skip
        page.page.close()
    return page.errors


def print_table(records: list[dict]) -> None:
    has_photos = "page_psnr" in records[0]
    header = f"{'frame':24} {'peer':>10} {'within 2/255':>13} {'max':>4} {'mean':>7}"
    print(header + (f" {'PSNR page':>10} {'PSNR peer':>10}" if has_photos else ""))
    for record in records:
        for peer in ("reference", "native"):
            fraction = f"{100 * record[f'{peer}_within_2']:.3f} %"
            line = f"{record['name'].removeprefix('page/'):24} {peer:>10} {fraction:>13}"
            line += f" {record[f'{peer}_max']:4d} {record[f'{peer}_mean']:7.3f}"
            if has_photos:
                line += f" {record['page_psnr']:10.2f} {record[f'{peer}_psnr']:10.2f}"
            print(line)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", help="an exported page's folder, or a run")
    parser.add_argument("--photos", type=Path, help="the capture, to measure PSNR against its photos")
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--size", type=size, default=(240, 160))


def measure(options: argparse.Namespace, report: Report) -> int:
    with chromium() as browser, tempfile.TemporaryDirectory() as temporary:
        path = options.path or export_example(Path(temporary))
        errors = measure_page(browser, path, options, report)
    print_table(report.records)
    for error in errors:
        print(f"the page reports: {error}")
    fractions = [record[f"{peer}_within_2"] for record in report.records for peer in ("reference", "native")]
    return 0 if min(fractions) >= FRACTION_WITHIN and not errors else 1


BENCHMARK = Benchmark(__doc__, measure, options, short=["--frames", "1", "--size", "120x80"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
