// @ts-check
// The tape measure: two clicks make a distance. Points lie on what the rays of the scene hit, not on any mesh.

import { length, mix, subtract } from "./camera.js";
import { t } from "./language.js";
import { $ } from "./ui.js";
import { Units } from "./units.js";

export class Measure {
  /**
   * @param {import("./viewer.js").Viewer} viewer @param {import("./ui.js").Page} page
   * @param {import("./marks.js").Marks} marks
   */
  constructor(viewer, page, marks) {
    this.page = page;
    this.marks = marks;
    this.units = new Units(viewer.scene.assets.root.pathname);
    /** Ends of the distances, two after two. @type {number[][]} */
    this.points = [];
    this.tool = { take: (point) => this.add(point), end: () => page.showPanel("measure", false) };
    marks.layers.push(this);
    $("measure").addEventListener("shown", () => marks.use(this.tool));
    $("measure").addEventListener("hidden", () => marks.tool === this.tool && marks.use(null));
    page.keys.KeyM = () => page.showPanel("measure", $("measure").hidden);
    page.press("measure-undo", () => this.#set(this.points.slice(0, -1)));
    page.press("measure-clear", () => this.#set([]));
    $("measure-unit").value = this.units.name;
    $("measure-unit").addEventListener("change", () => {
      this.units.choose($("measure-unit").value);
      marks.follow();
    });
    $("measure-scale").addEventListener("submit", (event) => this.#know(event));
  }

  add(point) {
    this.#set([...this.points, point]);
  }

  /** @returns {[number[], number[]][]} */
  get distances() {
    return Array.from({ length: this.points.length >> 1 }, (_, i) => [this.points[2 * i], this.points[2 * i + 1]]);
  }

  // Takes the distances and the scale of a file.
  take(distances, metres) {
    if (metres) this.units.setMetres(metres);
    this.#set(distances.flat());
  }

  #set(points) {
    this.points = points;
    this.marks.follow();
  }

  #know(event) {
    event.preventDefault();
    const [from, to] = this.distances[this.distances.length - 1];
    this.units.know(length(subtract(to, from)), $("measure-known").valueAsNumber);
    this.marks.follow();
  }

  // The lines, and what the panel says of the last one.
  draw(marks) {
    const { svg } = marks;
    svg.querySelectorAll(".tape").forEach((old) => old.remove());
    marks.root.querySelectorAll(".length").forEach((old) => old.remove());
    const isShown = !$("measure").hidden;
    if (isShown) {
      for (const [from, to] of this.distances) this.#drawDistance(marks, from, to);
      if (this.points.length % 2) this.#drawEnd(marks, this.points[this.points.length - 1]);
    }
    this.#tell();
  }

  #drawDistance(marks, from, to) {
    const [a, b] = [marks.place(from), marks.place(to)];
    if (a && b) {
      const ends = { x1: a.x, y1: a.y, x2: b.x, y2: b.y };
      marks.svg.append(marks.shape("line", { class: "tape edge", ...ends }), marks.shape("line", { class: "tape", ...ends }));
    }
    for (const end of [from, to]) this.#drawEnd(marks, end);
    const middle = marks.place(mix(from, to, 0.5));
    if (!middle || !a || !b) return;
    const label = document.createElement("span");
    label.className = "length";
    label.textContent = this.units.say(length(subtract(to, from)));
    label.style.transform = `translate(-50%, -50%) translate(${middle.x}px, ${middle.y}px)`;
    marks.root.append(label);
  }

  #drawEnd(marks, point) {
    const place = marks.place(point);
    if (place) marks.svg.append(marks.shape("circle", { class: "tape", cx: place.x, cy: place.y, r: 5 }));
  }

  #tell() {
    const { distances, points, units } = this;
    const last = distances[distances.length - 1];
    const said = last && units.say(length(subtract(last[1], last[0])));
    let text = t(points.length % 2 ? "Click the second point" : "Click the first point");
    if (points.length && points.length % 2 === 0) text = units.isKnown ? said : t("{n} units of the scene", { n: said });
    if ($("measure-text").textContent !== text) $("measure-text").textContent = text;
    $("measure-undo").disabled = $("measure-clear").disabled = !points.length;
    $("measure-unit").hidden = !units.isKnown && !last;
    $("measure-scale").hidden = !last || units.isKnown;
    $("measure-known-text").textContent = t("How long is it in {unit}?", { unit: units.name });
  }
}
