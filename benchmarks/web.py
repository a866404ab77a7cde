"""Frame times of the exported page in headless Chromium, what each optimisation brings, and another viewer's page.

    python -m benchmarks.web [SITE_OR_RUN] [--cameras 3] [--size 320x240] [--frames 20] [--ablate] [--webgpu] [--gpu]
                             [--official DIR] [--other URL] [--other-ready JS] [--other-camera JS] [--json FILE]

Held-out cameras of the scene's manifest are drawn at full detail, vsync and frame limit off, and every frame is
waited for by reading a pixel back. Beside the times stand texture fetches per sample and samples per ray, from a
counting build of the shader; --ablate repeats both with one optimisation switched off at a time. Without a page a
room made from formulas is baked and exported first; a folder with ``baked/``, ``cameras.json`` and ``frames/`` (of the
official viewer, see ``benchmarks/official_viewer_frames.py``) is opened as it is. Without --gpu the browser draws
in software (SwiftShader): the figures then compare shaders, not devices. "CPU ms" is the processor time of the
browser's GPU process per frame; that of variants also holds the compilation of their shaders.

--webgpu measures the page drawn by WebGPU beside it, in a browser of its own; its ratio is to WebGL2's time.

--official is the folder ``viewer`` of the official SMERF viewer's published source, which is served on this machine
beside the same assets. --other names any other viewer's page. Either is opened once per camera; the last column
says how much of its picture agrees with ours within 2/255. In the address {pos}, {look}, {matrix} and {fov} become
numbers with commas between (training axes, OpenGL camera-to-world, vertical degrees), {width} and {height} the size.
--other-ready is an expression that turns true when the page has loaded; --other-camera is a function
(matrix, fov) => ... for pages that take no camera by address. --occlusion 0.99 lets our page enlarge its steps behind
nearly opaque content as the official one does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import browser_versions, chromium, gpu_process_ms, render_camera
from benchmarks.common import Benchmark, Report, size
from benchmarks.official_viewer_frames import training_camera
from benchmarks.other_pages import OtherPage, fov, measure_other, official_page, pose
from benchmarks.page import TOLERANCE, at_size, choose_cameras, export_example, find_scene, find_site
from smerf.capture.types import Camera, Intrinsics
from smerf.errors import MissingPartError, UsageError
from smerf.export.serve import SceneServer
from smerf.scene import load_scene

VARIANTS: dict[str, dict[str, int]] = {
    "everything": {},
    "colour with density": {"DENSITY_FIRST": 0},
    "no distance grid": {"SKIP_BY_DISTANCE": 0},
    "distance grid, radius only": {"SKIP_TO_CUBE": 0},
    "no occupancy bits": {"SKIP_BY_OCCUPANCY": 0},
    "no skipping": {"SKIP_BY_DISTANCE": 0, "SKIP_BY_OCCUPANCY": 0},
    "skips among samples": {"SKIP_TOGETHER": 0},
    "no early termination": {"EARLY_TERMINATION": 0},
    "appearance in the march": {"FUSED_APPEARANCE": 1},
}
"""Defines of the march, as in ``viewer/shaders/README.md``, by what is missing."""
DEFAULT_NEAR = 0.2


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


def measure_own(
    browser: Any, page: Any, cameras: list[Camera], frames: int, defines: dict[str, int]
) -> dict[str, Any]:
    """Draw the cameras in our page with these defines: frame times, and counts per ray."""
    views = [{"matrix": pose(camera), "fov": fov(camera)} for camera in cameras]
    ask = "(options) => smerf.benchmark(options)"
    page.evaluate("smerf.ready")
    since = gpu_process_ms(browser)
    timed = page.evaluate(ask, {"cameras": views, "frames": frames, "defines": defines})
    # Each camera's first frame is not timed.
    processor_ms = (gpu_process_ms(browser) - since) / (len(views) * (frames + 1))
    counted = {name: value for name, value in defines.items() if name != "FUSED_APPEARANCE"} | {"COUNT": 1}
    counts = page.evaluate(ask, {"cameras": views, "defines": counted})["counts"]
    mean = {name: float(np.mean([count[name] for count in counts])) for name in counts[0]}
    return {
        **summary(timed["frameMs"]),
        "size": [timed["width"], timed["height"]],
        "processor_ms": processor_ms,
        "camera_ms": timed["cameraMs"],
        "samples_per_ray": mean["samples"],
        "colour_samples_per_ray": mean["colourSamples"],
        "iterations_per_ray": mean["iterations"],
        "fetches_per_ray": mean["fetches"],
        "fetches_per_sample": mean["fetches"] / max(mean["samples"], 1e-9),
    }


def agreement(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float | None:
    """Return the fraction of pixels within 2/255; ``None`` where sizes differ."""
    if any(a.shape != b.shape for a, b in zip(ours, theirs, strict=True)):
        return None
    pairs = [np.abs(a.astype(np.int16) - b).max(-1) <= TOLERANCE for a, b in zip(ours, theirs, strict=True)]
    return float(np.mean(pairs))


@dataclass(frozen=True)
class Subject:
    """What is measured: the folder to serve our page from, the scene's folder, cameras, near plane."""

    served: Path
    baked: Path
    cameras: list[Camera]
    near: float


