// @ts-check
// A stick under the left thumb, on touch screens: it moves who walks or flies, the faster the farther it is pushed, while
// another finger looks around.

import { $ } from "./ui.js";

const REACH_PIXELS = 38;
const DEAD_ZONE = 0.12;

export class Stick {
  /** @param {import("./controls.js").Controls} controls */
  constructor(controls) {
    this.controls = controls;
    this.element = $("stick");
    this.knob = /** @type {HTMLElement} */ (this.element.firstElementChild);
    /** The finger that holds it. @type {number | null} */
    this.pointer = null;
    /** Right and forward, at most 1 long. */
    this.push = [0, 0];
    this.element.addEventListener("pointerdown", (event) => this.#hold(event));
    this.element.addEventListener("pointermove", (event) => this.#follow(event));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"])) {
      this.element.addEventListener(name, (event) => event.pointerId === this.pointer && this.#release());
    }
    this.element.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  #hold(/** @type {PointerEvent} */ event) {
    if (this.pointer !== null) return;
    this.pointer = event.pointerId;
    this.element.setPointerCapture(event.pointerId);
    this.#follow(event);
    let last = performance.now();
    const step = (/** @type {number} */ now) => {
      if (this.pointer === null) return;
      // A stick that is hidden meanwhile gets no last event in every browser.
      if (!this.element.offsetWidth) return this.#release();
      const [right, forward] = this.push;
      if (right || forward) this.controls.walk([right, 0, forward], 1, Math.min(0.1, Math.max(0, (now - last) / 1000)));
      last = now;
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  #follow(/** @type {PointerEvent} */ { pointerId, clientX, clientY }) {
    if (pointerId !== this.pointer) return;
    const box = this.element.getBoundingClientRect();
    const [x, y] = [clientX - box.left - box.width / 2, clientY - box.top - box.height / 2].map((each) => each / REACH_PIXELS);
    const length = Math.hypot(x, y);
    const reach = Math.min(1, length);
    const share = length ? Math.max(0, reach - DEAD_ZONE) / (1 - DEAD_ZONE) / length : 0;
    this.push = [x * share, -y * share];
    const shown = length ? (REACH_PIXELS * reach) / length : 0;
    this.knob.style.transform = `translate(${x * shown}px, ${y * shown}px)`;
  }

  #release() {
    this.pointer = null;
    this.push = [0, 0];
    this.knob.style.transform = "";
  }
}
