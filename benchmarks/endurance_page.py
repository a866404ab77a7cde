"""The page's part of ``benchmarks.endurance``: a walk by a simulated clock, lost contexts, and fetching alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.browser import canvas_image
from benchmarks.endurance_walk import SECONDS_PER_FRAME, SIZE, actions, places, resident_bytes
from benchmarks.quiet_page import QuietPage
from smerf.export.serve import SceneServer
from smerf.scene import load_scene

__all__ = ["PageVisitor", "fetch_only", "lose_contexts", "walk_page"]

_FOV = 60
_WHEEL_PIXELS = 120
_FOCUS = "document.querySelector('canvas').focus()"
_FETCH = """async (files, rounds) => {
  for (let i = 0; i < rounds; i++) {
    for (const file of files) await (await fetch(file)).arrayBuffer();
  }
}"""
_SCRIPT = """(() => {
  let [now, frames, frame] = [performance.now(), 0, null];
  const { port1, port2 } = new MessageChannel();
  performance.now = () => now;
  // Frames follow each other as fast as the page can: the browser's own are bound to a screen.
  globalThis.requestAnimationFrame = (callback) => {
    if (!frame) {
      frame = new Map();
      port2.postMessage(null);
    }
    frame.set(callback, callback);
    return callback;
  };
  globalThis.cancelAnimationFrame = (callback) => frame?.delete(callback);
  port1.onmessage = () => {
    const due = frame;
    [now, frames, frame] = [now + STEP_MS, frames + 1, null];
    for (const callback of due.values()) callback(now);
  };

  // Graphics objects that calls have made and not deleted. Those of a lost context are gone with it.
  let [alive, made, images] = [new Set(), 0, 0];
  const calls = WebGL2RenderingContext.prototype;
  for (const name of Object.getOwnPropertyNames(calls)) {
    const call = /^(create|fence|delete)/.test(name) && calls[name];
    if (!call) continue;
    calls[name] = function (...values) {
      const result = call.apply(this, values);
      if (name.startsWith("delete")) alive.delete(values[0]);
      else if (result) {
        made++;
        images += name === "fenceSync";
        alive.add(result);
      }
      return result;
    };
  }
  addEventListener("webglcontextlost", () => (alive = new Set()), true);

  const canvas = () => document.querySelector("canvas");
  const event = (name) =>
    new Promise((done) => canvas().addEventListener(name, () => setTimeout(done, 1), { once: true }));
  globalThis.endurance = {
    graphics: () => ({ alive: alive.size, made, images }),
    pass: (count) => new Promise((done) => {
      const end = frames + count;
      const look = () => (frames >= end ? done(frames) : requestAnimationFrame(look));
      requestAnimationFrame(look);
    }),
    async loseContext() {
      const loss = canvas().getContext("webgl2").getExtension("WEBGL_lose_context");
      const lost = event("webglcontextlost");
      loss.loseContext();
      await lost;
      const isTold = !document.querySelector("[role=alert]").hidden;
      const restored = event("webglcontextrestored");
      loss.restoreContext();
      await restored;
      return isTold;
    },
  };
})();""".replace("STEP_MS", str(round(1000 * SECONDS_PER_FRAME)))


class PageVisitor:
    """Somebody in a page whose clock goes by frames."""

    def __init__(self, browser: Any, scene: Path, address: str) -> None:
        self.browser = browser
        opened = load_scene(scene)
        self.places = [pose.ravel().tolist() for pose in places(opened.params)]
        self.photos = [entry.camera.world_from_cam.ravel().tolist() for entry in opened.manifest.cameras]
        self.page = QuietPage(browser, SIZE, _SCRIPT)
        self.page.goto(address, "smerf.ready")

    def act(self, kind: str, value: Any, frames: int) -> None:
        """Do one thing of ``actions``."""
        page = self.page
        if kind == "keys":
            page.evaluate(_FOCUS)
            for key in value:
                page.press(key, True)
        elif kind == "drag":
            held = {"button": "left", "clickCount": 1}
            page.mouse("mousePressed", value[0], value[1], **held)
            for x, y in zip(*(np.linspace(value[i], value[i + 2], 4)[1:] for i in range(2))):
                page.mouse("mouseMoved", x, y, button="left", buttons=1)
            page.mouse("mouseReleased", value[2], value[3], **held)
        elif kind == "wheel":
            page.mouse("mouseWheel", SIZE[0] / 2, SIZE[1] / 2, deltaX=0, deltaY=_WHEEL_PIXELS * value)
        elif kind == "mode":
            page.evaluate("(mode) => smerf.setMode(mode)", value)
        elif kind == "jump":
            page.evaluate("([pose, fov]) => void smerf.setCamera(pose, fov)", [self.places[value], _FOV])
        elif kind == "photo":
            page.evaluate("([pose, fov]) => void smerf.flyTo(pose, fov)", [self.photos[value], _FOV])
        elif kind == "objects":
            page.evaluate("(hidden) => void smerf.setObjects({ hidden })", value)
        elif kind == "resize":
            page.resize(value)
        page.evaluate("(frames) => endurance.pass(frames)", frames)
        if kind == "keys":
            for key in value:
                page.press(key, False)

    def look(self, place: int) -> np.ndarray:
        """Return the finished picture of a submodel's place (H, W, 3) uint8."""
        self.page.evaluate("([pose, fov]) => smerf.setCamera(pose, fov)", [self.places[place], _FOV])
        return canvas_image(self.page)

    def sample(self) -> dict[str, float]:
        """Return what the page holds now, after a collection of garbage."""
        metrics, processes = _collected(self.browser, self.page)
        stats, graphics = self.page.evaluate("[smerf.stats(), endurance.graphics()]")
        return {
            "heap_bytes": metrics["JSHeapUsedSize"],
            **processes,
            "texture_bytes": stats["textureBytes"],
            "graphics_objects": graphics["alive"],
            "nodes": metrics["Nodes"],
            "listeners": metrics["JSEventListeners"],
            "graphics_objects_made": graphics["made"],
            "images": graphics["images"],
            "evictions": stats["evictions"],
        }