def find_subject(path: Path | None, temporary: Path, count: int, width: int, height: int) -> Subject:
    """Return the page, scene and cameras behind an argument; without one a room is baked and exported."""
    # Exported pages have a cameras.json of another kind.
    if path is not None and (path / "frames").is_dir() and (path / "cameras.json").is_file():
        frames = json.loads((path / "cameras.json").read_text())["frames"]
        picked = np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int)
        cameras = []
        for frame in (frames[index] for index in picked):
            matrix = training_camera(frame["camera_to_world_viewer_axes"])
            focal = height / (2.0 * np.tan(np.radians(frame["fov_y_degrees"]) / 2.0))
            lens = Intrinsics("PINHOLE", width, height, focal, focal, width / 2, height / 2)
            cameras.append(Camera(lens, matrix[:3]))
        return Subject(path / "baked", path / "baked", cameras, DEFAULT_NEAR)
    site = find_site(path or export_example(temporary).parent)
    baked = find_scene(site)
    scene = load_scene(baked)
    entries = choose_cameras(scene, count)
    cameras = [at_size(entry.camera, width, height) for entry in entries]
    return Subject(site, baked, cameras, scene.manifest.near or DEFAULT_NEAR)


def open_own(
    browser: Any, options: argparse.Namespace, subject: Subject, stack: Any, backend: str
) -> tuple[Any, dict[str, Any]]:
    """Open our page, drawn by one back end; return it and what its records share."""
    width, height = options.size
    server = stack.enter_context(SceneServer(subject.served))
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
    page.set_default_timeout(600_000)
    page.goto(f"{server.url}?ui=0&dpr=1&quality=high&backend={backend}&occlusion={options.occlusion:g}")
    page.evaluate("smerf.ready")
    stats = page.evaluate("smerf.stats()")
    if backend == "webgpu" and stats["backendReason"]:
        raise MissingPartError(f"--webgpu: {stats['backendReason']}")
    return page, {
        "frames": options.frames * len(subject.cameras),
        "occlusion_delay": options.occlusion,
        "backend": stats["backend"],
        **browser_versions(browser, page),
    }


def measure_webgpu(options: argparse.Namespace, subject: Subject, webgl: dict[str, Any]) -> dict[str, Any]:
    """Measure our page as WebGPU draws it; its peer is what WebGL2 took."""
    with (
        chromium(options.gpu, is_timed=True, has_webgpu=True) as browser,
        contextlib.ExitStack() as stack,
    ):
        page, shared = open_own(browser, options, subject, stack, "webgpu")
        found = measure_own(browser, page, subject.cameras, options.frames, {})
    peer = {"peer": "WebGL2", "peer_ms": webgl["median_ms"]}
    return {
        "name": "web/webgpu",
        **found,
        **shared,
        **peer,
        "speedup": webgl["median_ms"] / found["median_ms"],
    }


