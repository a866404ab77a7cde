// @ts-check
// Fetches the files of a scene: byte progress, a few requests at a time, retries, hashes, and decoding to plain bytes.

import { t } from "./language.js";
import { decodePng, inflate } from "./png.js";
import { sha256 } from "./sha256.js";

const PARALLEL_REQUESTS = 6;
// Tries after an answer that says "not now".
const RETRIES = 5;
// Tries without any answer while the device believes to be online; a device that is offline is waited for.
const MAX_UNANSWERED = 7;
const MAX_UNANSWERED_MS = 90000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 8000;
const MANIFEST = "manifest.json";
// A connection that stays silent for this long is given up and opened again.
const SILENCE_MS = 30000;

// Something that the visitor should read. isPassing: worth another try.
export class LoadError extends Error {
  constructor(message, status = 0, isPassing = false) {
    super(message);
    this.status = status;
    this.isPassing = isPassing;
  }
}

export class Assets {
  /**
   * @param {URL} root folder that paths are relative to
   * @param {Record<string, any> | null} manifest the parsed manifest.json
   * @param {(text: string | null) => void} onTrouble gets a sentence while there is no connection, null when it is back
   */
  constructor(root, manifest = null, onTrouble = () => {}) {
    this.root = root;
    this.manifest = manifest;
    this.onTrouble = onTrouble;
    this.isInTrouble = false;
    this.embedded = globalThis.smerfEmbeddedFiles ?? null;
    /** @type {(() => void)[]} */
    this.waiting = [];
    this.running = 0;
    this.suffixes = {};
  }

  url(path) {
    return new URL(path, this.root);
  }

  // Whether the manifest, if there is one, lists the file; undefined when unknown.
  lists(path) {
    const files = this.embedded ?? this.manifest?.files;
    return files ? path in files : undefined;
  }

  async json(path, progress, signal) {
    const stored = this.lists(path) === false && this.lists(`${path}.gz`) ? `${path}.gz` : path;
    const bytes = await this.bytes(stored, progress, 0, signal);
    const text = new TextDecoder().decode(isGzip(bytes) ? await inflate(bytes, "gzip") : bytes);
    try {
      return JSON.parse(text);
    } catch {
      throw new LoadError(t("{file} is damaged. Upload or export the scene again.", { file: path }));
    }
  }

  /**
   * Returns the bytes of an array in the memory order of the format.
   * @param {string} name path without extension
   * @param {string} extension
   * @param {{ width: number, height: number, channels: number }} shape first axis, product of the others, bytes per entry
   */
  async array(name, extension, shape, progress, signal) {
    const size = shape.width * shape.height * shape.channels;
    const data = await this.#decoded(name, extension, shape, size, progress, signal);
    signal?.throwIfAborted();
    if (data.length !== size) {
      throw new LoadError(`${name}.${extension} holds ${data.length} bytes where the scene needs ${size}.`);
    }
    return data;
  }

  async #decoded(name, extension, shape, size, progress, signal) {
    if (extension === "png") {
      try {
        return await decodePng(await this.bytes(`${name}.png`, progress, size, signal), shape);
      } catch (error) {
        if (error instanceof LoadError || signal?.aborted) throw error;
        throw new LoadError(`${name}.png ${error.message}.`);
      }
    }
    const bytes = await this.bytes(await this.#storedName(name, extension), progress, size, signal);
    if (bytes.length === size || !isGzip(bytes)) return bytes;
    return inflate(bytes, "gzip");
  }

