// @ts-check
// The page of a scene of slots: which camera, which slots, and when the promised frame is on the canvas.

import { checkFov, length, lookAt, parseMatrix, position } from "../camera.js";
import { Controls } from "../controls.js";
import { t } from "../language.js";
import { FrameLoop } from "../loop.js";
import { ObjectState } from "../objects.js";
import { readSettings } from "../url.js";
import { SlotFrames } from "./frames.js";
import { SlotPainter } from "./painter.js";

const MASK_OPACITY = 0.8;
// Maximum rendered pixels at rest. Models of this kind learn from small images: more pixels add no detail.
const MAX_PIXELS = { phone: 65e3, low: 65e3, medium: 262e3, high: Infinity };
// Cameras stay above the ground and near the distance that the model has seen.
const PITCH = [-1.45, -0.1];
const DISTANCE = [0.6, 1.6];

export class SlotViewer {
  /** @param {import("../ui.js").Page} page */
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
    /** What is hidden and selected, by the numbers of slots. @type {ObjectState<{ id: number, name: string }>} */
    this.state = new ObjectState([], () => {});
    /** Indices of hidden slots. @type {Set<number>} */
    this.hidden = new Set();
    this.areMasksShown = false;
    /** @type {import("./tools.js").SlotTools | null} */
    this.tools = null;
    // Whether the camera may be where the model has not learnt anything.
    this.isFree = true;
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  }

  open(scene, sources, settings) {
    const { canvas, loop } = this;
    this.scene = scene;
    this.settings = settings;
    document.documentElement.style.setProperty("--aspect", scene.aspect);
    this.painter = new SlotPainter(canvas, scene, sources);
    const slots = scene.slots.map(({ number }) => ({ id: number, name: "" }));
    this.state = new ObjectState(slots, () => this.#changed());
    this.frames = new SlotFrames(this.painter, {
      ...this.#pixels(),
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
    this.page.loading.prepare();
    this.reset();
    loop.start(settings.size);
    loop.open();
  }

  // Maximum pixels at rest, and whether a slow device must render them all.
  #pixels() {
    const { quality, size } = this.settings;
    const name = quality === "auto" ? this.automaticQuality : quality;
    return { pixels: MAX_PIXELS[name], isFixed: Boolean(size) || quality !== "auto" };
  }

  get automaticQuality() {
    return matchMedia("(pointer: coarse)").matches ? "low" : "medium";
  }

  /** @param {string} name */
  setQuality(name) {
    this.settings.quality = name;
    Object.assign(this.frames, this.#pixels());
    this.loop.jumped();
  }

  // Camera --------------------------------------------------------------------------------------------------------

  get camera() {
    return { matrix: this.controls.matrix, fov: this.fov, near: 0, lens: null };
  }

  /** @param {number} fovDegrees */
  setFov(fovDegrees) {
    this.fov = fovDegrees;
    this.loop.jumped();
  }

  // Takes the view that the page's address now names behind its hash.
  goToAddress() {
    const { pos, look, fov, object, hidden, problems } = readSettings(location);
    Object.assign(this.settings, { pos, look, fov });
    this.reset();
    this.page.warn([...problems, ...this.state.follow({ object, hidden })]);
  }

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
    return (this.scene?.slots ?? []).map(({ number, colour, share, is_background: isBackground }) => {
      return { number, colour, share, isBackground, isVisible: !this.state.hidden.has(number) };
    });
  }

  setVisible(number, isVisible) {
    this.#index(number);
    this.state.hide(number, !isVisible);
    if (!isVisible && !this.state.hidden.has(number)) throw new Error("One slot must stay visible.");
  }

  setHighlight(number) {
    if (number !== null) this.#index(number);
    this.state.select(number);
  }

  setMasks(areShown) {
    this.areMasksShown = Boolean(areShown);
    this.tools.show();
    this.#present();
  }

  // One slot at least is drawn: where all were hidden it stays as it was.
  #changed() {
    const { state, scene } = this;
    const hidden = new Set([...state.hidden].map((number) => this.#index(number)));
    if (hidden.size === scene.slots.length) {
      state.hidden = new Set([...this.hidden].map((index) => scene.slots[index].number));
      this.page.notify(t("One slot must stay visible"));
    } else if (hidden.size !== this.hidden.size || [...hidden].some((index) => !this.hidden.has(index))) {
      this.hidden = hidden;
      this.loop.jumped();
    }
    this.tools?.show();
    this.#present();
  }

  // Number of the slot that owns a place of the last image (fractions from its upper left); null before the first.
  slotAt(u, v) {
    const { shown } = this.frames;
    return shown && !this.loop.isLost ? (this.scene.slots[this.painter.ownerAt(shown, u, v)]?.number ?? null) : null;
  }

  // There is no depth in such a scene.
  pick() {
    return null;
  }

  depthAt() {
    return null;
  }

  #index(number) {
    const index = this.scene.slots.findIndex((slot) => slot.number === number);
    if (index < 0) throw new Error(`There is no slot ${number}.`);
    return index;
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

  whenFinished() {
    return this.loop.whenFinished();
  }

  #presented() {
    this.canvas.classList.remove("empty");
    this.page.loading.finish();
    this.#present();
  }

  #present() {
    const { shown } = this.frames;
    const { selected } = this.state;
    const lit = selected === null ? -1 : this.#index(selected);
    if (shown && !this.loop.isLost) this.painter.present(shown, this.areMasksShown ? MASK_OPACITY : 0, lit);
  }

  #count(ms) {
    this.loop.count(ms);
    this.page.showStatistics(this.stats());
  }

  stats() {
    return {
      ...this.loop.stats,
      backend: "WebGL2",
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
    this.page.tell("device", t("The graphics device was reset. The scene comes back as soon as the browser allows."));
  }

  #restored() {
    this.page.tell("device", null);
    this.painter.prepare();
  }
}