def measure_pages(
    browser: Any, options: argparse.Namespace, subject: Subject, stack: Any
) -> list[dict[str, Any]]:
    """Measure our page in every variant, then the other pages."""
    width, height = options.size
    page, shared = open_own(browser, options, subject, stack, "webgl")
    records = []
    for name, defines in VARIANTS.items() if options.ablate else [("everything", {})]:
        found = measure_own(browser, page, subject.cameras, options.frames, defines)
        records.append({"name": f"web/{name}", **found, "defines": defines, **shared})
    others: dict[str, OtherPage] = {}
    if options.official:
        others["official viewer"] = stack.enter_context(
            official_page(options.official, subject.baked, subject.near)
        )
    if options.other:
        others["other page"] = OtherPage(options.other, options.other_ready, options.other_camera)
    own = [render_camera(page, pose(camera), fov(camera)) for camera in subject.cameras] if others else []
    page.close()
    for name, other in others.items():
        times, processor_ms, pictures = measure_other(
            browser, other, subject.cameras, (width, height), options.frames
        )
        record = {"name": f"web/{name}", **summary(times), "processor_ms": processor_ms, **shared}
        record["size"] = [width, height]
        records.append(record | {"fraction_within_2_of_ours": agreement(own, pictures)})
        peer = {"peer": name, "peer_ms": record["median_ms"]}
        records[0] |= peer | {"speedup": record["median_ms"] / records[0]["median_ms"]}
    return records


def print_tables(records: list[dict[str, Any]]) -> None:
    """Print frame times, and per variant how its median compares with everything switched on."""
    print(f"{records[0]['browser']}, {records[0]['renderer']}")
    print(
        f"{'page':28} {'fps':>7} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'CPU ms':>9} {'p50 / ours':>10}"
        f" {'samples/ray':>12} {'fetches/sample':>15} {'fetches/ray':>12} {'agrees':>9}"
    )
    for record in records:
        ratio = record["median_ms"] / records[0]["median_ms"]
        line = f"{record['name'].removeprefix('web/'):28} {record['fps']:7.2f} {record['median_ms']:9.1f}"
        line += (
            f" {record['p95_ms']:9.1f} {record['p99_ms']:9.1f} {record['processor_ms']:9.1f} {ratio:10.2f}"
        )
        if "samples_per_ray" in record:
            line += f" {record['samples_per_ray']:12.1f} {record['fetches_per_sample']:15.2f}"
            line += f" {record['fetches_per_ray']:12.1f}"
        fraction = record.get("fraction_within_2_of_ours")
        print(line if fraction is None else f"{line:133} {100 * fraction:7.2f} %")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", help="an exported page's folder, or a run")
    parser.add_argument("--cameras", type=int, default=3)
    parser.add_argument("--size", type=size, default=(320, 240))
    parser.add_argument("--frames", type=int, default=20, help="per camera")
    parser.add_argument("--ablate", action="store_true", help="switch off one optimisation at a time")
    parser.add_argument("--webgpu", action="store_true", help="the page drawn by WebGPU as well")
    parser.add_argument("--gpu", action="store_true", help="let the browser find the machine's GPU")
    parser.add_argument("--occlusion", type=float, default=1.0, help="1 keeps every step at one voxel")
    parser.add_argument("--official", type=Path, metavar="DIR", help="the official viewer; see above")
    parser.add_argument("--other", metavar="URL", help="another viewer's page; see above")
    parser.add_argument("--other-ready", metavar="JS", default="document.readyState === 'complete'")
    parser.add_argument("--other-camera", metavar="JS")


def measure(options: argparse.Namespace, report: Report) -> None:
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        subject = find_subject(options.path, temporary, options.cameras, *options.size)
        with chromium(options.gpu, is_timed=True) as browser, contextlib.ExitStack() as pages:
            records = measure_pages(browser, options, subject, pages)
        if options.webgpu:
            records.append(measure_webgpu(options, subject, records[0]))
    for record in records:
        report.add(**record)
    print_tables(records)


BENCHMARK = Benchmark(__doc__, measure, options, short=["--cameras", "1", "--size", "64x48", "--frames", "3"])

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