  // A file of format raw.gz may be stored as name.raw.gz or, uncompressed or mapped by the server, as name.raw.
  async #storedName(name, extension) {
    if (extension !== "raw.gz") return `${name}.${extension}`;
    if (this.lists(`${name}.raw.gz`)) return `${name}.raw.gz`;
    if (this.lists(`${name}.raw`)) return `${name}.raw`;
    this.suffixes[extension] ??= this.#persist(async () => {
      const response = await fetch(this.url(`${name}.raw.gz`), { method: "HEAD" });
      return response.ok ? "raw.gz" : "raw";
    });
    return `${name}.${await this.suffixes[extension]}`;
  }

  async bytes(path, progress, expected = 0, signal = null) {
    if (this.embedded) return fromBase64(this.embedded[path], path);
    const entry = progress?.start(path, this.manifest?.files?.[path]?.bytes ?? 0, expected);
    if (this.running >= PARALLEL_REQUESTS) {
      await /** @type {Promise<void>} */ (new Promise((resolve) => this.waiting.push(resolve)));
    }
    this.running++;
    try {
      return await this.#persist(() => this.#verified(path, entry, signal), signal);
    } finally {
      this.running--;
      this.waiting.shift()?.();
    }
  }

  // The file that the manifest lists. One that differs may come from an old cache, so it is fetched again past it.
  async #verified(path, entry, signal) {
    const expected = this.manifest?.files?.[path]?.sha256;
    for (const cache of /** @type {RequestCache[]} */ (["default", "reload"])) {
      const bytes = await this.#download(path, entry, signal, path === MANIFEST ? "no-cache" : cache);
      // A host that unpacks compressed files sends other bytes than those that were hashed.
      const isUnpacked = path.endsWith(".gz") && !isGzip(bytes);
      if (!expected || isUnpacked || (await sha256(bytes)) === expected) return bytes;
    }
    throw new LoadError(
      t("{file} is not the file that manifest.json lists (its SHA-256 differs). Upload or export the scene again.", {
        file: path,
      }),
    );
  }

  async #download(path, entry, signal, cache) {
    const attempt = new AbortController();
    const stop = () => attempt.abort(signal.reason);
    signal?.addEventListener("abort", stop);
    let timer;
    const restart = () => {
      clearTimeout(timer);
      timer = setTimeout(() => attempt.abort(new TypeError("silence")), SILENCE_MS);
    };
    restart();
    try {
      const response = await fetch(this.url(path), { signal: attempt.signal, cache });
      const { status } = response;
      if (!response.ok) {
        const isPassing = status === 429 || status >= 500;
        const text = t("{file} could not be loaded (HTTP {n}).", { file: this.url(path).href, n: status });
        throw new LoadError(text, status, isPassing);
      }
      // Only a guess for the progress bar: where the host compresses, it is the length of something else.
      entry?.length(Number(response.headers.get("Content-Length")) || 0);
      const chunks = [];
      let received = 0;
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        restart();
        chunks.push(value);
        received += value.length;
        entry?.advance(received);
      }
      entry?.finish(received);
      return join(chunks, received);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
    }
  }

  // Tries until it works, the server says no or nothing for too long, or the signal aborts; longer and longer pauses,
  // cut short when the browser finds itself online.
  async #persist(action, signal = null) {
    const since = performance.now();
    let unanswered = 0;
    for (let attempt = 0; ; attempt++) {
      signal?.throwIfAborted();
      try {
        const result = await action();
        this.#trouble(null);
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        const isAnswer = error instanceof LoadError;
        if (isAnswer && (!error.isPassing || attempt >= RETRIES)) throw error;
        const host = this.root.host || t("the scene");
        if (!isAnswer && navigator.onLine && isTooLong(++unanswered, since)) {
          this.#trouble(null);
          throw new LoadError(t("{host} does not answer, or this network blocks it.", { host }), 0, true);
        }
        if (!isAnswer && (attempt > 0 || !navigator.onLine)) {
          this.#trouble(t("No connection to {host}. Loading goes on as soon as it is back.", { host }));
        }
      }
      await pause(Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt), signal);
    }
  }

  #trouble(text) {
    if (text === null && !this.isInTrouble) return;
    this.isInTrouble = text !== null;
    this.onTrouble(text);
  }
}

function isTooLong(unanswered, since) {
  return unanswered >= MAX_UNANSWERED || (unanswered > 1 && performance.now() - since > MAX_UNANSWERED_MS);
}

function pause(ms, signal) {
  return new Promise((/** @type {(value?: any) => void} */ resolve) => {
    const end = () => {
      clearTimeout(timer);
      removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    addEventListener("online", end);
    signal?.addEventListener("abort", end);
  });
}

// Adds up the bytes of many files. Totals come from the manifest, else from Content-Length, else from the decoded size.
export class Progress {
  /** @param {(progress: Progress) => void} onChange @param {(text: string | null) => void} onTrouble as of Assets */
  constructor(onChange, onTrouble = () => {}) {
    this.files = new Map();
    this.onChange = onChange;
    this.onTrouble = onTrouble;
    this.exact = true;
    // Whether the total is known, beyond the files that describe the others.
    this.isPlanned = false;
    // What is fetched ahead of need is counted but not shown.
    this.isQuiet = false;
  }

  // Announces a file before its request, so that the total is known from the start.
  expect(path, bytes) {
    this.isPlanned = true;
    if (!this.files.has(path)) this.files.set(path, { loaded: 0, total: bytes });
  }

  forget(path) {
    this.files.delete(path);
  }

  start(path, listed, expected) {
    const file = { loaded: 0, total: listed || this.files.get(path)?.total || expected };
    this.files.set(path, file);
    if (expected) this.isPlanned = true;
    if (!listed && expected) this.exact = false;
    const changed = () => this.isQuiet || this.onChange(this);
    return {
      length: (bytes) => {
        if (!listed && bytes) file.total = bytes;
      },
      advance: (bytes) => {
        file.loaded = Math.min(bytes, file.total || bytes);
        changed();
      },
      finish: (bytes) => {
        file.loaded = file.total = bytes;
        changed();
      },
    };
  }

  get loaded() {
    return [...this.files.values()].reduce((sum, file) => sum + file.loaded, 0);
  }

  get total() {
    return [...this.files.values()].reduce((sum, file) => sum + file.total, 0);
  }
}

function isGzip(bytes) {
  return bytes.length > 2 && bytes[0] === 0x1f && bytes[1] === 0x8b && bytes[2] === 8;
}

function join(chunks, size) {
  if (chunks.length === 1) return chunks[0];
  const out = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

function fromBase64(text, path) {
  if (text === undefined) throw new LoadError(`${path} is not part of this page.`);
  const characters = atob(text);
  const out = new Uint8Array(characters.length);
  for (let i = 0; i < out.length; i++) out[i] = characters.charCodeAt(i);
  return out;
}
