// window.smerf of a scene of slots, and the same verbs over postMessage: see ../api.js. Slots go by their numbers.

const VERBS = ["ready", "setCamera", "getCamera", "stats", "slots", "setVisible", "setHighlight", "setMasks"];

export function publish(viewer) {
  const finished = async (change) => {
    await viewer.opened;
    change();
    await viewer.whenFinished();
  };
  const api = {
    // Promise: the full-detail frame of the current camera is on the canvas.
    get ready() {
      return viewer.whenFinished();
    },
    // cameraToWorld: 12 or 16 numbers, rows, OpenGL axes in world units; fovDegrees: vertical.
    setCamera: (cameraToWorld, fovDegrees) => finished(() => viewer.setCamera(cameraToWorld, fovDegrees)),
    getCamera: () => viewer.getCamera(),
    stats: () => viewer.stats(),
    // [{ number, colour, share, isBackground, isVisible }]
    slots: () => viewer.slots(),
    setVisible: (number, isVisible) => finished(() => viewer.setVisible(number, isVisible)),
    // null takes the highlight away.
    setHighlight: (number) => finished(() => viewer.setHighlight(number)),
    setMasks: (areShown) => finished(() => viewer.setMasks(areShown)),
  };
  globalThis.smerf = Object.freeze(api);

  addEventListener("message", async ({ data, source, origin }) => {
    const verb = data?.smerf;
    if (!source || !VERBS.includes(verb) || !("id" in data)) return;
    const reply = { smerf: verb, id: data.id };
    try {
      reply.result = (await (verb === "ready" ? api.ready : api[verb](...(data.args ?? [])))) ?? null;
    } catch (error) {
      reply.error = String(error.message ?? error);
    }
    source.postMessage(reply, { targetOrigin: origin === "null" ? "*" : origin });
  });
}
