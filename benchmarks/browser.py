"""Headless Chromium for the benchmarks of pages: start it, render a camera, read the canvas."""

from __future__ import annotations

import base64
import contextlib
import io
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from smerf.errors import MissingPartError
from smerf.evaluation.viewers import DRAW, WEBGPU_FLAGS

__all__ = [
    "DEVICE",
    "browser_versions",
    "canvas_image",
    "chromium",
    "gpu_process_ms",
    "is_complaint",
    "render_camera",
]

SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
UNLIMITED = ("--disable-gpu-vsync", "--disable-frame-rate-limit", "--disable-renderer-backgrounding")
DEVICE = """() => {
  const gl = document.createElement("canvas").getContext("webgl2");
  const names = gl && gl.getExtension("WEBGL_debug_renderer_info");
  return names ? gl.getParameter(names.UNMASKED_RENDERER_WEBGL) : "unknown";
}"""
"""Returns the name of the device that renders the page."""


@contextlib.contextmanager
def chromium(has_gpu: bool = False, is_timed: bool = False, has_webgpu: bool = False) -> Iterator[Any]:
    """Start Chromium, in software unless it may use the GPU; when timed, without vsync and frame limit.

    ``has_webgpu`` lets it draw by WebGPU in software.

    Raises:
        MissingPartError: If playwright or Chromium is not installed.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise MissingPartError("pages need playwright: pip install 'smerf[verify]'") from error
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise MissingPartError("pages need Chromium: apt-get install chromium")
    software = SOFTWARE + (WEBGPU_FLAGS if has_webgpu else ())
    flags = ["--no-sandbox", *(() if has_gpu else software), *(UNLIMITED if is_timed else ())]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


def is_complaint(message: Any) -> bool:
    """Return whether a message of the console is an error or a warning of the page."""
    # Chromium says this by itself to a page that asks for WebGPU where there is none.
    return message.type in ("error", "warning") and message.text != "No available adapters."


def render_camera(
    page: Any, matrix: Sequence[float], fov: float, intrinsics: dict | None = None
) -> np.ndarray:
    """Render a camera in our page (16 numbers by rows, vertical degrees); return the canvas (H, W, 3) uint8."""
    return _pixels(page.evaluate(DRAW, [list(matrix), fov, intrinsics]))


def canvas_image(page: Any) -> np.ndarray:
    """Return the page's canvas (H, W, 3) uint8."""
    return _pixels(page.evaluate("document.querySelector('canvas').toDataURL().split(',')[1]"))


def _pixels(png: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))


def gpu_process_ms(browser: Any) -> float:
    """Return the processor time of the browser's GPU process, which renders where there is no GPU."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(1e3 * process["cpuTime"] for process in processes if process["type"] == "GPU")


def browser_versions(browser: Any, page: Any) -> dict[str, str]:
    """Return what a record says of the browser and the device that renders."""
    return {"browser": f"Chromium {browser.version}", "renderer": page.evaluate(DEVICE)}
