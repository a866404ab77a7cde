"""Our page of a splat file beside other viewers of the same file, in the same browser at the same size.

    python -m benchmarks.peers RUN [--size 480x320] [--seconds 6] [--gpu] [--pictures FOLDER] [--json FILE]

RUN is of a splat file (smerf run FILE -o RUN). The peers are the current packages of npm's registry, served from this
machine as they are shipped (neither SuperSplat's script nor three.js is minified): SuperSplat's viewer with WebGL, and
Spark. *ms*: time from one new picture on the canvas to the next while a mouse drags the view to and fro, median and
95th percentile; the canvas is read at every animation frame, which slows all alike. *processor ms*: what the browser's
processes spent on each of them, which depends less on what else the machine does. Our page shows smaller pictures
while things move, where the device is slow; *page, whole* has every picture drawn at full size. *MB*: bytes of all
responses that were complete when the first picture was on the canvas (more than 2 % of it unlike its corner; posters
do not count), as sent without compression, and with the texts among them compressed as hosts do. *seconds*: until
then, without a network between.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import browser_versions, chromium
from benchmarks.common import Benchmark, Report, size
from benchmarks.page import find_site
from benchmarks.splat_viewer import PACKAGES, npm_package, splat_page
from benchmarks.turn import Pages, motion_between, source_of
from smerf.capture.types import Similarity
from smerf.errors import MissingPartError
from smerf.export.serve import SceneServer

SUPERSPLAT = ("@playcanvas/supersplat-viewer", "1.36.2")
GREY = (0.5, 0.5, 0.5)
_TEXTS = (
    ".js",
    ".mjs",
    ".css",
    ".html",
    ".json",
    ".frag",
    ".vert",
    ".glsl",
    ".wgsl",
    ".svg",
    ".webmanifest",
    "/",
)
_ENOUGH, _LONGEST = 8, 90.0
"""New pictures that a drag lasts for, and seconds at most."""
# Reads the canvas at every animation frame: when it first shows something, and when its picture changes.
WATCH = """(() => {
  const contexts = new WeakMap();
  const get = HTMLCanvasElement.prototype.getContext;
  HTMLCanvasElement.prototype.getContext = function (kind, options) {
    const isGl = String(kind).startsWith("webgl");
    const context = get.call(this, kind, isGl ? { ...options, preserveDrawingBuffer: true } : options);
    if (context && isGl) contexts.set(this, context);
    return context;
  };
  const probe = (globalThis.probe = { first: null, changes: [] });
  let last = new Uint32Array(0);
  const read = (gl) => {
    const found = new Uint32Array(gl.drawingBufferWidth * gl.drawingBufferHeight);
    const frame = gl.getParameter(gl.READ_FRAMEBUFFER_BINDING);
    const buffer = gl.getParameter(gl.PIXEL_PACK_BUFFER_BINDING);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, null);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    const bytes = new Uint8Array(found.buffer);
    gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, bytes);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, frame);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
    return found;
  };
  const tick = () => {
    requestAnimationFrame(tick);
    const all = [...document.querySelectorAll("canvas")].filter((each) => contexts.has(each));
    const gl = all.length ? contexts.get(all.sort((a, b) => b.width - a.width)[0]) : null;
    if (!gl || gl.isContextLost()) return;
    const now = read(gl);
    if (now.length === last.length && now.every((value, i) => value === last[i])) return;
    last = now;
    probe.changes.push(performance.now());
    if (probe.first !== null) return;
    const other = now.reduce((sum, value) => sum + (value !== now[0] ? 1 : 0), 0);
    if (other > 0.02 * now.length) probe.first = performance.now();
  };
  requestAnimationFrame(tick);
})();"""


@dataclass
class Viewer:
    """A page to measure: its address, and what is asked of it once it shows something."""

    name: str
    address: str
    is_whole: bool = False
    setup: tuple[str, Any] | None = None


@contextlib.contextmanager
def supersplat_page(file: Path, place: Similarity, camera: dict[str, Any], aspect: float) -> Iterator[str]:
    """Serve SuperSplat's viewer with a splat file, looking as our camera does; yield its address."""
    package = npm_package(*SUPERSPLAT)
    pose = np.array(camera["cameraToWorld"]).reshape(4, 4)
    # It shows files turned by half a turn about z.
    flip = np.diag([-1.0, -1.0, 1.0])
    points = [
        flip @ place.rotation.T @ (point - place.translation) / place.scale
        for point in (pose[:3, 3], pose[:3, 3] - pose[:3, 2])
    ]
    # Its field of view is that of the longer side.
    tangent = math.tan(math.radians(0.5 * camera["fovDegrees"])) * max(1.0, aspect)
    fov = 2.0 * math.degrees(math.atan(tangent))
    initial = {"position": points[0].tolist(), "target": points[1].tolist(), "fov": fov}
    settings = {
        "version": 2, "tonemapping": "none", "highPrecisionRendering": False, "background": {"color": list(GREY)},
        "postEffectSettings": {
            "sharpness": {"enabled": False, "amount": 0},
            "bloom": {"enabled": False, "intensity": 0.1, "blurLevel": 2},
            "grading": {"enabled": False, "brightness": 1, "contrast": 1, "saturation": 1, "tint": [1, 1, 1]},
            "vignette": {"enabled": False, "intensity": 0.5, "inner": 0.3, "outer": 0.75, "curvature": 1},
            "fringing": {"enabled": False, "intensity": 0.5},
        },
        "animTracks": [], "cameras": [{"initial": initial}], "annotations": [], "startMode": "default",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for name in ("index.html", "index.css", "index.js"):
            shutil.copy(package / "public" / name, folder)
        shutil.copy(file, folder)
        (Path(folder) / "settings.json").write_text(json.dumps(settings))
        with SceneServer(Path(folder)) as server:
            yield f"{server.url}?webgl&noui&noanim&content={file.name}"


class Measurer:
    """Opens viewers one after the other, each in a tab of its own with nothing in its cache."""

    def __init__(self, browser: Any, options: argparse.Namespace) -> None:
        self.browser, self.options = browser, options
        self.pages = Pages(browser, options)

    def measure(self, viewer: Viewer) -> dict[str, Any]:
        """Return the figures of a viewer."""
        requests: list[Any] = []
        page = self.pages.open("about:blank", viewer.is_whole)
        page.add_init_script(WATCH)
        page.on("requestfinished", lambda request: requests.append(request))
        page.goto(viewer.address)
        page.wait_for_function("globalThis.probe?.first !== null && globalThis.probe?.first !== undefined")
        first, origin = page.evaluate("[probe.first, performance.timeOrigin]")
        page.wait_for_timeout(3000)
        sent, packed = _bytes_until(requests, origin + first)
        if viewer.setup:
            page.evaluate(*viewer.setup)
            page.wait_for_timeout(3000)
        spans, spent = self._drag(page)
        self.versions = browser_versions(self.browser, page)
        if self.options.pictures:
            page.wait_for_timeout(4000)
            page.evaluate("globalThis.smerf?.ready")
            self.options.pictures.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=self.options.pictures / f"{viewer.name.replace(', ', '_')}.png")
        page.context.close()
        return {
            "ms_median": float(np.median(spans)),
            "ms_p95": float(np.percentile(spans, 95)),
            "processor_ms": spent,
            "pictures": len(spans),
            "first_picture_seconds": first / 1e3,
            "first_picture_mb": sent / 1e6,
            "first_picture_mb_compressed": packed / 1e6,
        }

    def _drag(self, page: Any) -> tuple[np.ndarray, float]:
        """Drag to and fro; return the milliseconds between the new pictures, and the processor's for each."""
        width, height = self.options.size
        page.mouse.move(width / 2, height / 2)
        page.mouse.down()
        page.evaluate("void (probe.changes.length = 0)")
        spent, began, count = _processor_ms(self.browser), time.monotonic(), 0
        # A busy machine may need longer for enough pictures.
        while (elapsed := time.monotonic() - began) < _LONGEST and (
            elapsed < self.options.seconds or count < _ENOUGH
        ):
            page.mouse.move(width / 2 + 0.25 * width * math.sin(2.0 * elapsed), height / 2)
            count = page.evaluate("probe.changes.length")
        changes, spent = page.evaluate("probe.changes"), _processor_ms(self.browser) - spent
        page.mouse.up()
        spans = np.diff(changes)
        if len(spans) < 3:
            raise MissingPartError(f"only {len(changes)} pictures in {_LONGEST:g} s of dragging")
        return spans, spent / len(changes)


