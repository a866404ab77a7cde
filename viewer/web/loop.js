// @ts-check
// The frame loop of a canvas: when a frame is drawn, who waits for the promised one, resizing, lost contexts, figures.

const REST_SECONDS = 0.15;
// Browsers slow down animation frames where nothing seems to be watching; the loop then goes on by timer.
const FRAME_TIMEOUT_MS = 50;
const POLL_MS = 4;

/**
 * What a page does at the loop's events.
 * @typedef {object} LoopHost
 * @property {(now: number, dt: number) => void} tick one frame, dt seconds after the one before
 * @property {() => boolean} isDrawing whether the GPU still works on a frame
 * @property {() => number} dpr pixels of the canvas per CSS pixel
 * @property {() => void} resized the canvas was resized, which clears it
 * @property {() => void} lost the graphics context is gone
 * @property {() => void} restored it is back: upload again; may throw
 * @property {(error: Error) => void} failed nothing more will be drawn
 */

export class FrameLoop {
  /** @param {HTMLCanvasElement} canvas @param {LoopHost} host */
  constructor(canvas, host) {
    this.canvas = canvas;
    this.host = host;
    // Counts changes of the image; the finished version is the one that is on the canvas in full detail.
    this.version = 0;
    this.finishedVersion = -1;
    this.lastMove = -Infinity;
    this.frameMs = 0;
    /** @type {Error | null} */
    this.failure = null;
    this.isLost = false;
    this.onChange = () => {};
    this.isStarted = this.isAwake = this.isTicking = this.wasIdle = false;
    this.lastTick = 0;
    /** @type {number[]} */
    this.frameTimes = [];
    /** @type {{ resolve: () => void, reject: (error: Error) => void }[]} */
    this.waiting = [];
    /** Resolves when the scene is open. @type {Promise<void>} */
    this.opened = new Promise((resolve, reject) => {
      this.open = resolve;
      this.rejectOpened = reject;
    });
    this.opened.catch(() => {});
  }

  /** Starts drawing. @param {number[]} [size] width and height in CSS pixels, where the page does not decide */
  start(size) {
    const { canvas } = this;
    if (size) Object.assign(canvas.style, { width: `${size[0]}px`, height: `${size[1]}px`, aspectRatio: "auto" });
    this.isStarted = true;
    this.resize();
    new ResizeObserver(() => this.resize()).observe(canvas);
    document.addEventListener("visibilitychange", () => this.wake());
    for (const name of ["webglcontextlost", "devicelost"]) canvas.addEventListener(name, (event) => this.#lose(event));
    for (const name of ["webglcontextrestored", "devicerestored"]) canvas.addEventListener(name, () => this.#restore());
    canvas.focus({ preventScroll: true });
    this.wake();
  }

  /** @param {Error} error */
  fail(error) {
    this.failure = error;
    this.host.failed(error);
    this.rejectOpened(error);
    this.reject(error);
  }

  wake() {
    if (this.isAwake || !this.isStarted) return;
    this.isAwake = true;
    // Waking from within a frame continues the motion; from outside it begins a new one.
    if (this.isTicking) this.wasIdle = false;
    nextFrame(() => {
      this.isTicking = true;
      this.#tick(performance.now());
      this.isTicking = false;
    }, this.host.isDrawing() ? POLL_MS : FRAME_TIMEOUT_MS);
  }

  #tick(/** @type {number} */ now) {
    this.isAwake = false;
    if (this.isLost || this.failure || this.#isUnseen) return;
    // A pause of the loop is not a step of the motion.
    const dt = this.wasIdle ? 1 / 60 : Math.min(0.25, Math.max(0.001, (now - this.lastTick) / 1000));
    this.wasIdle = true;
    this.lastTick = now;
    this.host.tick(now, dt);
  }

  // Nobody looks and nobody waits. Before the first finished image a page in the background goes on loading.
  get #isUnseen() {
    const isUnseen = document.hidden && this.finishedVersion >= 0 && !this.waiting.length;
    this.wasIdle ||= isUnseen;
    return isUnseen;
  }

  // Another image is due.
  changed() {
    this.version++;
    this.onChange();
    this.wake();
  }

  // Another image is due, and more will follow at once.
  moved(now = performance.now()) {
    this.lastMove = now;
    this.changed();
  }

  // Another image is due at once in full detail.
  jumped() {
    this.moved(-Infinity);
  }

  /** @param {number} now */
  isAtRest(now) {
    return now - this.lastMove >= 1000 * REST_SECONDS;
  }

  get isFinished() {
    return this.finishedVersion === this.version;
  }

  // Resolves when the promised image is on the canvas; `isThere`: it is already.
  whenFinished(isThere = this.isFinished) {
    if (this.failure) return Promise.reject(this.failure);
    if (isThere) return Promise.resolve();
    /** @type {Promise<void>} */
    const promise = new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
    promise.catch(() => {});
    return promise;
  }

  // Those who wait get what they were promised, once it has reached the screen.
  resolve() {
    for (const { resolve } of this.waiting.splice(0)) nextFrame(resolve, FRAME_TIMEOUT_MS);
  }

  /** @param {Error} error */
  reject(error) {
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }

  /** Notes what a frame took. @param {number} ms */
  count(ms) {
    this.frameMs = ms;
    const now = performance.now();
    this.frameTimes = [...this.frameTimes.filter((time) => now - time < 1000), now];
  }

  get stats() {
    const { width, height } = this.canvas;
    return { fps: this.frameTimes.length, frameMs: this.frameMs, width, height };
  }

  resize() {
    const { canvas, host } = this;
    const dpr = host.dpr();
    const width = Math.max(1, Math.round(canvas.clientWidth * dpr));
    const height = Math.max(1, Math.round(canvas.clientHeight * dpr));
    if (width === canvas.width && height === canvas.height) return;
    Object.assign(canvas, { width, height });
    host.resized();
  }

  #lose(/** @type {Event} */ event) {
    event.preventDefault();
    this.isLost = true;
    this.finishedVersion = -1;
    this.host.lost();
  }

  #restore() {
    this.isLost = false;
    try {
      this.host.restored();
    } catch (error) {
      this.fail(error);
      return;
    }
    this.changed();
  }
}

/** @param {() => void} callback @param {number} timeoutMs */
function nextFrame(callback, timeoutMs) {
  const once = () => {
    cancelAnimationFrame(frame);
    clearTimeout(timer);
    callback();
  };
  const frame = requestAnimationFrame(once);
  const timer = setTimeout(once, timeoutMs);
}
