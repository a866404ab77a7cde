// @ts-check
// The panel of objects, of a walkable scene or of a scene of slots: list with search, selection by click in the list or on
// the scene, hiding and isolating, by mouse, finger or keyboard alone.

import { t } from "./language.js";
import { SVG } from "./marks.js";
import { $ } from "./ui.js";

/**
 * What a page knows of its objects.
 * @typedef {object} ObjectHost
 * @property {import("./objects.js").ObjectState<any>} state
 * @property {(id: number) => string} name in the page's language
 * @property {(id: number) => string} colour a CSS colour
 * @property {(id: number) => string} detail what stands behind the name
 * @property {(id: number | null) => string} size of the selected one; empty where nothing is known of it
 * @property {(id: number) => void} goTo an entry of the list was chosen
 * @property {() => void} prepare the panel opens, and objects may be hidden soon
 * @property {(u: number, v: number) => number | null} at the object seen at fractions of the canvas from its upper left
 */

// A panel as wide as this part of the page is a sheet.
const SHEET = 0.7;

export class ObjectPanel {
  /** @param {import("./ui.js").Page} page @param {import("./marks.js").Marks} marks @param {ObjectHost} host */
  constructor(page, marks, host) {
    this.page = page;
    this.marks = marks;
    this.host = host;
    /** @type {{ id: number, item: HTMLElement, entry: HTMLElement, only: HTMLElement, eye: HTMLElement }[]} */
    this.rows = [];
    // Which row Tab reaches.
    this.at = 0;
    this.tool = { at: (u, v) => this.#pick(u, v), end: () => page.showPanel("objects", false) };
    $("button-objects").hidden = false;
    this.#listen();
    this.#build();
  }

  get isOpen() {
    return !$("objects").hidden;
  }

  /** What the panel covers of a canvas: the share of its width from the right, or of its height from below. */
  covered(/** @type {HTMLCanvasElement} */ canvas) {
    const [panel, whole] = [$("objects"), canvas].map((each) => each.getBoundingClientRect());
    const share = (/** @type {number} */ value) => Math.min(0.8, Math.max(0, value));
    if (!this.isOpen) return { right: 0, below: 0 };
    if (panel.width > SHEET * whole.width) return { right: 0, below: share((whole.bottom - panel.top) / whole.height) };
    return { right: share((whole.right - panel.left) / whole.width), below: 0 };
  }

  #listen() {
    const { page, marks } = this;
    const { state } = this.host;
    page.keys.KeyO = () => page.showPanel("objects", !this.isOpen);
    page.keys.Delete = () => this.#hideSelected();
    page.keys.KeyH = () => this.#hideSelected() || page.help.toggle();
    page.escapes.push(() => this.#clear());
    page.press("objects-all", () => state.showAll());
    $("objects").addEventListener("shown", () => {
      marks.use(this.tool);
      this.host.prepare();
      this.follow();
    });
    $("objects").addEventListener("hidden", () => {
      if (marks.tool === this.tool) marks.use(null);
      state.select(null);
    });
    $("objects").addEventListener("keydown", (event) => this.#press(event));
    $("objects-search").addEventListener("input", () => this.#build());
    $("objects-list").addEventListener("focusin", ({ target }) => {
      this.#reach(this.rows.findIndex(({ item }) => item.contains(target)));
    });
    document.addEventListener("language", () => this.#build());
  }

  // Rows of what is searched for ------------------------------------------------------------------------------------

  #build() {
    const { host } = this;
    const search = $("objects-search").value.trim().toLocaleLowerCase();
    const found = host.state.list.filter(({ id }) => host.name(id).toLocaleLowerCase().includes(search));
    this.rows = found.map(({ id }) => this.#row(id));
    $("objects-list").replaceChildren(...this.rows.map(({ item }) => item));
    $("objects-list").hidden = !found.length;
    $("objects-none").hidden = found.length > 0;
    this.#reach(0);
    this.follow();
  }

  #row(id) {
    const { host } = this;
    const { state } = host;
    const item = document.createElement("li");
    const entry = button("entry", "", () => this.#choose(id));
    const chip = part("chip", "");
    chip.style.background = host.colour(id);
    entry.append(chip, part("name", host.name(id)), part("detail", host.detail(id)));
    const only = button("icon", "i-only", () => state.isolate(id));
    only.setAttribute("aria-label", t("Only {name}", { name: host.name(id) }));
    const eye = button("icon", "i-eye", () => state.hide(id, !state.hidden.has(id)));
    item.append(entry, only, eye);
    return { id, item, entry, only, eye };
  }

  // Shows what is selected and hidden.
  follow() {
    const { host, rows } = this;
    const { state } = host;
    for (const { id, item, entry, only, eye } of rows) {
      const isHidden = state.hidden.has(id);
      item.classList.toggle("gone", isHidden);
      entry.setAttribute("aria-pressed", String(state.selected === id));
      only.setAttribute("aria-pressed", String(state.isIsolated(id)));
      eye.setAttribute("aria-label", t(isHidden ? "Show {name}" : "Hide {name}", { name: host.name(id) }));
      eye.querySelector("use").setAttribute("href", isHidden ? "#i-eye-off" : "#i-eye");
    }
    // What belongs to no object is none.
    const [n, count] = [rows, state.list].map((list) => list.filter(({ id }) => id > 0).length);
    const hidden = state.hidden.size;
    const counted = n < count ? t("{n} of {count}", { n, count }) : t("Objects: {n}", { n });
    say("objects-text", hidden ? `${counted} · ${t("Hidden: {n}", { n: hidden })}` : counted);
    $("objects-all").disabled = !hidden;
    this.measure();
  }

  // What is known of the selected one; units may have changed.
  measure() {
    const size = this.host.size(this.host.state.selected);
    say("objects-size", size);
    $("objects-size").hidden = !size;
  }

  // The row that Tab reaches; arrows lead to the others.
  #reach(index) {
    if (index >= 0) this.at = index;
    this.rows.forEach(({ entry, only, eye }, i) => {
      for (const each of [entry, only, eye]) each.tabIndex = i === this.at ? 0 : -1;
    });
  }

  /** Brings the row of an object into view. @param {number | null} id */
  show(id) {
    const index = this.rows.findIndex((row) => row.id === id);
    this.#reach(index);
    this.rows[index]?.item.scrollIntoView({ block: "nearest" });
  }

  // Keys ------------------------------------------------------------------------------------------------------------

  #press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isSearch = event.target === $("objects-search");
    if (isSearch && event.key === "Escape" && event.target.value) {
      event.target.value = "";
      this.#build();
      event.stopPropagation();
    } else if (event.code in STEPS && (!isSearch || event.code === "ArrowDown")) {
      const to = isSearch ? this.at : STEPS[event.code](this.at, this.rows.length);
      this.rows[Math.max(0, Math.min(this.rows.length - 1, to))]?.entry.focus();
    } else if (!isSearch && (event.code === "Delete" || event.code === "KeyH")) {
      this.#hideSelected();
    } else return;
    event.preventDefault();
  }

  // Says whether it was its turn.
  #hideSelected() {
    const { state } = this.host;
    const { selected } = state;
    if (!this.isOpen || selected === null) return false;
    state.hide(selected, !state.hidden.has(selected));
    return true;
  }

  // Escape clears the selection before it closes the panel.
  #clear() {
    const { state } = this.host;
    if (!this.isOpen || state.selected === null) return false;
    state.select(null);
    return true;
  }