def _processor_ms(browser: Any) -> float:
    """Return the processor time of all processes of the browser."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    session.detach()
    return sum(1e3 * process["cpuTime"] for process in processes)


def _bytes_until(requests: list[Any], moment: float) -> tuple[int, int]:
    """Return the bytes of bodies that were complete by a moment (ms), as sent and with texts compressed."""
    sent = packed = 0
    for request in requests:
        timing = request.timing
        if timing["startTime"] + timing["responseEnd"] > moment or not request.url.startswith("http"):
            continue
        body = request.response().body()
        sent += len(body)
        is_text = request.url.split("?")[0].endswith(_TEXTS)
        packed += len(gzip.compress(body, 6)) if is_text else len(body)
    return sent, packed


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--size", type=size, default=(480, 320), metavar="WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=6.0, help="of dragging")
    parser.add_argument("--gpu", action="store_true", help="let the browser use the GPU")
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="what each shows in the end")


def measure(options: argparse.Namespace, report: Report) -> None:
    splats, place = source_of(options.run)
    with chromium(options.gpu) as browser, contextlib.ExitStack() as stack:
        measurer = Measurer(browser, options)
        site = stack.enter_context(SceneServer(find_site(options.run))).url
        address = f"{site}?ui=0&free=1&dpr=1&backend=webgl&mode=orbit"
        page = measurer.pages.open(address)
        page.evaluate("smerf.ready")
        camera = page.evaluate("smerf.getCamera()")
        page.context.close()
        _say(report, measurer, options, Viewer("page", address), "smerf")
        _say(report, measurer, options, Viewer("page, whole", address, is_whole=True), "smerf")
        with _left_out("SuperSplat", report):
            other = stack.enter_context(
                supersplat_page(splats, place, camera, options.size[0] / options.size[1])
            )
            _say(report, measurer, options, Viewer("SuperSplat", other), "@".join(SUPERSPLAT))
        with _left_out("Spark", report):
            other = stack.enter_context(splat_page(splats, place, GREY))
            pose = np.array(camera["cameraToWorld"]).reshape(4, 4)
            turned = pose.copy()
            c, s = math.cos(1.0), math.sin(1.0)
            turned[:3] = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) @ pose[:3]
            motion = motion_between(pose, turned, 200.0)
            setup = (
                "([matrix, fov, motion]) => { viewer.setCamera(matrix, fov); viewer.setMotion(motion); }",
                [pose.ravel().tolist(), camera["fovDegrees"], motion],
            )
            named = " with ".join(f"{name}@{version}" for name, version in PACKAGES.items())
            _say(report, measurer, options, Viewer("Spark", other, setup=setup), named)


@contextlib.contextmanager
def _left_out(name: str, report: Report) -> Iterator[None]:
    """Report a viewer that cannot be had or shows nothing here, and why."""
    from playwright.sync_api import Error

    try:
        yield
    except (MissingPartError, Error) as error:
        reason = str(error).splitlines()[0]
        print(f"{name:12s} left out: {reason}", flush=True)
        report.add(f"peers/{name}", left_out=reason)


def _say(
    report: Report, measurer: Measurer, options: argparse.Namespace, viewer: Viewer, version: str
) -> None:
    figures = measurer.measure(viewer)
    report.add(
        f"peers/{viewer.name}", **figures, size=list(options.size), version=version, **measurer.versions
    )
    print(
        f"{viewer.name:12s} {figures['ms_median']:7.0f} ms ({figures['ms_p95']:.0f} p95), "
        f"{figures['processor_ms']:.0f} ms of the processor; first picture {figures['first_picture_mb']:.2f} MB "
        f"({figures['first_picture_mb_compressed']:.2f} compressed) after {figures['first_picture_seconds']:.1f} s",
        flush=True,
    )


BENCHMARK = Benchmark(__doc__, measure, options, needs="a run of a splat file")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
