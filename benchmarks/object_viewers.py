"""The viewers of slots against the PyTorch decoder: agreement of frames, time of a frame, and the page while it moves.

    python -m benchmarks.object_viewers [--preset gpu-lean] [--size 128] [--frames 10] [--gpu] [--json FILE]
                                        [--screenshot FILE.png]

Slots and weights are random (time does not depend on them), chosen so that several slots own pixels. The same view is
drawn by PyTorch, by the desktop viewer without a display, and by the exported page in headless Chromium; each frame
is waited for. Differences are counted in steps of 1/255 against PyTorch, the largest channel of a pixel. Then a key is
held in a page of 800x600 for three seconds: how many frames a second it shows, of how many pixels, and the longest
time in which the page could not have answered. Without --gpu the browser draws in software (SwiftShader). "CPU ms" is
the processor time of the browser's GPU process per frame, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.browser import browser_versions, canvas_image, chromium, gpu_process_ms
from benchmarks.common import Benchmark, Report
from smerf.export.desktop import desktop_viewer
from smerf.export.serve import SceneServer
from smerf.export.slot_site import export_slots
from smerf.objects.cameras import look_at, make_camera
from smerf.objects.config import PRESETS
from smerf.objects.editing.pack import pack_scene
from smerf.objects.editing.rendering import SlotRenderer
from smerf.objects.editing.slots import SavedSlots
from smerf.objects.model.osrt import Osrt
from smerf.objects.model.store import model_digest
from smerf.scene.slots import SlotScene

DRAW = """async (frames) => {
  const times = [];
  const camera = smerf.getCamera();
  for (let i = 0; i <= frames; i++) {
    const since = performance.now();
    await smerf.setCamera(camera.cameraToWorld, camera.fovDegrees);
    if (i) times.push(performance.now() - since);
  }
  return {times, drawn: smerf.stats().frameMs};
}"""
WATCH = """() => {
  globalThis.gaps = [];
  globalThis.shown = [];
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    gaps.push(now - last);
    last = now;
    const {fps, frameMs, renderWidth, renderHeight} = smerf.stats();
    shown.push([fps, frameMs, renderWidth * renderHeight]);
  }, 10);
}"""


def random_scene(preset: str) -> tuple[Osrt, SavedSlots]:
    """Return a model of random weights and slots, with sharper weights than random weights have."""
    torch.manual_seed(3)
    model = Osrt(PRESETS[preset]).eval().requires_grad_(False)
    model.decoder.query.weight.mul_(6.0)
    for value in model.decoder.parameters():
        if value.ndim == 1:
            value.add_(0.1 * torch.randn_like(value))
        # As rounded for the viewers' textures, so that what is left is the arithmetic.
        value.copy_(value.half())
    slots = model.config.slots
    camera = make_camera(look_at(torch.tensor([6.0, 2.0, 3.5])), 0.785, model.config.image)
    return model, SavedSlots(torch.randn(slots.count, slots.width), (camera,), model_digest(model), "")


def timed(draw: Callable[[], Any], frames: int) -> tuple[Any, list[float]]:
    """Return the last result and the milliseconds of each call after a first one."""
    times = []
    for _ in range(frames + 1):
        since = time.perf_counter()
        result = draw()
        times.append(1e3 * (time.perf_counter() - since))
    return result, times[1:]


def draw_desktop(scene: SlotScene, size: int, frames: int) -> tuple[np.ndarray, list[float], str]:
    """Return the desktop viewer's picture (H, W, 3), its times, and the device."""
    context, slots = desktop_viewer("context"), desktop_viewer("slots")
    with context.EglContext() as egl:
        egl.make_current()
        GL = context.gl()
        painter = slots.SlotPainter(scene)
        image, times = timed(lambda: painter.image(scene.pose, scene.fov, (size, size)), frames)
        device = GL.glGetString(GL.GL_RENDERER).decode()
        painter.free()
    return image[..., :3], times, device


