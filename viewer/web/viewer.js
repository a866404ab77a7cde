// The loop: which camera, which submodel, preview or full detail, and when the promised frame is on the canvas.

import { benchmark } from "./benchmark.js";
import { column, lookAt, parseMatrix, pixelLens, position, scale, add, normalize, swapAxes, subtract } from "./camera.js";
import { Controls } from "./controls.js";
import { Frames } from "./frames.js";
import { Journey } from "./journey.js";
import { loadPath } from "./path.js";
import { Renderer } from "./renderer.js";
import { Residency, memoryCeiling } from "./residency.js";
import { readSettings, viewAddress } from "./url.js";

const REST_SECONDS = 0.15;
// Browsers slow down animation frames where nothing seems to be watching; the loop then goes on by timer.
const FRAME_TIMEOUT_MS = 50;
const POLL_MS = 4;
const DEFAULT_NEAR = 0.2;
const DEFAULT_FOV = 40;
// Smoothing of the visibility that enlarges steps behind nearly opaque content; 1 keeps every step at one voxel.
const OCCLUSION_DELAY = 1;
// Most rendered pixels at rest.
const QUALITY = {
  phone: { pixels: 135e3 },
  low: { pixels: 150e3 },
  medium: { pixels: 768e3 },
  high: { pixels: Infinity },
};

export class Viewer {
  constructor(page) {
    this.page = page;
    this.opened = new Promise((resolve, reject) => Object.assign(this, { resolveOpened: resolve, rejectOpened: reject }));
    this.opened.catch(() => {});
    this.waiting = [];
    this.messages = new Map();
    // The version counts changes of the picture; the view those of what is where on the canvas.
    this.version = 0;
    this.view = 0;
    this.finishedVersion = -1;
    this.lastMove = -Infinity;
    this.lastTick = 0;
    this.frameMs = 0;
    this.frameTimes = [];
    this.progress = null;
    this.firstPicture = null;
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  }

  createContext() {
    this.canvas = this.page.canvas;
    this.renderer = new Renderer(this.canvas);
  }