def _collected(browser: Any, page: QuietPage) -> tuple[dict[str, float], dict[str, float]]:
    """Return, after a collection of garbage, a page's metrics, and the resident bytes of the browser's processes."""
    page.send("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in page.send("Performance.getMetrics")["metrics"]}
    control = browser.new_browser_cdp_session()
    processes = control.send("SystemInfo.getProcessInfo")["processInfo"]
    control.detach()

    def resident(kind: str) -> float:
        # A browser keeps others ready: the page's own is the one that has worked.
        ours = max((each for each in processes if each["type"] == kind), key=lambda each: each["cpuTime"])
        return resident_bytes(ours["id"])

    return metrics, {"renderer_bytes": resident("renderer"), "gpu_process_bytes": resident("GPU")}


def fetch_only(browser: Any, scene: Path, rounds: int, per_sample: int) -> Iterator[dict[str, float]]:
    """Fetch a scene's files and drop them, ``rounds`` times, in a page that does nothing else; yield samples."""
    files = [f"baked/{each.relative_to(scene)}" for each in sorted(scene.rglob("*")) if each.is_file()]
    with SceneServer(scene) as server:
        page = QuietPage(browser, SIZE)
        page.goto(f"{server.url}baked/manifest.json", "document.readyState")
        for done in range(0, rounds + 1, per_sample):
            if done:
                page.evaluate(_FETCH, [f"{server.url}{each}" for each in files], per_sample)
            metrics, processes = _collected(browser, page)
            yield {"heap_bytes": metrics["JSHeapUsedSize"], **processes, "rounds": done}
        page.close()


def walk_page(
    browser: Any, scene: Path, frames: int, per_sample: int, memory_mb: float
) -> Iterator[dict[str, float]]:
    """Walk for a number of frames; yield a sample at the beginning and every ``per_sample`` frames.

    Raises:
        RuntimeError: If the page reports an error.
    """
    with SceneServer(scene) as server:
        visitor = PageVisitor(browser, scene, f"{server.url}?dpr=1&ui=0&memory={memory_mb}")
        yield visitor.sample() | {"frames": 0}
        done, due = 0, per_sample
        for kind, value, count in actions():
            visitor.act(kind, value, count)
            done += count
            if visitor.page.errors:
                raise RuntimeError(f"after {done} frames the page reports: {visitor.page.errors[0]}")
            if done >= due:
                visitor.look(0)
                yield visitor.sample() | {"frames": done}
                due += per_sample
            if done >= frames:
                break
        visitor.page.close()


def lose_contexts(browser: Any, scene: Path, count: int) -> Iterator[dict[str, Any]]:
    """Lose the graphics context ``count`` times: at rest, on the way to another submodel, and while keys are held.

    Yields:
        After each loss whether the page said so, whether its picture came back as it was, and a sample.
    """
    with SceneServer(scene) as server:
        visitor = PageVisitor(browser, scene, f"{server.url}?dpr=1&ui=1")
        page = visitor.page
        before = [visitor.look(place) for place in range(2)]
        for number in range(count):
            place = number % 2
            if number % 3 == 1:
                page.evaluate(
                    "([pose, fov]) => void smerf.setCamera(pose, fov)", [visitor.places[1 - place], _FOV]
                )
            elif number % 3 == 2:
                page.evaluate(_FOCUS)
                page.press("w", True)
                page.evaluate("endurance.pass(2)")
            is_told = page.evaluate("endurance.loseContext()")
            if number % 3 == 2:
                page.press("w", False)
            is_same = np.array_equal(visitor.look(place), before[place])
            yield {
                "is_told": is_told,
                "is_same": bool(is_same),
                "errors": len(page.errors),
            } | visitor.sample()
        page.close()
