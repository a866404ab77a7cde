// The loop: which camera, which slots, preview while moving or full detail at rest, and when the promised frame is there.

import { length, parseMatrix, position, lookAt } from "../camera.js";
import { Controls } from "../controls.js";
import { SlotPainter } from "./painter.js";

const REST_SECONDS = 0.15;
const PREVIEW_MS = 28;
// A slow device shows fewer than these pixels while it moves only where they would take longer than this.
const USEFUL_PREVIEW_PIXELS = 900;
const SLOWEST_PREVIEW_MS = 150;
const LEAST_PREVIEW_PIXELS = 400;
const BAND_MS = 40;
const PATIENCE_MS = 200;
const FIRST_BAND_PIXELS = 1024;
const MASK_SHARE = 0.8;
const FRAME_TIMEOUT_MS = 50;
const POLL_MS = 4;
// Most rendered pixels at rest. Models of this kind learn from small images: more pixels show nothing new.
// With quality "auto" a slow device draws fewer, down to LEAST_PIXELS, where all of them would take longer than FULL_MS.
const FULL_MS = 4000;
const LEAST_PIXELS = 16384;
const PIXELS = { phone: 65e3, low: 65e3, medium: 262e3, high: Infinity };
// Cameras stay above the ground and near the distance that the model has seen.
const PITCH = [-1.45, -0.1];
const DISTANCE = [0.6, 1.6];

export class SlotViewer {
  constructor(page) {
    this.page = page;
    this.opened = new Promise((resolve, reject) => Object.assign(this, { resolveOpened: resolve, rejectOpened: reject }));
    this.opened.catch(() => {});
    this.waiting = [];
    this.hidden = new Set();
    this.highlight = null;
    this.areMasksShown = false;
    this.version = 0;
    this.finishedVersion = -1;
    this.lastMove = -Infinity;
    this.pixelMs = PREVIEW_MS / USEFUL_PREVIEW_PIXELS;
    this.frameMs = 0;
    this.frameTimes = [];
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  }