  async open(scene, sources, settings, progress) {
    const { canvas } = this;
    Object.assign(this, { scene, sources, settings, progress });
    this.quality = QUALITY[settings.quality === "auto" ? this.automaticQuality : settings.quality];
    this.dpr = () => settings.dpr ?? Math.min(devicePixelRatio || 1, settings.quality === "auto" ? 1.5 : 2);
    this.prepare();
    this.frames = new Frames(this.renderer, {
      fullSize: () => this.fullSize(),
      presented: () => this.#presented(),
      counted: (ms) => this.#countFrame(ms),
    });
    this.submodels = new Residency(scene, this.renderer, progress, memoryCeiling(settings.memory), {
      wake: () => this.wake(),
      changed: (isWanted) => this.#arrive(isWanted),
      failed: (error) => this.#miss(error),
    });
    this.near = settings.near ?? scene.assets.manifest?.near ?? DEFAULT_NEAR;
    this.lens = null;
    this.controls = new Controls(canvas, {
      up: settings.axis ?? [0, 0, 1],
      depthAt: (u, v) => this.renderer.depthAt(this.frames.shown, u, v),
      wake: () => this.wake(),
      interrupt: () => this.#interrupt(),
      reducedMotion: () => this.reducedMotion.matches,
      fov: () => this.fov,
    });
    this.controls.rayOf = (u, v) => this.#ray(u, v);
    this.controls.mode = settings.mode;
    this.page.setMode(settings.mode);
    this.journey = new Journey({
      show: (view, isResting) => this.#show(view, isResting),
      wake: () => this.wake(),
      begin: () => this.#interrupt(),
      onPlay: (isPlaying) => this.page.setPlaying(isPlaying),
      reducedMotion: () => this.reducedMotion.matches,
    });
    this.reset();
    if (settings.path) {
      this.journey.setPath(await loadPath(settings.path));
      this.journey.play(settings.autoplay && !this.reducedMotion.matches);
    }
    this.page.connect({
      mode: (mode) => this.setMode(mode),
      reset: () => this.home(),
      share: () => this.#share(),
      play: () => this.journey.play(!this.journey.isPlaying),
    });
    this.#resize();
    if (settings.size) Object.assign(canvas.style, { width: `${settings.size[0]}px`, height: `${settings.size[1]}px` });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("webglcontextlost", (event) => this.#lose(event));
    canvas.addEventListener("webglcontextrestored", () => this.#restore());
    canvas.focus({ preventScroll: true });
    this.wake();
    if (settings.benchmark) this.whenFinished().then(() => this.#showBenchmark(), () => {});
  }

  fail(error) {
    this.failed = error;
    this.page.showMessage(error.message);
    this.rejectOpened(error);
    for (const { reject } of this.waiting.splice(0)) reject(error);
  }

  // Camera --------------------------------------------------------------------------------------------------------

  reset() {
    const { matrix, fov, target } = this.#startView();
    this.#interrupt();
    this.fov = fov;
    this.controls.setMatrix(matrix, target);
    this.view++;
    this.#changed();
  }

  // Flies back to where the page opened.
  home() {
    this.flyTo(this.#startView());
  }

  #startView() {
    const { scene, settings } = this;
    const start = scene.startCamera;
    const fov = settings.fov ?? this.#widened(start?.fov_degrees ?? DEFAULT_FOV);
    const centre = scene.centre(scene.entry);
    const matrix = start ? parseMatrix(start.world_from_cam) : lookAt(centre, add(centre, swapAxes([0, 0, 1])), [0, 0, 1]);
    if (!settings.pos && !settings.look) return { matrix, fov, target: start?.look_at ?? null };
    const from = settings.pos ?? position(matrix);
    const forward = scale(column(matrix, 2), -1);
    return {
      matrix: lookAt(from, settings.look ?? add(from, forward), settings.up ?? [0, 0, 1]),
      fov,
      target: settings.look ?? null,
    };
  }

  // A scene starts wider on an upright canvas, half-way to what it shows across a square one.
  #widened(fovDegrees) {
    const aspect = Math.min(1, this.canvas.clientWidth / Math.max(1, this.canvas.clientHeight));
    return (Math.atan(Math.tan((fovDegrees * Math.PI) / 360) / Math.sqrt(aspect || 1)) * 360) / Math.PI;
  }

  // Takes the view that the page's address now names behind its hash.
  goToAddress() {
    try {
      const { pos, look, up, fov } = readSettings(location);
      Object.assign(this.settings, { pos, look, up, fov });
      this.home();
    } catch (error) {
      this.page.notify(error.message);
    }
  }

  flyTo(view) {
    this.journey.flyTo({ matrix: this.controls.matrix, fov: this.fov }, view);
  }

  #show({ matrix, fov, target = null }, isResting) {
    this.controls.setMatrix(matrix, target);
    this.fov = fov;
    this.#moved(isResting ? -Infinity : performance.now());
  }

  setFov(fovDegrees) {
    this.#interrupt();
    this.fov = fovDegrees;
    this.#moved(performance.now());
  }

  setCamera(cameraToWorld, fovDegrees, lens) {
    const matrix = parseMatrix(cameraToWorld);
    if (fovDegrees !== undefined && !(fovDegrees > 0 && fovDegrees < 180)) throw new Error("fovDegrees must lie between 0 and 180.");
    if (lens && !["cx", "cy", "fx", "fy"].every((key) => lens[key] === undefined || Number.isFinite(lens[key]))) {
      throw new Error("lens must hold finite numbers cx, cy, fx, fy.");
    }
    this.#interrupt();
    this.fov = fovDegrees ?? this.fov;
    this.lens = lens ?? null;
    this.controls.setMatrix(matrix);
    this.lastMove = -Infinity;
    this.view++;
    this.#changed();
  }

  getCamera() {
    return { cameraToWorld: this.controls?.matrix.slice() ?? null, fovDegrees: this.fov ?? null, lens: this.lens ?? null };
  }

  get camera() {
    return { matrix: this.controls.matrix, fov: this.fov, near: this.near, lens: this.lens };
  }

  #ray(u, v) {
    const [ix, iy, cx, cy] = pixelLens(this.canvas.width, this.canvas.height, this.fov, this.lens);
    const [x, y] = [(u * this.canvas.width - cx) * ix, ((1 - v) * this.canvas.height - cy) * iy];
    const m = this.controls.matrix;
    return normalize(subtract(add(scale(column(m, 0), x), scale(column(m, 1), y)), column(m, 2)));
  }

  setMode(mode) {
    this.controls.setMode(mode);
    this.page.setMode(mode);
  }

