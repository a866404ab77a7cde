// @ts-check
// Everything on the page that is not the canvas: messages, statistics, the dock, its panels and the keys.

import { Help } from "./help.js";
import { number, t } from "./language.js";
import { Loading } from "./loading.js";

// Above the dock; and at the right.
const PLACES = [".tray", "#settings, #objects"];
const NOTICE_MS = 2500;
const WARNING_MS = 12000;

/** The element of the page with this id, of whatever kind it is there. @returns {any} */
export const $ = (id) => document.getElementById(id);

export class Page {
  constructor(isVisible) {
    this.isVisible = isVisible;
    /** @type {HTMLCanvasElement} */
    this.canvas = $("view");
    this.statisticsShown = false;
    this.lastStatistics = null;
    this.noticeTimer = 0;
    this.mode = "orbit";
    this.isPlaying = false;
    /** What keys do while the scene has the focus, by their codes. @type {Record<string, () => void>} */
    this.keys = {};
    /** What Escape does first; each says whether it was its turn. @type {(() => boolean)[]} */
    this.escapes = [];
    /** @type {Map<string, { text: string, retry: (() => void) | null }>} */
    this.messages = new Map();
    this.loading = new Loading(isVisible);
    this.help = new Help(this.canvas);
    this.canvas.addEventListener("keydown", (event) => this.#press(event));
    document.addEventListener("language", () => this.setPlaying(this.isPlaying));
    document.addEventListener("keydown", (event) => event.key === "Escape" && this.#escape());
    for (const button of document.querySelectorAll(".tray .close")) {
      button.addEventListener("click", () => this.showPanel(button.closest(".tray").id, false));
    }
  }

  // Connects buttons and keys; actions: mode, reset, share, play.
  connect(actions) {
    for (const id of ["dock", "bottom", "corner", "upper"]) $(id).hidden = !this.isVisible;
    this.press("button-orbit", () => actions.mode("orbit"), "Digit1");
    this.press("button-fly", () => actions.mode("fly"), "Digit2");
    this.press("button-walk", () => actions.mode("walk"), "Digit3");
    this.press("button-reset", actions.reset, "KeyR");
    this.press("button-share", actions.share, "KeyC");
    this.press("button-play", actions.play);
    this.press("path-play", actions.play, "Space");
    this.keys.KeyI = () => this.toggleStatistics();
    this.keys.KeyH = () => this.help.toggle();
    this.keys.KeyU = () => this.toggleControls();
    $("button-help").addEventListener("click", () => this.help.toggle());
    for (const name of this.panels) this.press(`button-${name}`, () => this.showPanel(name, $(name).hidden));
    $("button-more").addEventListener("click", () => this.#showTools(!$("tools").classList.contains("open")));
    $("tools").addEventListener("click", () => this.#showTools(false));
    this.canvas.addEventListener("pointerdown", () => this.#showTools(false));
  }

  // A button's action; `code` names the key that does the same while the scene has the focus.
  press(id, action, code = null) {
    $(id).addEventListener("click", (event) => {
      action();
      // A click with the mouse gives the keyboard back to the scene.
      if (event.detail > 0) this.canvas.focus({ preventScroll: true });
    });
    if (code) this.keys[code] = () => $(id).disabled || action();
  }

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !this.isVisible) return;
    const action = event.key === "?" ? () => this.help.toggle() : this.keys[event.code];
    if (!action) return;
    event.preventDefault();
    action();
  }

  // Names of all panels: each has a button that shows and hides it.
  get panels() {
    return [...document.querySelectorAll(".panel")].map(({ id }) => id);
  }

  // Shows or hides a panel; of those that share a place one is there at a time.
  showPanel(name, isShown) {
    for (const place of isShown ? PLACES.filter((each) => $(name).matches(each)) : []) {
      for (const other of document.querySelectorAll(place)) if (other.id !== name) this.#show(other.id, false);
    }
    this.#show(name, isShown);
  }

  #show(name, isShown) {
    if ($(name).hidden === !isShown) return;
    const hadFocus = $(name).contains(document.activeElement);
    $(name).hidden = !isShown;
    $(`button-${name}`).setAttribute("aria-expanded", String(isShown));
    if (!isShown && hadFocus) $(`button-${name}`).focus();
    $(name).dispatchEvent(new CustomEvent(isShown ? "shown" : "hidden"));
  }

  // On narrow screens the tools are a sheet of their own.
  #showTools(isShown) {
    if ($("tools").contains(document.activeElement) && !isShown) $("button-more").focus();
    $("tools").classList.toggle("open", isShown);
    $("button-more").setAttribute("aria-expanded", String(isShown));
  }

  #escape() {
    if (!this.help.isOpen && !this.escapes.some((each) => each())) this.closePanels();
  }

