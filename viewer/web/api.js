// window.smerf for scripts on the page, and the same verbs over postMessage for pages that embed it.
//
// A message { smerf: "setCamera", id: 7, args: [matrix, 50] } is answered by { smerf: "setCamera", id: 7, result } or
// { smerf: "setCamera", id: 7, error: "..." }. Verbs: ready, setCamera, getCamera, stats, benchmark.

export function publish(viewer) {
  const api = {
    // Promise: the full-detail frame of the current camera is on the canvas.
    get ready() {
      return viewer.whenFinished();
    },
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
  };
  globalThis.smerf = Object.freeze(api);

  addEventListener("message", async ({ data, source, origin }) => {
    const verb = data?.smerf;
    if (!source || !["ready", "setCamera", "getCamera", "stats", "benchmark"].includes(verb) || !("id" in data)) return;
    const reply = { smerf: verb, id: data.id };
    try {
      reply.result = (await (verb === "ready" ? api.ready : api[verb](...(data.args ?? [])))) ?? null;
    } catch (error) {
      reply.error = String(error.message ?? error);
    }
    source.postMessage(reply, { targetOrigin: origin === "null" ? "*" : origin });
  });
}
