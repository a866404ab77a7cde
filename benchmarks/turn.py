"""What is on the canvas right after a fast motion: our page, and a splat viewer with the same splats.

    python -m benchmarks.turn RUN... [--size 480x320] [--seconds 0.3] [--gpu] [--no-viewer] [--pictures FOLDER]
                              [--json FILE]

RUN is of a splat file (smerf run FILE -o RUN). A drag turns the view by 180 degrees in place ("turn"), and another
moves it along an arc of 60 degrees about what it looks at ("arc"), both in ``--seconds`` and to where the page opens.
Then the canvas is read at every animation frame. *right after*: the share of pixels of the first new picture that are
within 2/255 of the settled one, and the mean difference in levels of 255. *until*: milliseconds from the end of the
motion until 99 % of the pixels are. Rows: *page* as it is, where slow devices show smaller pictures while things move;
*page, whole* with every picture drawn at full size, as where the device draws one in time; *Spark*: the viewer from
npm's registry in the same browser, left out with a reason where that is not in reach. Reading the canvas slows all
alike.
"""

from __future__ import annotations

import argparse
import base64
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.browser import browser_versions, chromium
from benchmarks.common import Benchmark, Report, size
from benchmarks.page import FRACTION_WITHIN, TOLERANCE, find_site
from benchmarks.splat_viewer import PACKAGES, splat_page
from smerf.capture.types import Similarity
from smerf.errors import InvalidDataError, MissingPartError
from smerf.export.serve import SceneServer
from smerf.teacher.foreign import is_foreign, read_foreign

RADIANS_PER_PIXEL = 0.005
"""Of a drag on our page."""
MOTIONS = {"turn": ("fly", np.pi), "arc": ("orbit", np.pi / 3.0)}
SETTLED_MS = 3000
"""A viewer that does not say when it is finished has settled when its picture has stayed for so long."""

# Drags from the middle of the canvas; returns each new picture with the time since the motion ended.
DRAG = """async ([pixels, seconds, settledMs]) => {
  const canvas = document.querySelector("canvas");
  const gl = canvas.getContext("webgl2");
  canvas.setPointerCapture = () => {};
  const [width, height] = [gl.drawingBufferWidth, gl.drawingBufferHeight];
  const read = () => {
    const found = new Uint32Array(width * height);
    const frame = gl.getParameter(gl.READ_FRAMEBUFFER_BINDING);
    const buffer = gl.getParameter(gl.PIXEL_PACK_BUFFER_BINDING);
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, null);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(found.buffer));
    gl.bindFramebuffer(gl.READ_FRAMEBUFFER, frame);
    gl.bindBuffer(gl.PIXEL_PACK_BUFFER, buffer);
    return found;
  };
  const point = (type, x, buttons) => canvas.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, pointerType: "mouse", isPrimary: true, bubbles: true, cancelable: true, button: 0, buttons,
    clientX: canvas.clientWidth / 2 + x, clientY: canvas.clientHeight / 2,
  }));
  const frame = () => new Promise(requestAnimationFrame);
  point("pointerdown", 0, 1);
  const began = performance.now();
  let moves = 0;
  for (;;) {
    await frame();
    const part = Math.min(1, (performance.now() - began) / (1000 * seconds));
    point("pointermove", part * pixels, 1);
    moves++;
    if (part === 1) break;
  }
  const ended = performance.now();
  let last = read();
  point("pointerup", pixels, 0);
  const found = [];
  let isFinished = false;
  let changed = ended;
  let still = 0;
  // Before its next frame the page does not know of the motion.
  const ready = async () => {
    for (let i = 0; i < 3; i++) await frame();
    await smerf.ready;
    isFinished = true;
  };
  const finished = globalThis.smerf ? ready() : null;
  // A slow device may need seconds for the first picture.
  const isMoving = () => performance.now() - changed < (found.length ? settledMs : 10 * settledMs) || still < 10;
  while (finished ? !isFinished : isMoving()) {
    await frame();
    const now = read();
    still++;
    if (now.every((value, i) => value === last[i])) continue;
    still = 0;
    changed = performance.now();
    found.push({ ms: changed - ended, pixels: now });
    last = now;
  }
  found.push({ ms: performance.now() - ended, pixels: read() });
  const text = (pixels) => {
    const bytes = new Uint8Array(pixels.buffer);
    let all = "";
    for (let i = 0; i < bytes.length; i += 32768) all += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(all);
  };
  // The first, the last, and some between them.
  const step = Math.max(1, Math.ceil(found.length / 40));
  const kept = found.filter((_, i) => i === 0 || i === found.length - 1 || i % step === 0);
  return { width, height, moves, frames: kept.map(({ ms, pixels }) => ({ ms, pixels: text(pixels) })) };
}"""


