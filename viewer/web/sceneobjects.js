// @ts-check
// The objects of a walkable scene on its page: the panel's list, the box of the selected one with its measures, the flight
// to it, and links that name it.

import { announce } from "./bridge.js";
import { add, column, cross, length, lookAt, normalize, position, scale, subtract } from "./camera.js";
import { t } from "./language.js";
import { ObjectPanel } from "./objectpanel.js";
import { ObjectState } from "./objects.js";

// A box fills so much of the narrower side of the image.
const FILLS = 0.6;
// Of the way to the next wall so much is walked; what lies nearer to a box than this is a part of it.
const FREE = 0.8;
const PROBE_NEAR = 0.08;
/** @type {import("./objects.js").SceneObject} */
const REST = Object.freeze({ id: 0, name: "", colour: [0.5, 0.5, 0.5], box: null, score: null });

export class SceneObjects {
  /**
   * @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page
   * @param {import("./marks.js").Marks} marks @param {import("./units.js").Units} units
   */
  constructor(viewer, page, marks, units) {
    this.viewer = viewer;
    this.page = page;
    this.marks = marks;
    this.units = units;
    /** @type {import("./objects.js").SceneObject[]} */
    this.list = viewer.scene.objects;
    /** @type {number | null} */
    this.told = null;
    this.state = new ObjectState(this.list.length ? [...this.list, REST] : [], () => this.#changed());
    /** @type {ObjectPanel | null} */
    this.panel = null;
    if (this.list.length) {
      this.panel = new ObjectPanel(page, marks, {
        state: this.state,
        name: (id) => this.name(id),
        colour: (id) => `rgb(${this.state.find(id).colour.map((part) => Math.round(255 * part)).join(" ")})`,
        detail: () => "",
        size: (id) => this.#size(id),
        goTo: (id) => this.#goTo(id, (view) => viewer.flyTo(view)),
        prepare: () => viewer.renderer.prepareObjects(viewer.submodels.shown),
        at: (u, v) => this.at(u, v),
      });
      marks.layers.push(this);
    }
    /** What the address names and the scene does not have. */
    this.problems = this.follow(viewer.settings, (view) => viewer.setCameraTo(view));
  }

  // What belongs to no object has no name of its own.
  name(id) {
    if (id === 0) return t("Everything else");
    return this.state.find(id).name || t("Object {n}", { n: id });
  }

  /** The object that is seen at fractions of the canvas from its upper left corner; null where there is none. */
  at(u, v) {
    const { viewer } = this;
    if (!this.list.length || !viewer.submodels.shown || viewer.loop.isLost) return null;
    const id = viewer.renderer.objectAt(viewer.submodels.shown, viewer.camera, viewer.canvas, u, v);
    return id && this.state.find(id) ? id : null;
  }

  // A name or an id that scripts and links give, as an id.
  idOf(given) {
    const id = this.state.idOf(given);
    if (id === null) throw new Error(`There is no object ${given}.`);
    return id;
  }

  /**
   * Takes what an address names, and goes to the selected object where the address names no view.
   * @param {Record<string, any>} settings @param {(view: any) => void} go
   * @returns {string[]} a sentence for each name that the scene does not have
   */
  follow({ object, hidden, pos, look }, go) {
    const { state, page } = this;
    const problems = state.follow({ object, hidden });
    if (state.selected) {
      if (page.isVisible) page.showPanel("objects", true);
      this.panel.show(state.selected);
      if (!pos && !look) this.#goTo(state.selected, go);
    }
    return problems;
  }

  #changed() {
    const { viewer, state } = this;
    const { hidden, lit } = state.masks();
    if (viewer.renderer.setObjects(hidden, lit)) viewer.loop.changed();
    this.panel?.follow();
    this.marks.follow();
    if (state.selected === this.told) return;
    this.told = state.selected;
    announce("object", state.selected === null ? { id: null, name: null } : { id: this.told, name: this.name(this.told) });
  }

