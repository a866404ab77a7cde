// @ts-check
// The page of a scene of slots: which camera, which slots, and when the promised frame is on the canvas.

import { checkFov, length, lookAt, parseMatrix, position } from "../camera.js";
import { Controls } from "../controls.js";
import { FrameLoop } from "../loop.js";
import { SlotFrames } from "./frames.js";
import { SlotPainter } from "./painter.js";

const MASK_OPACITY = 0.8;
// Maximum rendered pixels at rest. Models of this kind learn from small images: more pixels add no detail.
const MAX_PIXELS = { phone: 65e3, low: 65e3, medium: 262e3, high: Infinity };
// Cameras stay above the ground and near the distance that the model has seen.
const PITCH = [-1.45, -0.1];
const DISTANCE = [0.6, 1.6];

export class SlotViewer {
  /** @param {import("./page.js").SlotPage} page */
  constructor(page) {
    this.page = page;
    this.canvas = page.canvas;
    this.loop = new FrameLoop(this.canvas, {
      tick: (now, dt) => this.#tick(now, dt),
      isDrawing: () => this.frames.pace.fence !== null,
      dpr: () => this.settings.dpr ?? Math.min(devicePixelRatio || 1, 2),
      resized: () => this.#resized(),
      lost: () => this.#lost(),
      restored: () => this.#restored(),
      failed: (error) => page.showMessage(error.message),
    });
    /** Indices of slots. @type {Set<number>} */
    this.hidden = new Set();
    /** Index of a slot. @type {number | null} */
    this.highlight = null;
    this.areMasksShown = false;
    // Whether the camera may be where the model has not learnt anything.
    this.isFree = true;
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  }

  open(scene, sources, settings) {
    const { canvas, loop } = this;
    this.scene = scene;
    this.settings = settings;
    const isTouch = matchMedia("(pointer: coarse)").matches;
    document.documentElement.style.setProperty("--aspect", scene.aspect);
    this.painter = new SlotPainter(canvas, scene, sources);
    this.frames = new SlotFrames(this.painter, {
      pixels: MAX_PIXELS[settings.quality === "auto" ? (isTouch ? "low" : "medium") : settings.quality],
      isFixed: Boolean(settings.size) || settings.quality !== "auto",
      presented: () => this.#presented(),
      counted: (ms) => this.#count(ms),
    });
    this.controls = new Controls(canvas, {
      up: [0, 0, 1],
      depthAt: () => null,
      wake: () => loop.wake(),
      interrupt: () => (this.isFree = false),
      reducedMotion: () => this.reducedMotion.matches,
      fov: () => this.fov,
    });
    canvas.addEventListener("keydown", (event) => {
      const amount = { Equal: -0.1, NumpadAdd: -0.1, Minus: 0.1, NumpadSubtract: 0.1 }[event.code];
      if (amount && !event.ctrlKey && !event.metaKey) this.controls.dolly(amount);
    });
    this.reset();
    this.page.connect(scene.slots, {
      visible: (number, isVisible) => this.#try(() => this.setVisible(number, isVisible)),
      highlight: (number) => this.setHighlight(number),
      masks: () => this.setMasks(!this.areMasksShown),
      reset: () => this.reset(),
    });
    loop.start(settings.size);
    loop.open();
  }

  // Camera --------------------------------------------------------------------------------------------------------

  reset() {
    const { scene, settings } = this;
    this.fov = settings.fov ?? scene.fov;
    const target = settings.look ?? [0, 0, 0];
    const start = parseMatrix(scene.pose);
    const matrix = settings.pos || settings.look ? lookAt(settings.pos ?? position(start), target, [0, 0, 1]) : start;
    this.controls.setMatrix(matrix, target);
    this.startDistance = this.controls.distance;
    this.isFree = true;
    this.loop.jumped();
  }

  setCamera(cameraToWorld, fovDegrees) {
    const matrix = parseMatrix(cameraToWorld);
    checkFov(fovDegrees);
    this.fov = fovDegrees ?? this.fov;
    this.controls.setMatrix(matrix, length(position(matrix)) > 1e-3 ? [0, 0, 0] : null);
    // What a script asks for is rendered as it is; only people's hands are held back.
    this.isFree = true;
    this.loop.jumped();
  }