@dataclass(frozen=True)
class Settling:
    """Pictures (H, W, 3) after a motion with their milliseconds since its end; the last one is the settled one."""

    pictures: Sequence[np.ndarray]
    ms: Sequence[float]
    moves: int

    def record(self) -> dict[str, Any]:
        """Return the figures of the first picture, and when the picture is as good as settled."""
        settled = self.pictures[-1].astype(int)
        far = [np.abs(picture.astype(int) - settled).max(-1) for picture in self.pictures]
        shares = [float((each <= TOLERANCE).mean()) for each in far]
        # A picture that strays later on has not settled.
        last_bad = max((i for i, share in enumerate(shares) if share < FRACTION_WITHIN), default=-1)
        return {
            "within_2": shares[0],
            "mean_levels": float(far[0].mean()),
            "first_ms": self.ms[0],
            "until_ms": self.ms[min(last_bad + 1, len(self.ms) - 1)],
            "worst_within_2": min(shares),
            "pictures": len(self.pictures),
            "moves": self.moves,
        }


def dragged(page: Any, pixels: float, seconds: float) -> Settling:
    found = page.evaluate(DRAG, [pixels, seconds, SETTLED_MS])
    shape = (found["height"], found["width"], 4)
    pictures = [
        np.frombuffer(base64.b64decode(frame["pixels"]), np.uint8).reshape(shape)[::-1, :, :3]
        for frame in found["frames"]
    ]
    return Settling(pictures, [frame["ms"] for frame in found["frames"]], found["moves"])


def matrix_of(camera: dict[str, Any]) -> np.ndarray:
    return np.array([*camera["cameraToWorld"], 0.0, 0.0, 0.0, 1.0][:16]).reshape(4, 4)


def motion_between(first: np.ndarray, last: np.ndarray, pixels: float) -> dict[str, Any]:
    """Return the turn that leads from one pose (4, 4) to another: axis, a centre, radians."""
    turn = last[:3, :3] @ first[:3, :3].T
    values, vectors = np.linalg.eig(turn)
    axis = np.real(vectors[:, np.argmin(np.abs(values - 1.0))])
    side = np.linalg.svd(axis[None])[2][1]
    moved = turn @ side
    radians = float(np.arctan2(np.cross(side, moved) @ axis, side @ moved))
    centre = np.linalg.lstsq(np.eye(3) - turn, last[:3, 3] - turn @ first[:3, 3], rcond=None)[0]
    # The point of the axis beside the eye.
    centre = centre + axis * float(axis @ (first[:3, 3] - centre))
    return {"axis": axis.tolist(), "centre": centre.tolist(), "radians": radians, "pixels": pixels}


