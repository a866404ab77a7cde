// @ts-check
// Marks over the image: where points of the scene lie on the canvas, whether something stands before them, and the tool
// that takes points by click, or by Enter in the middle of the view.

import { dot, column, length, pixelLens, position, subtract } from "./camera.js";
import { t } from "./language.js";
import { $ } from "./ui.js";

const CLICK_PIXELS = 6;
// A mark is hidden where the scene is nearer by more than this part of its distance.
const HIDDEN_FRACTION = 0.04;
export const SVG = "http://www.w3.org/2000/svg";

/** What draws marks. @typedef {{ draw: (marks: Marks) => void }} Layer */
/**
 * What takes clicks: `take` points of the scene, `at` places of the canvas, as fractions from its upper left corner.
 * @typedef {{ take?: (point: number[]) => void, at?: (u: number, v: number) => void, end: () => void }} Tool
 */
/**
 * The part of a viewer that marks need; depths of its last image where it knows them.
 * @typedef {object} MarkedView
 * @property {HTMLCanvasElement} canvas
 * @property {any} controls
 * @property {{ matrix: number[], fov: number, near: number, lens: any }} camera
 * @property {(u: number, v: number) => number[] | null} pick
 * @property {(u: number, v: number) => number | null} depthAt
 */

export class Marks {
  /** @param {MarkedView} viewer @param {import("./ui.js").Page} page */
  constructor(viewer, page) {
    this.viewer = viewer;
    this.page = page;
    /** @type {HTMLElement} */
    this.root = $("marks");
    this.svg = this.root.querySelector("svg");
    /** @type {Layer[]} */
    this.layers = [];
    /** @type {Tool | null} */
    this.tool = null;
    this.down = { x: 0, y: 0 };
    this.#listen();
    addEventListener("resize", () => this.follow());
  }

  follow() {
    const { clientWidth, clientHeight } = this.viewer.canvas;
    this.svg.setAttribute("viewBox", `0 0 ${clientWidth} ${clientHeight}`);
    for (const layer of this.layers) layer.draw(this);
    const isKeyboard = this.viewer.canvas.matches(":focus-visible");
    $("crosshair").hidden = !(this.tool && isKeyboard);
  }

  // The next clicks belong to `tool`; null gives them back to the controls.
  use(tool) {
    if (this.tool && this.tool !== tool) this.tool.end();
    this.tool = tool;
    this.viewer.canvas.classList.toggle("taking", tool !== null);
    this.follow();
  }

  /** Place of a point on the canvas in CSS pixels; null behind the camera. @param {number[]} point */
  place(point) {
    const { canvas, camera } = this.viewer;
    const { clientWidth: width, clientHeight: height } = canvas;
    const away = subtract(point, position(camera.matrix));
    const [x, y, z] = [0, 1, 2].map((i) => dot(away, column(camera.matrix, i)));
    if (z > -camera.near * 0.1) return null;
    const [ix, iy, cx, cy] = pixelLens(width, height, camera.fov, camera.lens);
    return { x: cx + x / -z / ix, y: height - (cy + y / -z / iy), distance: length(away) };
  }

  // Whether the scene stands before a point; as of the last image.
  isHidden(place) {
    const { clientWidth, clientHeight } = this.viewer.canvas;
    const [u, v] = [place.x / clientWidth, place.y / clientHeight];
    if (u < 0 || u > 1 || v < 0 || v > 1) return false;
    const depth = this.viewer.depthAt(u, v);
    return depth !== null && depth < place.distance * (1 - HIDDEN_FRACTION);
  }

  /** An element of the drawing. @param {string} name @param {Record<string, any>} attributes */
  shape(name, attributes) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
    return made;
  }

  #listen() {
    const { canvas } = this.viewer;
    canvas.addEventListener("pointerdown", ({ clientX: x, clientY: y }) => {
      this.down = { x, y };
      // The controls have heard of it before: it is no order to go there.
      if (this.tool) Object.assign(this.viewer.controls, { isClick: false, lastTap: { time: 0, x: 0, y: 0 } });
    });
    // Before anyone else hears of the click.
    const take = (event) => {
      if (!this.tool || event.target !== canvas) return;
      event.stopImmediatePropagation();
      const isClick = Math.hypot(event.clientX - this.down.x, event.clientY - this.down.y) < CLICK_PIXELS;
      if (event.type === "click" && isClick) this.#take(event.clientX, event.clientY);
    };
    addEventListener("click", take, { capture: true });
    addEventListener("dblclick", take, { capture: true });
    canvas.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !this.tool) return;
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      this.#take(box.left + box.width / 2, box.top + box.height / 2);
    });
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.follow());
  }

  #take(x, y) {
    const box = this.viewer.canvas.getBoundingClientRect();
    const [u, v] = [(x - box.left) / box.width, (y - box.top) / box.height];
    if (this.tool.at) return this.tool.at(u, v);
    const point = this.viewer.pick(u, v);
    if (point) this.tool.take(point);
    else this.page.notify(t("There is nothing at this point"));
  }
}