def draw_page(
    scene: SlotScene, size: int, frames: int, has_gpu: bool, screenshot: Path | None
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the page's picture (H, W, 3), and its times and device."""
    with tempfile.TemporaryDirectory() as folder, chromium(has_gpu, is_timed=True) as browser:
        export_slots(scene, Path(folder) / "site")
        with SceneServer(Path(folder) / "site") as server:
            page = browser.new_page(
                viewport={"width": 800, "height": 600}, device_scale_factor=1, bypass_csp=True
            )
            page.set_default_timeout(600_000)
            since = time.perf_counter()
            page.goto(f"{server.url}?size={size},{size}&dpr=1&ui=0")
            page.evaluate("smerf.ready")
            opened = time.perf_counter() - since
            before = gpu_process_ms(browser)
            drawn = page.evaluate(DRAW, frames)
            cpu_ms = (gpu_process_ms(browser) - before) / (frames + 1)
            image, versions = canvas_image(page), browser_versions(browser, page)
            page.goto(f"{server.url}?dpr=1")
            page.wait_for_function("smerf.stats().frameMs > 0")
            page.evaluate(WATCH)
            page.locator("canvas").focus()
            page.keyboard.down("ArrowLeft")
            page.wait_for_timeout(3000)
            gaps, shown = page.evaluate("[gaps, shown.slice(-100)]")
            page.keyboard.up("ArrowLeft")
            if screenshot:
                page.screenshot(path=screenshot)
    fps, frame_ms, pixels = np.median(np.array(shown), 0)
    moving = {
        "moving_fps": float(fps), "moving_frame_ms": float(frame_ms), "moving_pixels": float(pixels),
        "longest_gap_ms": max(gaps), "opened_s": opened, "cpu_ms": cpu_ms,
    }  # fmt: skip
    return image, {"times": drawn["times"], **versions, **moving}


def compared(found: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    difference = np.abs(found.astype(int) - wanted.astype(int)).max(-1)
    return {"max_difference": int(difference.max()), "within_2": float((difference <= 2).mean())}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="gpu-lean", choices=sorted(PRESETS))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--screenshot", type=Path)


def measure(options: argparse.Namespace, report: Report) -> None:
    size, frames = options.size, options.frames
    model, saved = random_scene(options.preset)
    scene = pack_scene(model, saved)
    renderer = SlotRenderer(model, saved)
    drawn, times = timed(lambda: renderer.render(saved.cameras[0], (size, size)), frames)
    wanted = np.rint(255 * drawn.colour.numpy()).astype(np.uint8)
    owners = len(drawn.mask.unique())
    results: list[tuple[str, np.ndarray, dict[str, Any]]] = [("PyTorch", wanted, {"times": times})]
    image, times, device = draw_desktop(scene, size, frames)
    results.append(("desktop", image, {"times": times, "renderer": device}))
    results.append(("web", *draw_page(scene, size, frames, options.gpu, options.screenshot)))
    print(f"{options.preset}, {len(saved.slots)} slots of which {owners} own pixels, {size}x{size}")
    for name, image, facts in results:
        taken = facts.pop("times")
        record = report.add(
            f"slots/{name}", preset=options.preset, size=[size, size], median_ms=statistics.median(taken),
            spread=(max(taken) - min(taken)) / 2, **compared(image, wanted), **facts,
        )  # fmt: skip
        print(
            f"{name:8s} {record['median_ms']:8.1f} ms +- {record['spread']:.1f}; within 2/255 "
            f"{100 * record['within_2']:.3f} %, largest {record['max_difference']}; {facts.get('renderer', 'CPU')}"
        )
    moving = f"{record['moving_fps']:.0f} frames/s of {record['moving_pixels']:.0f} pixels"
    print(
        f"page opened after {record['opened_s']:.1f} s, {record['cpu_ms']:.0f} CPU ms a frame; while it moves "
        f"{moving} ({record['moving_frame_ms']:.0f} ms each), longest gap {record['longest_gap_ms']:.0f} ms"
    )


BENCHMARK = Benchmark(
    __doc__, measure, options, short=["--preset", "cpu-easy", "--size", "32", "--frames", "2"]
)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