class Pages:
    """The pages of one run: each opens in a tab of its own, without damping of motions."""

    def __init__(self, browser: Any, options: argparse.Namespace) -> None:
        self.browser, self.options = browser, options

    def open(self, address: str, is_whole: bool = False) -> Any:
        width, height = self.options.size
        context = self.browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=1, reduced_motion="reduce",
            bypass_csp=True, service_workers="block",
        )  # fmt: skip
        page = context.new_page()
        page.set_default_timeout(600_000)
        if is_whole:
            page.route("**/frames.js", _never_smaller)
        page.goto(address)
        return page

    def ours(self, site: str, motion: str, is_whole: bool) -> tuple[Settling, dict[str, Any], dict[str, Any]]:
        """Return what our page shows after a motion, and its cameras before and after."""
        mode, radians = MOTIONS[motion]
        page = self.open(f"{site}?ui=0&free=1&dpr=1&backend=webgl&mode={mode}", is_whole)
        page.evaluate("smerf.ready")
        # There and back: an object is behind one who has turned, and the pace of the device is known on the way back.
        pixels = radians / RADIANS_PER_PIXEL
        dragged(page, -pixels, self.options.seconds)
        first = page.evaluate("smerf.getCamera()")
        settling = dragged(page, pixels, self.options.seconds)
        last = page.evaluate("smerf.getCamera()")
        self.versions = browser_versions(self.browser, page)
        page.context.close()
        return settling, first, last

    def spark(self, address: str, first: dict[str, Any], last: dict[str, Any], pixels: float) -> Settling:
        """Return what the splat viewer shows after the same motion."""
        page = self.open(address)
        page.wait_for_function("globalThis.isOpen")
        start = matrix_of(first)
        page.evaluate(
            "([matrix, fov]) => viewer.setCamera(matrix, fov)", [start.ravel().tolist(), first["fovDegrees"]]
        )
        page.wait_for_timeout(2 * SETTLED_MS)
        page.evaluate("viewer.setMotion", motion_between(start, matrix_of(last), pixels))
        settling = dragged(page, pixels, self.options.seconds)
        page.context.close()
        return settling


def _never_smaller(route: Any) -> None:
    response = route.fetch()
    text = response.text()
    assert "const PREVIEW_MS = 28;" in text, "frames.js sizes its pictures in another way"
    route.fulfill(response=response, body=text.replace("const PREVIEW_MS = 28;", "const PREVIEW_MS = 1e9;"))


def source_of(run: Path) -> tuple[Path, Similarity]:
    """Return the splat file of a run and where it lies in training space."""
    if not is_foreign(run / "teacher"):
        raise InvalidDataError(f"{run}: is no run of a splat file; smerf run FILE makes one")
    record = read_foreign(run / "teacher")
    place = record["training_from_source"]
    similarity = Similarity(place["scale"], np.array(place["rotation"]), np.array(place["translation"]))
    return Path(record["path"]), similarity


def say(
    report: Report, run: Path, motion: str, viewer: str, settling: Settling, options: Any, **more: Any
) -> None:
    record = report.add(
        f"turn/{run.name}/{motion}/{viewer}", **settling.record(), size=list(options.size), **more
    )
    print(f"{run.name:20s} {motion:5s} {viewer:12s} right after: {100 * record['within_2']:6.2f} % within 2/255, "
          f"{record['mean_levels']:5.2f} levels; until 99 %: {record['until_ms']:5.0f} ms; "
          f"{record['pictures']} pictures")  # fmt: skip
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        both = np.concatenate([settling.pictures[0], settling.pictures[-1]], 1)
        Image.fromarray(both).save(options.pictures / f"{run.name}_{motion}_{viewer.replace(', ', '_')}.png")


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--size", type=size, default=(480, 320), metavar="WIDTHxHEIGHT")
    parser.add_argument("--seconds", type=float, default=0.3, help="of a motion")
    parser.add_argument("--gpu", action="store_true", help="let the browser use the GPU")
    parser.add_argument("--no-viewer", action="store_true", help="our page alone")
    parser.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="the first and the settled picture of each"
    )


def measure(options: argparse.Namespace, report: Report) -> None:
    with chromium(options.gpu) as browser:
        pages = Pages(browser, options)
        for run in options.runs:
            splats, place = source_of(run)
            for motion, (_, radians) in MOTIONS.items():
                with SceneServer(find_site(run)) as server:
                    for viewer, is_whole in (("page", False), ("page, whole", True)):
                        settling, first, last = pages.ours(server.url, motion, is_whole)
                        say(report, run, motion, viewer, settling, options, **pages.versions)
                if options.no_viewer:
                    continue
                try:
                    with splat_page(splats, place, (0.5, 0.5, 0.5)) as address:
                        settling = pages.spark(address, first, last, radians / RADIANS_PER_PIXEL)
                except MissingPartError as error:
                    print(f"{run.name:20s} {motion:5s} Spark left out: {error}")
                    continue
                say(report, run, motion, "Spark", settling, options, **pages.versions, packages=PACKAGES)


BENCHMARK = Benchmark(__doc__, measure, options, needs="runs of splat files")

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
