// @ts-check
// What the page is doing before the image is there: fetching, preparing the graphics, sharpening; and the poster until then.

import { number, t } from "./language.js";

// Sharpening is only worth a word where it takes longer.
const SHARPENING_MS = 1200;

/** @returns {any} */
const $ = (id) => document.getElementById(id);

export class Loading {
  constructor(isVisible) {
    this.isVisible = isVisible;
    this.isOver = false;
    this.timer = 0;
  }

  /** @param {import("./assets.js").Progress} progress */
  show(progress) {
    const { loaded, total, exact, isPlanned } = progress;
    if (isPlanned && loaded >= total) return this.prepare();
    if (!isPlanned) return this.#say(t("Opening the scene"), null);
    const values = { loaded: megabytes(loaded), total: megabytes(total) };
    this.#say(t(exact ? "Loading: {loaded} of {total} MB" : "Loading: {loaded} of about {total} MB", values), loaded / total);
  }

  // All bytes are here; the device has still to take them.
  prepare() {
    this.#say(t("Preparing the graphics"), null);
  }

  // The scene is on the canvas, but not yet in full detail.
  sharpen() {
    this.done();
    if (this.isOver) return;
    this.timer = setTimeout(() => this.#say(t("Sharpening"), null), SHARPENING_MS);
  }

  done() {
    clearTimeout(this.timer);
    $("progress").setAttribute("aria-valuenow", "100");
    $("loading").hidden = true;
  }

  // Full detail is there for the first time: later only what is fetched is worth a word.
  finish() {
    this.isOver = true;
    this.done();
  }

  // The poster goes where the image is.
  showImage() {
    $("poster")?.classList.add("gone");
  }

  #say(text, /** @type {number | null} */ fraction) {
    clearTimeout(this.timer);
    const bar = $("progress");
    bar.classList.toggle("endless", fraction === null);
    bar.firstElementChild.style.width = fraction === null ? "" : `${100 * fraction}%`;
    if (fraction === null) bar.removeAttribute("aria-valuenow");
    else bar.setAttribute("aria-valuenow", String(Math.floor(100 * fraction)));
    bar.setAttribute("aria-valuetext", text);
    $("progress-text").textContent = text;
    $("loading").hidden = !this.isVisible;
  }
}

function megabytes(/** @type {number} */ bytes) {
  return number(bytes / 1e6, bytes < 1e7 ? 1 : 0);
}