  open(scene, sources, settings) {
    const canvas = this.page.canvas;
    Object.assign(this, { scene, settings, canvas });
    const isTouch = matchMedia("(pointer: coarse)").matches;
    this.pixels = PIXELS[settings.quality === "auto" ? (isTouch ? "low" : "medium") : settings.quality];
    document.documentElement.style.setProperty("--aspect", scene.aspect);
    this.painter = new SlotPainter(canvas, scene, sources);
    this.controls = new Controls(canvas, {
      up: [0, 0, 1],
      depthAt: () => null,
      wake: () => this.wake(),
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
    if (settings.size) Object.assign(canvas.style, { width: `${settings.size[0]}px`, height: `${settings.size[1]}px`, aspectRatio: "auto" });
    this.#resize();
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("webglcontextlost", (event) => this.#lose(event));
    canvas.addEventListener("webglcontextrestored", () => this.#restore());
    canvas.focus({ preventScroll: true });
    this.resolveOpened();
    this.wake();
  }

  fail(error) {
    this.failed = error;
    this.page.showMessage(error.message);
    this.rejectOpened(error);
    for (const { reject } of this.waiting.splice(0)) reject(error);
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
    this.#changed(false);
  }

  setCamera(cameraToWorld, fovDegrees) {
    const matrix = parseMatrix(cameraToWorld);
    if (fovDegrees !== undefined && !(fovDegrees > 0 && fovDegrees < 180)) throw new Error("fovDegrees must lie between 0 and 180.");
    this.fov = fovDegrees ?? this.fov;
    this.controls.setMatrix(matrix, length(position(matrix)) > 1e-3 ? [0, 0, 0] : null);
    // What a script asks for is drawn as it is; only people's hands are held back.
    this.isFree = true;
    this.#changed(false);
  }

  getCamera() {
    return { cameraToWorld: this.controls?.matrix.slice() ?? null, fovDegrees: this.fov ?? null };
  }

  // Keeps the goal of the motion where the model can draw.
  #hold() {
    if (this.isFree) return;
    const { goal } = this.controls;
    const clamp = (value, [low, high]) => Math.min(high, Math.max(low, value));
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
    this.#changed(false);
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

  whenFinished() {
    if (this.failed) return Promise.reject(this.failed);
    if (this.finishedVersion === this.version) return Promise.resolve();
    const promise = new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
    promise.catch(() => {});
    return promise;
  }

  wake() {
    if (this.isAwake || !this.scene) return;
    this.isAwake = true;
    if (this.isTicking) this.wasIdle = false;
    nextFrame(() => {
      this.isTicking = true;
      this.#tick(performance.now());
      this.isTicking = false;
    }, this.fence ? POLL_MS : FRAME_TIMEOUT_MS);
  }

  #changed(isMoving, now = performance.now()) {
    this.version++;
    this.lastMove = isMoving ? now : -Infinity;
    this.wake();
  }

  #tick(now) {
    this.isAwake = false;
    if (this.isLost || this.failed) return;
    const dt = this.wasIdle ? 1 / 60 : Math.min(0.25, Math.max(0.001, (now - this.lastTick) / 1000));
    this.wasIdle = true;
    this.lastTick = now;
    this.#hold();
    if (this.controls.update(dt)) this.#changed(true, now);
    if (this.#isGpuBusy()) return this.wake();
    if (now - this.lastMove < 1000 * REST_SECONDS || this.#needsPreview()) {
      if (this.previewVersion !== this.version) this.#drawPreview();
      return this.wake();
    }
    if (this.finishedVersion !== this.version) {
      this.#drawBand();
      this.wake();
    }
  }

  // Whether full detail would keep a visitor waiting who has hidden an object or just arrived.
  #needsPreview() {
    if (this.previewVersion === this.version || this.finishedVersion === this.version) return false;
    const [width, height] = this.#sizeAtRest();
    return this.pixelMs * width * height > PATIENCE_MS;
  }

  #isGpuBusy() {
    if (!this.fence) return false;
    const { gl } = this.painter;
    if (gl.clientWaitSync(this.fence.sync, 0, 0) === gl.TIMEOUT_EXPIRED) return true;
    gl.deleteSync(this.fence.sync);
    const { pixels, since, done } = this.fence;
    this.fence = null;
    const ms = performance.now() - since;
    this.pixelMs += (ms / pixels - this.pixelMs) * 0.4;
    done(ms);
    return false;
  }

  #startFence(pixels, done) {
    const { gl } = this.painter;
    this.fence = { sync: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0), pixels, since: this.drawnAt, done };
    gl.flush();
  }

  #size(pixels) {
    const { width, height } = this.canvas;
    const shrink = Math.min(1, Math.sqrt(pixels / (width * height)));
    return [Math.max(1, Math.round(width * shrink)), Math.max(1, Math.round(height * shrink))];
  }

  // Each size has half the pixels of the next, which keeps targets from being made anew at every frame.
  #sizeNear(pixels) {
    const most = Math.min(this.pixels, this.canvas.width * this.canvas.height);
    return this.#size(most * 2 ** Math.min(0, Math.round(Math.log2(pixels / most))));
  }

  #sizeAtRest() {
    const isFixed = this.settings.size || this.settings.quality !== "auto";
    return isFixed ? this.#size(this.pixels) : this.#sizeNear(Math.max(LEAST_PIXELS, FULL_MS / this.pixelMs));
  }

  #drawPreview() {
    const within = (ms) => ms / this.pixelMs;
    const pixels = Math.max(within(PREVIEW_MS), Math.min(USEFUL_PREVIEW_PIXELS, within(SLOWEST_PREVIEW_MS)), LEAST_PREVIEW_PIXELS);
    const target = this.painter.target("preview", ...this.#sizeNear(pixels));
    this.drawnAt = performance.now();
    this.painter.draw(target, { matrix: this.controls.matrix, fov: this.fov }, this.hidden);
    this.#take(target);
    this.previewVersion = this.version;
    this.#startFence(target.width * target.height, (ms) => this.#count(ms));
  }

  // Full detail comes in bands so that a slow device stays responsive; the canvas changes once all are there.
  #drawBand() {
    if (this.bandVersion !== this.version) Object.assign(this, { bandVersion: this.version, bandRow: 0, bandMs: 0, bandSize: this.#sizeAtRest() });
    const target = this.painter.target("full", ...this.bandSize);
    const budget = this.bandRow || this.frameMs ? BAND_MS / this.pixelMs : FIRST_BAND_PIXELS;
    // Rows count blocks of 2 x 2 pixels. Devices draw two of them at once, even where one is asked for.
    const rows = 2 * Math.max(1, Math.floor(budget / (8 * target.columns)));
    const high = Math.min(target.rows, this.bandRow + rows);
    this.drawnAt = performance.now();
    this.painter.draw(target, { matrix: this.controls.matrix, fov: this.fov }, this.hidden, this.bandRow, high);
    const pixels = (high - this.bandRow) * 4 * target.columns;
    this.bandRow = high;
    const isLast = high === target.rows;
    if (isLast) this.#take(target);
    const { version } = this;
    this.#startFence(pixels, (ms) => {
      this.bandMs += ms;
      if (!isLast) return;
      this.#count(this.bandMs);
      if (version !== this.version) return;
      // The device turned out faster than it seemed when this picture's size was chosen.
      if (this.#sizeAtRest()[0] > target.width) return (this.bandVersion = undefined);
      this.finishedVersion = version;
      for (const { resolve } of this.waiting.splice(0)) nextFrame(resolve, FRAME_TIMEOUT_MS);
    });
  }

  #take(target) {
    this.shown = target;
    this.canvas.classList.remove("empty");
    this.#present();
  }

  #present() {
    if (this.shown && !this.isLost) this.painter.present(this.shown, this.areMasksShown ? MASK_SHARE : 0, this.highlight ?? -1);
  }

  #count(ms) {
    this.frameMs = ms;
    const now = performance.now();
    this.frameTimes = [...this.frameTimes.filter((time) => now - time < 1000), now];
    this.page.showStatistics(this.stats());
  }

  stats() {
    return {
      fps: this.frameTimes.length,
      frameMs: this.frameMs,
      width: this.canvas?.width ?? 0,
      height: this.canvas?.height ?? 0,
      renderWidth: this.shown?.width ?? 0,
      renderHeight: this.shown?.height ?? 0,
      slots: this.scene?.slots.length ?? 0,
      visible: (this.scene?.slots.length ?? 0) - this.hidden.size,
    };
  }

  // Page events ---------------------------------------------------------------------------------------------------

  #resize() {
    const { canvas } = this;
    const dpr = this.settings.dpr ?? Math.min(devicePixelRatio || 1, 2);
    const width = Math.max(1, Math.round(canvas.clientWidth * dpr));
    const height = Math.max(1, Math.round(canvas.clientHeight * dpr));
    if (width === canvas.width && height === canvas.height) return;
    Object.assign(canvas, { width, height });
    this.#changed(false);
    this.#present();
  }

  #lose(event) {
    event.preventDefault();
    this.isLost = true;
    this.fence = null;
    this.shown = null;
    this.page.showMessage("The graphics device was reset. The scene comes back as soon as the browser allows.");
  }

  #restore() {
    this.isLost = false;
    this.page.showMessage(null);
    try {
      this.painter.prepare();
    } catch (error) {
      this.fail(error);
      return;
    }
    this.bandVersion = undefined;
    this.#changed(false);
  }
}

function nextFrame(callback, timeoutMs) {
  const once = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    callback();
  };
  const frame = requestAnimationFrame(once);
  const timer = setTimeout(once, timeoutMs);
}
