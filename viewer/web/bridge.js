// @ts-check
// The page's verbs for scripts (window.smerf) and, over postMessage, for pages that embed it; README.md lists them.
//
// A message { smerf: "setCamera", id: 7, args: [matrix, 50] } is answered by { smerf: "setCamera", id: 7, result } or
// { smerf: "setCamera", id: 7, error: "..." }.

// Pages of other hosts may do what a visitor could: move, and read what the page says of itself. Verbs that give away
// pixels or compile shaders are for the page's own host, and for those that its meta tag smerf-embedders lists.

/**
 * @param {Record<string, (...args: any[]) => any>} verbs
 * @param {() => Promise<void>} whenReady resolves when the full-detail frame of the current camera is on the canvas
 * @param {string[]} [restricted] names of verbs that are not for pages of other hosts
 */
export function publish(verbs, whenReady, restricted = []) {
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
      if (restricted.includes(verb) && !isTrusted(origin)) {
        throw new Error(`${verb} is not for pages of ${origin}: the viewer's own host can list them in smerf-embedders.`);
      }
      reply.result = (await all[verb](...(data.args ?? []))) ?? null;
    } catch (error) {
      reply.error = String(error.message ?? error);
    }
    source.postMessage(reply, { targetOrigin: origin === "null" ? "*" : origin });
  });
}

function isTrusted(/** @type {string} */ origin) {
  if (origin === "null") return false;
  const listed = document.querySelector('meta[name="smerf-embedders"]')?.getAttribute("content") ?? "";
  return origin === location.origin || listed.split(/\s+/).includes(origin);
}

/**
 * Tells an embedding page of an event, { smerf: "opened" } or { smerf: "camera", detail }: nothing that names the visitor.
 * @param {string} event @param {any} [detail]
 */
export function announce(event, detail = null) {
  if (parent !== window) parent.postMessage(detail === null ? { smerf: event } : { smerf: event, detail }, "*");
}
