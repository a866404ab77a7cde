// @ts-check
// For pages that show scenes: createViewer(element, options) puts a viewer into an element. Each is a frame of its own, so
// that many stand beside each other, and nothing of one page reaches the other but messages. It needs no other file.

const VERBS = /** @type {const} */ ([
  "setCamera", "getCamera", "flyTo", "reset", "setMode", "setQuality", "setPath", "getPath", "play", "stats", "picture",
  "benchmark", "setAnnotations", "getAnnotations", "openAnnotation", "pick", "start", "setObjects", "getObjects", "selectObject",
  "objectAt",
]);

/**
 * What createViewer takes.
 * @typedef {object} ViewerOptions
 * @property {string} [page] address of an exported page; default: the one that this module belongs to
 * @property {Record<string, string | number | boolean>} [parameters] of its address, such as { embed: 1, lang: "de" }
 * @property {string} [view] what stands behind # in a link to a view
 * @property {string} [title] name of the frame for screen readers
 */

// Events: opened, progress, camera, annotation, object, failed; their detail is as in README.md.
export class SceneViewer extends EventTarget {
  /** @param {HTMLElement} element @param {ViewerOptions} [options] */
  constructor(element, { page, parameters = {}, view = "", title = "3D" } = {}) {
    super();
    const url = new URL(page ?? new URL("../", import.meta.url), document.baseURI);
    for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, String(value));
    if (view) url.hash = view;
    this.origin = url.origin;
    this.number = 0;
    /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
    this.asked = new Map();
    this.frame = document.createElement("iframe");
    const allow = "fullscreen; clipboard-write; gamepad; web-share; xr-spatial-tracking";
    Object.assign(this.frame, { src: url.href, title, allow });
    Object.assign(this.frame.style, { display: "block", width: "100%", height: "100%", border: "0" });
    this.listen = (event) => this.#hear(event);
    addEventListener("message", this.listen);
    /** Resolves when the scene is open. @type {Promise<void>} */
    this.opened = new Promise((resolve, reject) => {
      this.addEventListener("opened", () => resolve(), { once: true });
      this.addEventListener("failed", (/** @type {any} */ { detail }) => reject(new Error(detail.error)), { once: true });
      this.rejectOpened = reject;
    });
    this.opened.catch(() => {});
    element.append(this.frame);
  }

  /** The full-detail image of the camera is on the canvas. @returns {Promise<void>} */
  get ready() {
    return this.opened.then(() => this.ask("ready"));
  }

  /** Calls a verb of window.smerf there. @param {string} verb @param {...any} args @returns {Promise<any>} */
  ask(verb, ...args) {
    const target = this.frame.contentWindow;
    if (!target) return Promise.reject(new Error("This viewer was destroyed."));
    const id = ++this.number;
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      target.postMessage({ smerf: verb, args, id }, this.origin);
    });
  }

  /** Takes the viewer away, with all that it holds. */
  destroy() {
    removeEventListener("message", this.listen);
    const error = new Error("This viewer was destroyed.");
    for (const { reject } of this.asked.values()) reject(error);
    this.asked.clear();
    this.rejectOpened(error);
    this.frame.remove();
  }

  #hear(/** @type {MessageEvent} */ { source, data }) {
    if (source !== this.frame.contentWindow || typeof data?.smerf !== "string") return;
    if (!("id" in data)) {
      this.dispatchEvent(new CustomEvent(data.smerf, { detail: data.detail ?? null }));
      return;
    }
    const waiting = this.asked.get(data.id);
    this.asked.delete(data.id);
    if ("error" in data) waiting?.reject(new Error(data.error));
    else waiting?.resolve(data.result);
  }
}

for (const verb of VERBS) {
  SceneViewer.prototype[verb] = async function (...args) {
    if (verb !== "start") await this.opened;
    return this.ask(verb, ...args);
  };
}

/**
 * Puts a viewer into an element.
 * @param {HTMLElement} element @param {ViewerOptions} [options]
 */
export function createViewer(element, options) {
  return new SceneViewer(element, options);
}