  closePanels() {
    this.#showTools(false);
    document.body.classList.remove("bare");
    for (const name of this.panels) this.showPanel(name, false);
  }

  toggleControls() {
    if (document.body.classList.toggle("bare")) this.notify(t("U brings the controls back"));
  }

  setMode(mode) {
    this.mode = mode;
    $("stick").hidden = mode === "orbit";
    for (const name of ["orbit", "fly", "walk"]) $(`button-${name}`).setAttribute("aria-pressed", String(mode === name));
  }

  setPlaying(isPlaying) {
    this.isPlaying = isPlaying;
    for (const id of ["button-play", "path-play"]) {
      $(id).setAttribute("aria-label", t(isPlaying ? "Pause" : "Play"));
      $(id).querySelector("use").setAttribute("href", isPlaying ? "#i-pause" : "#i-play");
    }
  }

  toggleStatistics() {
    this.statisticsShown = !this.statisticsShown;
    $("statistics").hidden = !this.statisticsShown;
    $("set-statistics").checked = this.statisticsShown;
    if (this.statisticsShown && this.lastStatistics) this.showStatistics(this.lastStatistics);
  }

  /**
   * A problem that the visitor must read; shown even where the controls are hidden. null takes it away.
   * @param {string | null} text @param {(() => void) | null} [retry] what another try is, where it may help
   */
  showMessage(text, retry = null) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: t("Try again") });
    button.addEventListener("click", retry ?? (() => {}));
    $("message").hidden = text === null;
    $("message").replaceChildren(text ?? "", ...(retry ? [" ", button] : []));
    if (text !== null) this.loading.done();
  }

  // Shows the newest sentence of those that still hold; null takes the one of this kind away.
  tell(kind, text, retry = null) {
    if (!this.messages.delete(kind) && text === null) return;
    if (text !== null) this.messages.set(kind, { text, retry });
    const last = [...this.messages.values()].pop();
    this.showMessage(last?.text ?? null, last?.retry);
  }

  notify(text, ms = NOTICE_MS) {
    $("notice").textContent = text;
    $("notice").hidden = !this.isVisible;
    clearTimeout(this.noticeTimer);
    this.noticeTimer = setTimeout(() => ($("notice").hidden = true), ms);
  }

  /** Tells of values in the address that were not taken. @param {string[]} problems */
  warn(problems) {
    if (!problems.length) return;
    console.warn(problems.join("\n"));
    this.notify(problems.join(" "), WARNING_MS);
  }

  showStatistics(stats) {
    this.lastStatistics = stats;
    if (!this.statisticsShown) return;
    const size = (width, height) => `${width} × ${height}`;
    const megabytes = (bytes) => `${number(bytes / 1e6, bytes < 1e7 ? 1 : 0)} MB`;
    /** @type {Record<string, string>} */
    const rows = {
      [t("Frame time")]: `${number(stats.frameMs, 1)} ms`,
      [t("Frames per second")]: number(stats.fps),
      [t("Rendered")]: size(stats.renderWidth, stats.renderHeight),
      [t("Canvas")]: size(stats.width, stats.height),
      [t("Drawn with")]: stats.backend,
    };
    if (stats.submodels) {
      const place = { n: stats.submodel + 1, count: stats.submodels };
      rows[t("Submodel")] = stats.submodel === null ? t("none") : t("{n} of {count}", place);
      rows[t("Textures")] = megabytes(stats.textureBytes);
      rows[t("Downloaded")] = megabytes(stats.loadedBytes);
    }
    $("statistics").replaceChildren(
      ...Object.entries(rows).flatMap(([name, value]) => {
        const [term, detail] = [document.createElement("dt"), document.createElement("dd")];
        term.textContent = name;
        detail.textContent = value;
        return [term, detail];
      }),
    );
  }
}

/** Content of the page's meta tag of this name; null where there is none. @param {string} name */
export function metaContent(name) {
  return document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? null;
}

/** JSON beside the page, or within a page of one file. @param {string} address @returns {Promise<any>} null if it is not there */
export async function siteJson(address) {
  const embedded = globalThis.smerfEmbeddedFiles?.[address];
  if (embedded) return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(embedded), (c) => c.charCodeAt(0))));
  const response = await fetch(new URL(address, document.baseURI)).catch(() => null);
  return response?.ok ? response.json().catch(() => null) : null;
}

// Offers a blob to be kept as a file.
export function saveAs(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}