  // Chosen again, the selected one is so no more.
  #select(id) {
    const { state } = this.host;
    state.select(state.selected === id ? null : id);
    return state.selected !== null;
  }

  #choose(id) {
    if (this.#select(id)) this.host.goTo(id);
  }

  #pick(u, v) {
    const { host, page } = this;
    const id = host.at(u, v);
    if (this.#select(id)) {
      this.show(id);
      page.notify(host.name(id));
    } else if (id === null) page.notify(t("There is no object at this point"));
  }
}

/** @type {Record<string, (at: number, count: number) => number>} */
const STEPS = {
  ArrowDown: (at) => at + 1, ArrowUp: (at) => at - 1, Home: () => 0, End: (_, count) => count - 1,
};

function button(/** @type {string} */ className, /** @type {string} */ icon, /** @type {() => void} */ action) {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", className });
  made.addEventListener("click", action);
  if (!icon) return made;
  const [svg, use] = ["svg", "use"].map((name) => document.createElementNS(SVG, name));
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${icon}`);
  svg.append(use);
  made.append(svg);
  return made;
}

function part(/** @type {string} */ className, /** @type {string} */ text) {
  return Object.assign(document.createElement("span"), { className, textContent: text });
}

// A text that screen readers hear again only where it has changed.
function say(/** @type {string} */ id, /** @type {string} */ text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}
