// @ts-check
// The page within another page (?embed=1): nothing is loaded before a click, the wheel and vertical swipes scroll the
// page around it, and a link leads to the page on its own.

import { t } from "./language.js";
import { $, metaContent } from "./ui.js";

const LINKS = ["button-outside", "curtain-outside"];
const HINT_MS = 1500;

export class Embedding {
  /** @param {import("./ui.js").Page} page */
  constructor(page) {
    this.page = page;
    document.documentElement.dataset.embed = "";
    $("button-outside").hidden = false;
    for (const id of LINKS) {
      for (const event of ["pointerdown", "focus"]) $(id).addEventListener(event, () => this.#followAddress());
    }
    this.#followAddress();
    // Before the controls see it: without them the browser scrolls what is around the frame.
    addEventListener("wheel", (event) => this.#letScroll(event), { capture: true, passive: true });
  }

  /** Waits for the click that starts. @returns {Promise<void>} */
  begin() {
    const { page } = this;
    return new Promise((resolve) => {
      $("curtain").hidden = false;
      $("curtain-title").textContent = metaContent("smerf-title") ?? "";
      this.start = () => {
        $("curtain").hidden = true;
        page.canvas.focus({ preventScroll: true });
        resolve();
      };
      $("curtain-start").addEventListener("click", this.start, { once: true });
    });
  }

  start() {}

  #letScroll(/** @type {WheelEvent} */ event) {
    const isMeant = event.ctrlKey || event.metaKey || document.fullscreenElement || event.target !== this.page.canvas;
    if (isMeant) return;
    event.stopPropagation();
    this.page.notify(t("Ctrl + wheel zooms"), HINT_MS);
  }

  // The same view on a page of its own.
  #followAddress() {
    const url = new URL(location.href);
    url.searchParams.delete("embed");
    for (const id of LINKS) $(id).href = url.href;
  }
}