  /** @param {number | null} id @param {(view: any) => void} go */
  #goTo(id, go) {
    const view = this.viewOf(id);
    if (view) go(view);
  }

  /** The view of an object from where the camera is; null where nobody knows its box. @param {number | null} id */
  viewOf(id) {
    const box = this.state.find(id)?.box;
    if (!box) return null;
    const { camera, canvas, fov, controls } = this.viewer;
    const away = subtract(position(camera.matrix), box.centre);
    const back = length(away) > 1e-6 ? scale(away, 1 / length(away)) : column(camera.matrix, 2);
    const high = Math.tan((fov * Math.PI) / 360);
    const wide = (high * canvas.clientWidth) / Math.max(1, canvas.clientHeight);
    const { right, below } = this.panel.covered(canvas);
    const half = Math.min(high * (1 - below), wide * (1 - right));
    const radius = Math.max(length(box.half), 1e-3);
    const distance = Math.min(radius + radius / (FILLS * half), this.#clear(box, back));
    const from = add(box.centre, scale(back, distance));
    const { up } = controls.heading;
    // It lies in the middle of what the panel leaves free.
    const aside = scale(normalize(cross(up, back)), right * wide * distance);
    const target = add(box.centre, subtract(aside, scale(up, below * high * distance)));
    return { matrix: lookAt(from, target, up), fov, target };
  }

  // How far from the middle of a box one may stand in a direction before a wall comes between.
  #clear(box, direction) {
    const { renderer, submodels, loop } = this.viewer;
    // Before anything is loaded: no farther than where the page opens.
    if (!submodels.shown || loop.isLost) return length(subtract(position(this.viewer.camera.matrix), box.centre));
    const inside = Math.min(...box.half.map((half, axis) => half / Math.max(Math.abs(direction[axis]), 1e-9)));
    const edge = add(box.centre, scale(direction, inside));
    const up = Math.abs(direction[2]) > 0.9 ? [0, 1, 0] : [0, 0, 1];
    const camera = { matrix: lookAt(edge, add(edge, direction), up), fov: 2, near: PROBE_NEAR, lens: null };
    const free = renderer.probe(submodels.shown, camera, { width: 3, height: 3 }, 0.5, 0.5);
    return free === null ? Infinity : inside + Math.max(FREE * free, PROBE_NEAR);
  }

  // Measures -------------------------------------------------------------------------------------------------------

  #size(id) {
    const box = id === null ? null : this.state.find(id)?.box;
    if (!box) return id ? this.name(id) : "";
    const sides = box.half.map((half) => this.units.say(2 * half)).join(" × ");
    return `${this.name(id)}: ${this.units.isKnown ? sides : t("{n} units of the scene", { n: sides })}`;
  }

  // The edges of the selected object's box, while the panel is open.
  draw(marks) {
    marks.svg.querySelectorAll(".box").forEach((old) => old.remove());
    this.panel.measure();
    const box = this.state.find(this.state.selected)?.box;
    if (!box || !this.panel.isOpen) return;
    const corners = Array.from({ length: 8 }, (_, i) => {
      return marks.place(box.centre.map((value, axis) => value + ((i >> axis) & 1 ? 1 : -1) * box.half[axis]));
    });
    for (let from = 0; from < 8; from++) {
      for (const axis of [0, 1, 2]) {
        const [a, b] = [corners[from], corners[from | (1 << axis)]];
        if ((from >> axis) & 1 || !a || !b) continue;
        const ends = { x1: a.x, y1: a.y, x2: b.x, y2: b.y };
        marks.svg.append(marks.shape("line", { class: "box edge", ...ends }), marks.shape("line", { class: "box", ...ends }));
      }
    }
  }

  // For scripts ----------------------------------------------------------------------------------------------------

  /** @param {{ hidden?: any[], lit?: any[] }} given */
  set({ hidden, lit }) {
    const ids = (/** @type {string} */ name, /** @type {any[] | undefined} */ words) => {
      if (words === undefined) return this.state[name];
      if (!Array.isArray(words)) throw new Error(`${name} must be a list of names or ids.`);
      return words.map((word) => this.idOf(word));
    };
    this.state.set(ids("hidden", hidden), ids("lit", lit));
  }

  get() {
    const { hidden, lit, selected } = this.state;
    return { objects: structuredClone(this.list), hidden: [...hidden], lit: [...lit], selected };
  }

  /** Selects, and flies there. @param {any} given a name, an id, or null */
  select(given) {
    const id = given === null ? null : this.idOf(given);
    this.state.select(id);
    this.#goTo(id, (view) => this.viewer.flyTo(view));
  }

  /** @param {number} u @param {number} v */
  objectAt(u, v) {
    const id = this.at(u, v);
    return id === null ? null : { id, name: this.name(id) };
  }
}
