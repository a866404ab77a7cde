// @ts-check
// Orbit, walk and fly with mouse, wheel, keyboard, touch and gamepad. All motion is damped by elapsed time, not by frames, and
// jumps without damping where the user prefers reduced motion.

import { add, column, dot, Heading, length, mix, position, scale, subtract } from "./camera.js";

const DAMPING_SECONDS = 0.07;
const RADIANS_PER_PIXEL = 0.005;
const RADIANS_PER_SECOND = 1.2;
const UNITS_PER_SECOND = 0.4;
const FAST = 4;
const SLOW = 0.25;
const MAX_PITCH = Math.PI / 2 - 0.01;
const TAP_PIXELS = 15;
const TAP_MILLISECONDS = 300;
const CLICK_PIXELS = 5;
const MOVES = { KeyW: [0, 0, 1], KeyS: [0, 0, -1], KeyA: [-1, 0, 0], KeyD: [1, 0, 0], KeyQ: [0, -1, 0], KeyE: [0, 1, 0] };
const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

export class Controls {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {object} host
   * @param {number[]} host.up axis that the camera turns about
   * @param {(u: number, v: number) => number | null} host.depthAt distance seen at a point of the canvas
   * @param {() => void} host.wake asks for a frame
   * @param {() => void} host.interrupt the user took over
   * @param {() => boolean} host.reducedMotion
   * @param {() => number} host.fov vertical field of view in degrees
   * @param {((u: number, v: number) => number[]) | null} [host.rayOf] unit direction through a point of the canvas
   * @param {import("./visitor.js").Visitor | null} [host.visitor] holds the camera where photos are, and walks
   */
  constructor(canvas, { up, depthAt, wake, interrupt, reducedMotion, fov, rayOf = null, visitor = null }) {
    this.canvas = canvas;
    this.depthAt = depthAt;
    this.wake = wake;
    this.interrupt = interrupt;
    this.reducedMotion = reducedMotion;
    this.fov = fov;
    this.rayOf = rayOf;
    this.visitor = visitor;
    /** The last view that photos support. @type {any} */
    this.good = null;
    this.step = [0, 0, 0];
    this.isClick = false;
    this.heading = new Heading(up);
    this.mode = "orbit";
    this.distance = 1;
    this.speed = 1;
    this.isTargetKnown = false;
    this.keys = new Set();
    // Pressed since the last frame: a short tap acts even where frames take longer than it.
    this.taps = new Set();
    this.pointers = new Map();
    this.lastTap = { time: 0, x: 0, y: 0 };
    this.#listen();
  }

  // Takes a camera as it is, roll included; it is rendered exactly until the user moves.
  setMatrix(matrix, target = null) {
    this.exact = matrix;
    this.good = null;
    this.visitor?.end();
    if (target) {
      this.distance = Math.max(1e-3, length(subtract(target, position(matrix))));
      this.isTargetKnown = true;
    } else this.isTargetKnown = false;
    const heading = this.heading.ofMatrix(matrix);
    this.goal = { ...heading, anchor: [0, 0, 0], distance: this.distance };
    this.#anchorAt(position(matrix));
    this.now = { ...this.goal };
  }

  setMode(mode) {
    if (mode === this.mode) return;
    const origin = this.#origin(this.now);
    this.mode = mode;
    this.visitor?.end();
    this.good = null;
    this.goal = { ...this.now };
    this.#anchorAt(origin);
    this.now = { ...this.goal };
  }

  // In fly and walk mode the anchor is the eye; in orbit mode it is what the eye looks at.
  get isInside() {
    return this.mode !== "orbit";
  }

