// window.smerf for scripts on the page, and the same verbs over postMessage for pages that embed it; README.md lists them.
//
// A message { smerf: "setCamera", id: 7, args: [matrix, 50] } is answered by { smerf: "setCamera", id: 7, result } or
// { smerf: "setCamera", id: 7, error: "..." }.

import { parseMatrix } from "./camera.js";
import { parsePath, pathJson } from "./path.js";

export function publish(viewer) {
  const verbs = {
    // cameraToWorld: 12 or 16 numbers, rows, OpenGL axes in training space; fovDegrees: vertical.
    // lens (optional): { cx, cy, fx, fy } as fractions of the image size, from its upper left corner.
    async setCamera(cameraToWorld, fovDegrees, lens = null) {
      await viewer.opened;
      viewer.setCamera(cameraToWorld, fovDegrees, lens);
      await viewer.whenFinished();
    },
    getCamera: () => viewer.getCamera(),
    stats: () => viewer.stats(),
    benchmark: (frames) => viewer.benchmark(frames),
    // Flies there, as people would; resolves when the flight has begun.
    async flyTo(cameraToWorld, fovDegrees) {
      await viewer.opened;
      viewer.flyTo({ matrix: parseMatrix(cameraToWorld), fov: fovDegrees ?? viewer.fov });
    },
    async reset() {
      await viewer.opened;
      viewer.home();
    },
    async setMode(mode) {
      await viewer.opened;
      if (mode !== "orbit" && mode !== "fly") throw new Error("mode must be orbit or fly.");
      viewer.setMode(mode);
    },
    async setQuality(name) {
      await viewer.opened;
      viewer.setQuality(name);
    },
    // A camera path in nerfstudio's JSON, or null to take it away.
    async setPath(json) {
      await viewer.opened;
      const path = json === null ? null : parsePath(json, "The path");
      viewer.tools.path.take(path);
    },
    getPath() {
      const path = viewer.journey?.path;
      return path ? pathJson(path, viewer.canvas.width, viewer.canvas.height) : null;
    },
    async play(isPlaying = true) {
      await viewer.opened;
      if (!viewer.journey.path) throw new Error("There is no camera path to play; setPath gives one.");
      viewer.journey.play(!!isPlaying);
    },
    // The finished picture of the moment as a PNG.
    async picture() {
      await viewer.opened;
      return viewer.tools.picture();
    },
  };
  const api = {
    ...verbs,
    // Promise: the full-detail frame of the current camera is on the canvas.
    get ready() {
      return viewer.whenFinished();
    },
  };
  globalThis.smerf = Object.freeze(api);

  addEventListener("message", async ({ data, source, origin }) => {
    const verb = data?.smerf;
    if (!source || typeof verb !== "string" || !("id" in data)) return;
    // An answer is no request: two such pages would go on answering each other.
    if ("result" in data || "error" in data) return;
    if (verb !== "ready" && !Object.hasOwn(verbs, verb)) return;
    const reply = { smerf: verb, id: data.id };
    try {
      reply.result = (await (verb === "ready" ? api.ready : verbs[verb](...(data.args ?? [])))) ?? null;
    } catch (error) {
      reply.error = String(error.message ?? error);
    }
    source.postMessage(reply, { targetOrigin: origin === "null" ? "*" : origin });
  });
}

// Tells an embedding page that the scene is open: { smerf: "opened" }, which names nothing of the visitor.
export function announce() {
  if (parent !== window) parent.postMessage({ smerf: "opened" }, "*");
}