  #interrupt() {
    this.lens = null;
    this.journey.cancel();
  }

  // Quality -------------------------------------------------------------------------------------------------------

  // What "auto" stands for on this device.
  get automaticQuality() {
    if (!matchMedia("(pointer: coarse)").matches) return "high";
    return Math.min(screen.width, screen.height) < 600 && (navigator.deviceMemory ?? 4) < 4 ? "phone" : "medium";
  }

  setQuality(name) {
    this.settings.quality = name;
    this.quality = QUALITY[name === "auto" ? this.automaticQuality : name];
    this.#resize();
    this.#changed();
  }

  // Submodels -----------------------------------------------------------------------------------------------------

  prepare() {
    const { params } = this.scene;
    const background = this.settings.bg ?? cssColour(params.backgroundColor) ?? [0.5, 0.5, 0.5];
    const exposure = params.default_exposure || this.settings.exposure || 0;
    const occlusionDelay = this.settings.occlusion ?? OCCLUSION_DELAY;
    this.renderer.prepare(this.scene, this.sources, { background, exposure, occlusionDelay });
  }

  // Another level is in memory.
  #arrive(isWanted) {
    if (isWanted) {
      this.tell("scene", null);
      this.#changed();
    }
    if (this.submodels.isWantedShown || !isWanted) this.page.hideProgress();
  }

  // The submodel around the camera cannot be had.
  #miss(error) {
    this.page.hideProgress();
    this.tell("scene", error.message);
    if (!this.submodels.shown) for (const { reject } of this.waiting.splice(0)) reject(error);
    this.#changed();
  }

  // Shows the newest sentence of those that still hold; null takes the one of this kind away.
  tell(kind, text) {
    this.messages.delete(kind);
    if (text !== null) this.messages.set(kind, text);
    this.page.showMessage([...this.messages.values()].pop() ?? null);
  }

  // Frames --------------------------------------------------------------------------------------------------------

  whenFinished() {
    if (this.failed) return Promise.reject(this.failed);
    const isFinished = this.finishedVersion === this.version;
    if (isFinished && this.submodels.isWantedShown) return Promise.resolve();
    const error = this.submodels?.error;
    if (error && (isFinished || !this.submodels.shown)) return Promise.reject(error);
    const promise = new Promise((resolve, reject) => this.waiting.push({ resolve, reject }));
    promise.catch(() => {});
    return promise;
  }

  wake() {
    if (this.isAwake || !this.scene) return;
    this.isAwake = true;
    // Waking from within a frame continues the motion; from outside it begins a new one.
    if (this.isTicking) this.wasIdle = false;
    nextFrame(() => {
      this.isTicking = true;
      this.#tick(performance.now());
      this.isTicking = false;
    }, this.frames.fence ? POLL_MS : FRAME_TIMEOUT_MS);
  }

  #changed() {
    this.version++;
    this.onChange?.();
    this.wake();
  }

  #tick(now) {
    this.isAwake = false;
    if (this.isLost || this.failed) return;
    // A pause of the loop is not a step of the motion.
    const dt = this.wasIdle ? 1 / 60 : Math.min(0.25, Math.max(0.001, (now - this.lastTick) / 1000));
    this.wasIdle = true;
    this.lastTick = now;
    if (this.controls.update(dt)) this.#moved(now);
    this.journey.update(dt);
    if (this.frames.isBusy) return this.wake();
    const isAtRest = now - this.lastMove >= 1000 * REST_SECONDS;
    const level = this.submodels.choose(position(this.controls.matrix), isAtRest);
    if (!this.submodels.uploads.isIdle) this.wake();
    if (this.messages.has("scene") && !this.submodels.error) this.tell("scene", null);
    if (!level) return;
    const { version, view, camera } = this;
    const frame = { level, camera, version, view };
    // The first picture of all comes quickly rather than sharp.
    if (!isAtRest || !this.frames.shown) this.frames.preview(frame);
    else if (this.finishedVersion !== version) this.frames.refine(frame, () => this.#finish(version));
    else return;
    this.wake();
  }

  #moved(now) {
    this.lastMove = now;
    this.version++;
    this.view++;
    this.onChange?.();
    this.wake();
  }

  // Width and height of a picture at full detail.
  fullSize() {
    const { width, height } = this.canvas;
    const shrink = Math.min(1, Math.sqrt(this.quality.pixels / (width * height)));
    return [Math.max(1, Math.round(width * shrink)), Math.max(1, Math.round(height * shrink))];
  }

  #finish(version) {
    if (version !== this.version) return;
    this.finishedVersion = version;
    // Until the wanted submodel is here the picture of a neighbour stands in, which is not what was promised.
    const { isWantedShown, error } = this.submodels;
    if (isWantedShown) {
      this.page.hideProgress();
      for (const { resolve } of this.waiting.splice(0)) nextFrame(resolve, FRAME_TIMEOUT_MS);
    } else if (error) for (const { reject } of this.waiting.splice(0)) reject(error);
  }

  #presented() {
    this.canvas.classList.remove("empty");
    this.submodels.hasPicture = true;
    this.firstPicture ??= { bytes: this.progress.loaded, ms: performance.now() };
  }

  #countFrame(ms) {
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
      renderWidth: this.frames?.shown?.width ?? 0,
      renderHeight: this.frames?.shown?.height ?? 0,
      submodel: this.submodels?.shown?.k ?? null,
      submodels: this.scene?.count ?? 0,
      // "loading" without any picture, then "coarse" and "full": what the wanted submodel is drawn with.
      status: this.#status(),
      isLoading: this.submodels?.isLoading ?? true,
      residentSubmodels: [...new Set(this.submodels?.levels.map(({ k }) => k))],
      textureBytes: this.submodels?.bytes ?? 0,
      peakTextureBytes: this.submodels?.peakBytes ?? 0,
      memoryCeilingBytes: this.submodels?.ceiling ?? 0,
      evictions: this.submodels?.evictions ?? 0,
      firstPictureBytes: this.firstPicture?.bytes ?? null,
      firstPictureMs: this.firstPicture?.ms ?? null,
      loadedBytes: this.progress?.loaded ?? 0,
      totalBytes: this.progress?.total ?? 0,
    };
  }

  #status() {
    if (!this.frames?.shown || !this.submodels.shown) return "loading";
    return this.submodels.isWantedShown ? "full" : "coarse";
  }

  // Page events ---------------------------------------------------------------------------------------------------

  #resize() {
    const { canvas } = this;
    const dpr = this.dpr();
    const width = Math.max(1, Math.round(canvas.clientWidth * dpr));
    const height = Math.max(1, Math.round(canvas.clientHeight * dpr));
    if (width === canvas.width && height === canvas.height) return;
    Object.assign(canvas, { width, height });
    this.view++;
    this.#changed();
    // Setting the size clears the canvas: show the old picture until the new one is there.
    if (this.frames.shown && !this.isLost) this.renderer.present(this.frames.shown);
  }

  async #share() {
    const matrix = this.controls.matrix;
    const view = { pos: position(matrix), look: this.controls.lookPoint, up: column(matrix, 1), fov: this.fov };
    const href = viewAddress(location, view);
    history.replaceState(null, "", href);
    try {
      await navigator.clipboard.writeText(href);
      this.page.notify("Link to this view copied");
    } catch {
      this.page.notify("The address bar now holds a link to this view");
    }
  }

  #lose(event) {
    event.preventDefault();
    this.isLost = true;
    this.submodels.lose();
    this.frames.lose();
    this.finishedVersion = -1;
    this.tell("device", "The graphics device was reset. The scene comes back as soon as the browser allows.");
  }

  #restore() {
    this.isLost = false;
    this.tell("device", null);
    try {
      this.prepare();
    } catch (error) {
      this.fail(error);
      return;
    }
    this.#changed();
  }

  // Benchmark -----------------------------------------------------------------------------------------------------

  benchmark(options) {
    return benchmark(this, options);
  }

  // After something else was on the canvas.
  redraw() {
    this.frames.lose();
    this.#changed();
  }

  async #showBenchmark() {
    const { width, height, meanMs, cameraMs } = await this.benchmark();
    this.page.showMessage(`Benchmark: ${meanMs.toFixed(2)} ms per frame (${cameraMs.length} cameras, ${width} x ${height}).`);
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

function cssColour(text) {
  const match = /^#([0-9a-f]{6})$/i.exec(text ?? "");
  return match && [0, 2, 4].map((i) => Number.parseInt(match[1].slice(i, i + 2), 16) / 255);
}