  get matrix() {
    return this.exact ?? this.heading.matrix(this.now, this.#origin(this.now));
  }

  get lookPoint() {
    const m = this.matrix;
    return add(position(m), scale(column(m, 2), -this.goal.distance));
  }

  // Advances by dt seconds; says whether the camera changed.
  update(dt) {
    const codes = new Set([...this.keys, ...this.taps]);
    const isHeld = [...codes].some((code) => code in MOVES || code in ARROWS);
    this.taps.clear();
    if (isHeld) this.#applyKeys(codes, dt);
    this.#walkOn(dt);
    const { now, goal } = this;
    const differs = ["yaw", "pitch", "roll", "distance"].some((key) => Math.abs(now[key] - goal[key]) > 1e-5);
    if (!differs && length(subtract(now.anchor, goal.anchor)) < 1e-6) {
      if (this.exact === null && now !== goal) Object.assign(now, goal);
      return isHeld;
    }
    const t = this.reducedMotion() ? 1 : 1 - Math.exp(-dt / DAMPING_SECONDS);
    for (const key of ["yaw", "pitch", "roll", "distance"]) now[key] += (goal[key] - now[key]) * t;
    now.anchor = mix(now.anchor, goal.anchor, t);
    this.exact = null;
    this.#stay(dt);
    return true;
  }

  // Brings the camera back from where photos support nothing.
  #stay(dt) {
    const { now, goal, visitor } = this;
    if (!visitor) return;
    const pull = visitor.pull(this.#origin(now), this.heading.basis(now.yaw, now.pitch), dt);
    if (!pull) this.good = { ...now };
    else if (this.good) {
      for (const key of ["yaw", "pitch", "distance"]) goal[key] += (this.good[key] - goal[key]) * pull;
      if (this.mode !== "walk") goal.anchor = mix(goal.anchor, this.good.anchor, pull);
      visitor.hint();
    }
  }

  // Walks by what the keys and sticks asked for since the last frame.
  #walkOn(dt) {
    const { visitor, step } = this;
    this.step = [0, 0, 0];
    if (this.mode !== "walk" || !visitor?.walker || (!length(step) && !visitor.isBusy)) return;
    this.goal.anchor = visitor.walk(step, Math.min(dt, 0.1));
    if (visitor.isBusy) this.wake();
  }

