"""Time another viewer's page in the browser: any page by its address, or a copy of the official SMERF viewer.

The page must draw one frame per animation frame. A frame's time is that of its callback and of reading a pixel back
from every WebGL canvas; the last frame is kept, so that its picture can be compared with ours.
"""

from __future__ import annotations

import base64
import contextlib
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import gpu_process_ms
from smerf.capture.types import Camera
from smerf.errors import UsageError
from smerf.export.serve import SceneServer

__all__ = ["OtherPage", "fov", "measure_other", "official_page", "pose"]

WARM_UP = 3
"""Frames that still carry the work of loading and of a new camera."""
POLL_MS = 50

WATCH = """(() => {
  globalThis.smerfFrameTimes = [];
  const contexts = new Set();
  const get = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, ...rest) {
    const context = get.call(this, kind, ...rest);
    if (context && String(kind).startsWith("webgl")) contexts.add(context);
    return context;
  };
  const read = (gl, width, height) => {
    const pixels = new Uint8Array(4 * width * height);
    const bound = gl.getParameter(gl.FRAMEBUFFER_BINDING);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    gl.bindFramebuffer(gl.FRAMEBUFFER, bound);
    return pixels;
  };
  const request = globalThis.requestAnimationFrame.bind(globalThis);
  globalThis.requestAnimationFrame = (callback) => request((now) => {
    const since = performance.now();
    callback(now);
    for (const gl of contexts) read(gl, 1, 1);
    smerfFrameTimes.push(performance.now() - since);
    if (!globalThis.smerfWanted) return;
    const [gl] = contexts;
    const { drawingBufferWidth: width, drawingBufferHeight: height } = gl;
    let bytes = "";
    for (const byte of read(gl, width, height)) bytes += String.fromCharCode(byte);
    globalThis.smerfFrame = { width, height, pixels: btoa(bytes) };
    globalThis.smerfWanted = false;
  });
})();"""
OFFICIAL_READY = (
    "document.readyState === 'complete' && gCamera !== null && !isLoading() && gSubmodelTransform !== null"
    " && getActiveSubmodelIndex() === positionToSubmodel(gCamera.position, getActiveSubmodelContent().params)"
)
# From training to viewer axes: x' = -x, y' = z, z' = y.
OFFICIAL_CAMERA = """(m) => {
  const row = [m.slice(0, 4).map((x) => -x), m.slice(8, 12), m.slice(4, 8), [0, 0, 0, 1]];
  const pose = new THREE.Matrix4().set(...row.flat());
  gCamera.position.setFromMatrixPosition(pose);
  gCamera.quaternion.setFromRotationMatrix(pose);
}"""


@dataclass(frozen=True)
class OtherPage:
    """How to open a viewer's page: ``address`` and ``camera`` as ``benchmarks/web.py`` describes them."""

    address: str
    ready: str = "document.readyState === 'complete'"
    camera: str | None = None


def pose(camera: Camera) -> list[float]:
    """Return the camera-to-world matrix as 16 numbers, rows."""
    return np.concatenate([camera.world_from_cam, [[0.0, 0.0, 0.0, 1.0]]]).ravel().tolist()


def fov(camera: Camera) -> float:
    """Return the vertical field of view in degrees."""
    lens = camera.intrinsics
    return math.degrees(2.0 * math.atan(lens.height / (2.0 * lens.fy)))


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


@contextlib.contextmanager
def official_page(viewer: Path, baked: Path, near: float) -> Iterator[OtherPage]:
    """Serve a copy of the official viewer beside a baked scene on this machine.

    Args:
        viewer: Folder ``viewer`` of the viewer's published source, with its ``index.html``.
        baked: The scene: one submodel's folder, or the folder of ``sm_XXX``.
        near: Near plane in training units.

    Raises:
        UsageError: the folder holds no such page.
    """
    if not (viewer / "index.html").is_file() or not (viewer / "fragment.glsl").is_file():
        raise UsageError(f"{viewer}: not the folder of the official viewer's page")
    entries = sorted(path.parent.name for path in baked.glob("sm_*/scene_params.json"))
    entry = f"scene/{entries[0]}" if entries else "scene"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "official").symlink_to(viewer.absolute())
        (Path(folder) / "scene").symlink_to(baked.absolute())
        with SceneServer(Path(folder)) as server:
            # The benchmark mode leaves the camera alone.
            asked = f"dir=../{entry}&benchmark=time&s={{width}},{{height}}&vfovy={{fov}}&near={near:g}"
            address = f"{server.url}official/index.html?{asked}&useBits=true&useDistanceGrid=true"
            yield OtherPage(address, OFFICIAL_READY, OFFICIAL_CAMERA)


def measure_other(
    browser: Any, other: OtherPage, cameras: list[Camera], size: tuple[int, int], frames: int
) -> tuple[list[float], float, list[np.ndarray]]:
    """Open another viewer once per camera; return its frames' times in ms, processor time per frame in ms, and a
    picture (H, W, 3) per camera.

    Requests to other hosts are refused, so a page cannot call home.
    """
    times: list[float] = []
    pictures: list[np.ndarray] = []
    processor_ms = 0.0
    for camera in cameras:
        # Room for what the page puts around its canvas.
        viewport = {"width": size[0] + 64, "height": size[1] + 64}
        page = browser.new_page(viewport=viewport, device_scale_factor=1, bypass_csp=True)
        page.set_default_timeout(600_000)
        page.add_init_script(WATCH)
        page.route("**/*", lambda route: route.continue_() if _is_local(route.request.url) else route.abort())
        page.goto(fill(other.address, camera, size))
        page.wait_for_function(other.ready, polling=POLL_MS)
        if other.camera:
            page.evaluate(
                f"([matrix, fov]) => void ({other.camera})(matrix, fov)", [pose(camera), fov(camera)]
            )
            page.wait_for_function(other.ready, polling=POLL_MS)
        page.evaluate("smerfFrameTimes.length = 0")
        page.wait_for_function(f"smerfFrameTimes.length >= {WARM_UP}", polling=POLL_MS)
        since, first = gpu_process_ms(browser), page.evaluate("smerfFrameTimes.length")
        page.wait_for_function(f"smerfFrameTimes.length >= {first + frames}", polling=POLL_MS)
        until, found = gpu_process_ms(browser), page.evaluate("smerfFrameTimes")
        processor_ms += (until - since) / (len(found) - first) / len(cameras)
        times += found[first : first + frames]
        page.evaluate("() => void (globalThis.smerfWanted = true)")
        page.wait_for_function("globalThis.smerfWanted === false", polling=POLL_MS)
        pictures.append(_picture(page.evaluate("smerfFrame")))
        page.close()
    return times, processor_ms, pictures


def _is_local(address: str) -> bool:
    return address.startswith(("data:", "blob:", "http://127.0.0.1", "http://localhost"))


def _picture(frame: dict[str, Any]) -> np.ndarray:
    pixels = np.frombuffer(base64.b64decode(frame["pixels"]), np.uint8)
    return pixels.reshape(frame["height"], frame["width"], 4)[::-1, :, :3]
