// @ts-check
// The page's verbs for scripts (window.smerf) and, over postMessage, for pages that embed it; README.md lists them.
//
// A message { smerf: "setCamera", id: 7, args: [matrix, 50] } is answered by { smerf: "setCamera", id: 7, result } or
// { smerf: "setCamera", id: 7, error: "..." }.

/**
 * @param {Record<string, (...args: any[]) => any>} verbs
 * @param {() => Promise<void>} whenReady resolves when the full-detail frame of the current camera is on the canvas
 */
export function publish(verbs, whenReady) {
  globalThis.smerf = Object.freeze({
    ...verbs,
    get ready() {
      return whenReady();
    },
  });
  const all = { ...verbs, ready: whenReady };

  addEventListener("message", async ({ data, source, origin }) => {
    const verb = data?.smerf;
    if (!source || typeof verb !== "string" || !Object.hasOwn(all, verb) || !("id" in data)) return;
    // An answer is no request: two such pages would go on answering each other.
    if ("result" in data || "error" in data) return;
    /** @type {{ smerf: string, id: any, result?: any, error?: string }} */
    const reply = { smerf: verb, id: data.id };
    try {
      reply.result = (await all[verb](...(data.args ?? []))) ?? null;
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