  #origin(state) {
    if (this.isInside) return state.anchor;
    return subtract(state.anchor, scale(this.heading.basis(state.yaw, state.pitch).forward, state.distance));
  }

  #anchorAt(origin) {
    const { forward } = this.heading.basis(this.goal.yaw, this.goal.pitch);
    this.goal.anchor = this.isInside ? origin : add(origin, scale(forward, this.goal.distance));
  }

  // The user begins to move: level the camera, and orbit around what the centre of the image shows.
  #begin() {
    this.interrupt();
    this.goal.roll = 0;
    if (this.mode === "walk" && this.visitor && !this.visitor.walker) this.visitor.begin(this.#origin(this.now));
    if (this.isTargetKnown) return;
    this.isTargetKnown = true;
    const depth = this.depthAt(0.5, 0.5);
    if (depth === null) return;
    const origin = this.#origin(this.now);
    this.distance = this.goal.distance = this.now.distance = Math.min(20, Math.max(0.05, depth));
    this.#anchorAt(origin);
    this.now.anchor = this.goal.anchor;
  }

  rotate(dx, dy) {
    this.#begin();
    const sign = this.isInside ? -1 : 1;
    this.goal.yaw -= sign * dx;
    this.goal.pitch = Math.max(-MAX_PITCH, Math.min(MAX_PITCH, this.goal.pitch - sign * dy));
    this.wake();
  }

  /** Moves along right, up and forward in world units. @param {number[]} direction */
  move([right, up, forward]) {
    this.#begin();
    const level = this.mode === "walk" && this.visitor?.walker;
    const basis = this.heading.basis(this.goal.yaw, level ? 0 : this.goal.pitch);
    if (level) {
      this.step = add(this.step, add(scale(basis.right, right), scale(basis.forward, forward)));
      this.wake();
      return;
    }
    const step = add(add(scale(basis.right, right), scale(this.heading.up, up)), scale(basis.forward, forward));
    this.goal.anchor = add(this.goal.anchor, step);
    this.wake();
  }

  // Pans so that what lies at the orbit distance follows the pointer.
  pan(dx, dy) {
    this.#begin();
    const basis = this.heading.basis(this.goal.yaw, this.goal.pitch);
    const reach = (2 * Math.tan((this.fov() * Math.PI) / 360) * this.goal.distance) / this.canvas.clientHeight;
    this.goal.anchor = add(this.goal.anchor, add(scale(basis.right, -dx * reach), scale(basis.up, dy * reach)));
    this.wake();
  }

  // amount > 0 goes back; in orbit mode it scales the distance and keeps what lies under (u, v) where it is, in fly mode
  // it moves along the view.
  dolly(amount, u = 0.5, v = 0.5) {
    this.#begin();
    if (this.isInside) {
      this.move([0, 0, -amount * UNITS_PER_SECOND * this.speed]);
      return;
    }
    const before = this.goal.distance;
    this.goal.distance = Math.min(50, Math.max(0.02, before * Math.exp(amount)));
    const { clientWidth, clientHeight } = this.canvas;
    const reach = 2 * Math.tan((this.fov() * Math.PI) / 360) * (before - this.goal.distance);
    const basis = this.heading.basis(this.goal.yaw, this.goal.pitch);
    const aside = add(scale(basis.right, ((u - 0.5) * clientWidth) / clientHeight), scale(basis.up, 0.5 - v));
    this.goal.anchor = add(this.goal.anchor, scale(aside, reach));
    this.wake();
  }

  // Moves for dt seconds with a stick or a key fully deflected: right, up and forward in [-1, 1].
  walk(direction, factor, dt) {
    const units = this.mode === "walk" && this.visitor?.walker ? this.visitor.speed : UNITS_PER_SECOND;
    this.move(scale(direction, units * this.speed * factor * dt));
  }

  // Turns for dt seconds: to the right and down in [-1, 1], as a stick does in either mode.
  look(yaw, pitch, dt) {
    this.#begin();
    this.goal.yaw -= yaw * RADIANS_PER_SECOND * dt;
    this.goal.pitch = Math.max(-MAX_PITCH, Math.min(MAX_PITCH, this.goal.pitch - pitch * RADIANS_PER_SECOND * dt));
    this.wake();
  }

  // Makes the point under (u, v) the centre of attention: orbit around it, or fly half the way to it.
  focus(u, v, rayOf) {
    const depth = this.depthAt(u, v);
    if (depth === null) return;
    this.#begin();
    const origin = this.#origin(this.now);
    const ray = rayOf(u, v);
    const { heading, goal } = this;
    if (this.mode === "walk" && this.visitor?.walker) {
      this.visitor.goTo(add(origin, scale(ray, depth)));
      this.wake();
      return;
    }
    const wanted = Math.atan2(dot(ray, heading.north), dot(ray, heading.east));
    goal.yaw += Math.atan2(Math.sin(wanted - goal.yaw), Math.cos(wanted - goal.yaw));
    goal.pitch = Math.max(-MAX_PITCH, Math.min(MAX_PITCH, Math.asin(Math.max(-1, Math.min(1, dot(ray, heading.up))))));
    if (this.isInside) goal.anchor = add(origin, scale(ray, depth / 2));
    else {
      goal.anchor = add(origin, scale(ray, depth));
      goal.distance = depth;
    }
    this.distance = goal.distance;
    this.wake();
  }

  #applyKeys(codes, dt) {
    dt = Math.min(dt, 0.1);
    const factor = (codes.has("Shift") ? FAST : 1) * (codes.has("Alt") ? SLOW : 1);
    let direction = [0, 0, 0];
    for (const code of codes) {
      if (code in MOVES) direction = add(direction, MOVES[code]);
      else if (code in ARROWS) {
        const [x, y] = ARROWS[code];
        if (this.isInside) direction = add(direction, [x, 0, y]);
        else this.rotate(-x * RADIANS_PER_SECOND * dt, y * RADIANS_PER_SECOND * dt);
      }
    }
    if (length(direction)) this.walk(direction, factor, dt);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"])) {
      canvas.addEventListener(name, (event) => this.#up(event));
    }
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", (event) => this.#focusAt(event));
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        const pixels = event.deltaMode === 1 ? event.deltaY * 16 : event.deltaY;
        this.dolly(Math.max(-1, Math.min(1, pixels * (event.ctrlKey ? 0.01 : 0.0015))), ...this.#at(event));
      },
      { passive: false },
    );
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey) return;
      if (event.key === "Shift" || event.key === "Alt") this.keys.add(event.key);
      // Alone, Alt leads to the browser's menu on some systems.
      if (event.key === "Alt") event.preventDefault();
      if (!(event.code in MOVES) && !(event.code in ARROWS)) return;
      event.preventDefault();
      this.keys.add(event.code);
      this.taps.add(event.code);
      this.wake();
    });
    canvas.addEventListener("keyup", (event) => {
      this.keys.delete(["Shift", "Alt"].includes(event.key) ? event.key : event.code);
    });
    canvas.addEventListener("blur", () => this.keys.clear());
  }

  #down(event) {
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    this.isClick = this.pointers.size === 1 && event.button === 0;
    this.pressed = { x: event.clientX, y: event.clientY };
    if (event.pointerType !== "touch" || this.pointers.size > 1) return;
    const { time, x, y } = this.lastTap;
    const isNear = Math.hypot(event.clientX - x, event.clientY - y) < TAP_PIXELS;
    if (event.timeStamp - time < TAP_MILLISECONDS && isNear) this.#focusAt(event);
    this.lastTap = { time: event.timeStamp, x: event.clientX, y: event.clientY };
  }

  // A click or tap sends one who walks there.
  #up(event) {
    const isClick = this.isClick && this.mode === "walk" && event.type === "pointerup" && this.pointers.has(event.pointerId);
    this.pointers.delete(event.pointerId);
    const { x, y } = this.pressed ?? { x: 0, y: 0 };
    if (isClick && Math.hypot(event.clientX - x, event.clientY - y) < CLICK_PIXELS) this.#focusAt(event);
  }

  #drag(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const after = { x: event.clientX, y: event.clientY };
    const [dx, dy] = [after.x - before.x, after.y - before.y];
    if (!dx && !dy) return;
    if (this.pointers.size === 1) {
      const isPan = (event.buttons & 6) !== 0 || event.shiftKey;
      if (isPan) this.pan(dx, dy);
      else this.rotate(dx * RADIANS_PER_PIXEL, dy * RADIANS_PER_PIXEL);
    } else if (this.pointers.size === 2) {
      // Each of the two fingers contributes half of the common shift.
      const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (p) => Math.hypot(p.x - other.x, p.y - other.y);
      this.pan(dx / 2, dy / 2);
      const middle = { clientX: (after.x + other.x) / 2, clientY: (after.y + other.y) / 2 };
      this.dolly(Math.log(Math.max(1, spread(before)) / Math.max(1, spread(after))), ...this.#at(middle));
    } else if (this.pointers.size === 3) {
      // Three fingers walk over the ground, a third of the way each: up is forward.
      const reach = (4 * UNITS_PER_SECOND * this.speed) / (3 * this.canvas.clientHeight);
      this.move([dx * reach, 0, -dy * reach]);
    }
    this.pointers.set(event.pointerId, after);
  }

  #focusAt(event) {
    this.focus(...this.#at(event), this.rayOf);
  }

  /** Place of an event as fractions of the canvas from its upper left corner. @returns {[number, number]} */
  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
}