  getCamera() {
    return { cameraToWorld: this.controls?.matrix.slice() ?? null, fovDegrees: this.fov ?? null };
  }

  // Keeps the goal of the motion where the model has learnt something.
  #hold() {
    if (this.isFree) return;
    const { goal } = this.controls;
    const clamp = (/** @type {number} */ value, /** @type {number[]} */ [low, high]) => Math.min(high, Math.max(low, value));
    goal.pitch = clamp(goal.pitch, PITCH);
    goal.distance = clamp(goal.distance, DISTANCE.map((factor) => factor * this.startDistance));
    const reach = (this.scene.azimuth * Math.PI) / 180;
    if (reach >= Math.PI) return;
    // The camera's azimuth is opposite to its heading.
    const azimuth = Math.atan2(-Math.sin(goal.yaw), -Math.cos(goal.yaw));
    goal.yaw += clamp(azimuth, [-reach, reach]) - azimuth;
  }

  // Slots ---------------------------------------------------------------------------------------------------------

  slots() {
    return (this.scene?.slots ?? []).map(({ number, colour, share, is_background: isBackground }, index) => {
      return { number, colour, share, isBackground, isVisible: !this.hidden.has(index) };
    });
  }

  setVisible(number, isVisible) {
    const index = this.#index(number);
    if (!isVisible && !this.hidden.has(index) && this.hidden.size === this.scene.slots.length - 1) {
      throw new Error("One slot must stay visible.");
    }
    if (isVisible) this.hidden.delete(index);
    else this.hidden.add(index);
    this.#show();
    this.loop.jumped();
  }

  setHighlight(number) {
    this.highlight = number === null ? null : this.#index(number);
    this.#show();
    this.#present();
  }

  setMasks(areShown) {
    this.areMasksShown = Boolean(areShown);
    this.#show();
    this.#present();
  }

  #index(number) {
    const index = this.scene.slots.findIndex((slot) => slot.number === number);
    if (index < 0) throw new Error(`There is no slot ${number}.`);
    return index;
  }

  #try(action) {
    try {
      action();
      return true;
    } catch (error) {
      this.page.notify(error.message);
      return false;
    }
  }

  #show() {
    const lit = this.highlight === null ? null : this.scene.slots[this.highlight].number;
    this.page.show(this.slots(), lit, this.areMasksShown);
  }

  // Frames --------------------------------------------------------------------------------------------------------

  #tick(now, dt) {
    const { loop, frames } = this;
    this.#hold();
    if (this.controls.update(dt)) loop.moved(now);
    if (frames.pace.isBusy) return loop.wake();
    const frame = { camera: { matrix: this.controls.matrix, fov: this.fov }, hidden: this.hidden, version: loop.version };
    const { version } = frame;
    if (!loop.isAtRest(now) || (!loop.isFinished && frames.needsPreview(version))) frames.preview(frame);
    else if (!loop.isFinished) frames.refine(frame, () => this.#finish(version));
    else return;
    loop.wake();
  }

  #finish(version) {
    if (version !== this.loop.version) return;
    this.loop.finishedVersion = version;
    this.loop.resolve();
  }

  #presented() {
    this.canvas.classList.remove("empty");
    this.#present();
  }

  #present() {
    const { shown } = this.frames;
    if (shown && !this.loop.isLost) this.painter.present(shown, this.areMasksShown ? MASK_OPACITY : 0, this.highlight ?? -1);
  }

  #count(ms) {
    this.loop.count(ms);
    this.page.showStatistics(this.stats());
  }

  stats() {
    return {
      ...this.loop.stats,
      renderWidth: this.frames?.shown?.width ?? 0,
      renderHeight: this.frames?.shown?.height ?? 0,
      slots: this.scene?.slots.length ?? 0,
      visible: (this.scene?.slots.length ?? 0) - this.hidden.size,
    };
  }

  // Events of the canvas ------------------------------------------------------------------------------------------

  #resized() {
    this.loop.jumped();
    this.#present();
  }

  #lost() {
    this.frames.lose();
    this.page.showMessage("The graphics device was reset. The scene comes back as soon as the browser allows.");
  }

  #restored() {
    this.page.showMessage(null);
    this.painter.prepare();
  }
}
