"""The four viewers behind one face: a camera in, the 8-bit image that a user would see out.

Cameras are pinhole cameras of one size, in training axes. Each viewer says in one line what this machine lacks
to run it.
"""

from __future__ import annotations

import base64
import io
import math
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from smerf.capture.types import Camera
from smerf.errors import MissingPartError, VerificationError
from smerf.scene import BakedScene
from smerf.scene.objects import id_table
from smerf.scene.view import MarchOptions

__all__ = [
    "BROWSERS",
    "DRAW",
    "VIEWERS",
    "WEBGPU_FLAGS",
    "DesktopViewer",
    "NativeViewer",
    "NoWebGPUError",
    "WebGPUViewer",
    "WebViewer",
    "open_viewer",
]

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_FLAGS = (
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WEBGPU_FLAGS = (
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
)
"""What lets Chromium draw by WebGPU in software; presenting needs the compositor on the same device."""
_TIMEOUT_MS = 180_000
_HIDE = """async (hidden) => {
  if (!smerf.setObjects) return false;
  await smerf.setObjects({ hidden, lit: [] });
  return true;
}"""
DRAW = """async ([matrix, fov, intrinsics]) => {
  await smerf.setCamera(matrix, fov, intrinsics);
  const bytes = new Uint8Array(await (await smerf.picture()).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}"""
"""Draws a camera in the page; returns the picture as a PNG in base64."""


class NoWebGPUError(MissingPartError):
    """The browser draws without WebGPU; the message says why."""


class NativeViewer:
    """The native renderer, or the PyTorch reference where no native library is present."""

    name = "native"

    def __init__(self, scene: BakedScene, root: Path, size: tuple[int, int]) -> None:
        self.scene, self.options = scene, MarchOptions()

    def hide(self, ids: Sequence[int]) -> bool:
        """Leave out objects from now on; say whether this viewer can."""
        self.options = MarchOptions(hidden=frozenset(ids))
        return True

    def draw(self, camera: Camera) -> np.ndarray:
        """Render a camera: uint8 (H, W, 3)."""
        from smerf.render.march import render_camera

        return np.rint(255.0 * render_camera(self.scene, camera, options=self.options)).astype(np.uint8)

    def close(self) -> None:
        """Hold nothing."""


class DesktopViewer:
    """The shaders under OpenGL, offscreen."""

    name = "desktop"

    def __init__(self, scene: BakedScene, root: Path, size: tuple[int, int]) -> None:
        from smerf.export.desktop import desktop_viewer

        self._context = desktop_viewer("context").offscreen_context()
        self._renderer = desktop_viewer("renderer").Renderer(scene)

    def hide(self, ids: Sequence[int]) -> bool:
        """Leave out objects from now on; say whether this viewer can."""
        self._renderer.set_objects(id_table(ids))
        return True

    def draw(self, camera: Camera) -> np.ndarray:
        """Render a camera: uint8 (H, W, 3)."""
        return self._renderer.image(camera)

    def close(self) -> None:
        """Free the context."""
        self._renderer.free()
        self._context.close()


class WebViewer:
    """The page in headless Chromium, its own thread being what playwright's plain interface needs."""

    name = "web"
    flags = _FLAGS
    parameters = "ui=0&dpr=1&backend=webgl"

    def __init__(self, scene: BakedScene, root: Path, size: tuple[int, int]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="smerf-web")
        self._ends: list[Callable[[], Any]] = []
        try:
            self._thread.submit(self._start, root, size).result()
        except BaseException:
            self.close()
            raise

    def _start(self, root: Path, size: tuple[int, int]) -> None:
        try:
            from playwright.sync_api import Error, sync_playwright
        except ImportError as error:
            raise MissingPartError(
                f"playwright cannot be loaded ({error}): pip install playwright"
            ) from error
        from smerf.export.serve import SceneServer

        path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
        if path is None:
            raise MissingPartError("Chromium is not installed: apt-get install chromium")
        playwright = sync_playwright().start()
        self._ends.append(playwright.stop)
        try:
            browser = playwright.chromium.launch(executable_path=path, args=list(self.flags))
        except Error as error:
            raise MissingPartError(f"Chromium does not start ({str(error).splitlines()[0]})") from error
        self._ends.append(browser.close)
        server = SceneServer(root).__enter__()
        self._ends.append(server.__exit__)
        width, height = size
        self._page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
        self._page.set_default_timeout(_TIMEOUT_MS)
        address = (
            f"{server.url}?{self.parameters}"
            if (root / "manifest.json").is_file()
            else self._old_address(server, root)
        )
        self._ask(lambda: (self._page.goto(address), self._page.evaluate("smerf.ready")))

    def hide(self, ids: Sequence[int]) -> bool:
        """Leave out objects from now on; say whether this viewer can."""
        question = partial(self._page.evaluate, _HIDE, list(ids))
        return bool(self._thread.submit(self._ask, question).result())

    def _old_address(self, server: Any, root: Path) -> str:
        # A scene without manifest is opened by its first submodel's folder.
        entries = sorted(path.parent.name for path in root.glob("sm_*/scene_params.json*"))
        folder = f"/baked/{entries[0]}" if entries else "/baked"
        return f"{server.url}viewer/web/index.html?dir={folder}&{self.parameters}"

    def draw(self, camera: Camera) -> np.ndarray:
        """Render a camera: uint8 (H, W, 3)."""
        return self._thread.submit(self._draw, camera).result()

    def _draw(self, camera: Camera) -> np.ndarray:
        from PIL import Image

        intrinsics = camera.intrinsics
        matrix = np.concatenate([camera.world_from_cam, [[0.0, 0.0, 0.0, 1.0]]]).ravel().tolist()
        fov = math.degrees(2.0 * math.atan(intrinsics.height / (2.0 * intrinsics.fy)))
        fractions = {
            "fx": intrinsics.fx / intrinsics.width,
            "fy": intrinsics.fy / intrinsics.height,
            "cx": intrinsics.cx / intrinsics.width,
            "cy": intrinsics.cy / intrinsics.height,
        }
        png = self._ask(lambda: self._page.evaluate(DRAW, [matrix, fov, fractions]))
        with Image.open(io.BytesIO(base64.b64decode(png))) as image:
            return np.asarray(image.convert("RGB"))

    def _ask(self, question: Callable[[], Any]) -> Any:
        from playwright.sync_api import Error

        try:
            return question()
        except Error as error:
            message = self._page.locator("[role=alert]")
            told = (
                message.inner_text()
                if message.count() and message.is_visible()
                else str(error).splitlines()[0]
            )
            raise VerificationError(f"{self.name}: the page reports: {told}") from error

    def close(self) -> None:
        """End the browser and the server."""
        while self._ends:
            self._thread.submit(self._ends.pop()).result()
        self._thread.shutdown()


class WebGPUViewer(WebViewer):
    """The page once more, drawn by WebGPU."""

    name = "webgpu"
    flags = _FLAGS + WEBGPU_FLAGS
    parameters = "ui=0&dpr=1&backend=webgpu"

    def _start(self, root: Path, size: tuple[int, int]) -> None:
        super()._start(root, size)
        reason = self._ask(lambda: self._page.evaluate("smerf.stats().backendReason"))
        if reason is not None:
            raise NoWebGPUError(reason.rstrip("."))


VIEWERS = {viewer.name: viewer for viewer in (NativeViewer, DesktopViewer, WebViewer, WebGPUViewer)}
"""Every viewer by name; the first of those that are compared is the reference of the others."""


def open_viewer(
    name: str, scene: BakedScene, root: Path, size: tuple[int, int]
) -> NativeViewer | DesktopViewer | WebViewer:
    """Start a viewer on a scene.

    Args:
        name: One of ``VIEWERS``.
        scene: The scene.
        root: Its folder.
        size: Width and height of all images.

    Raises:
        MissingPartError: If this machine cannot run it; the message begins with its name.
    """
    try:
        return VIEWERS[name](scene, root, size)
    except MissingPartError as error:
        # What lacks the browser lacks both pages.
        lacking = {name} if isinstance(error, NoWebGPUError) or name == "desktop" else {"web", "webgpu"}
        others = ",".join(other for other in VIEWERS if other not in lacking)
        raise type(error)(f"{name}: {error}; or leave it out with --viewers {others}") from error
