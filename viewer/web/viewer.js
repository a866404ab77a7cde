// The loop: which camera, which submodel, preview or full detail, and when the promised frame is on the canvas.

import { column, lookAt, parseMatrix, pixelLens, position, scale, add, normalize, swapAxes, subtract, verticalFov } from "./camera.js";
import { Controls } from "./controls.js";
import { Journey } from "./journey.js";
import { loadPath } from "./path.js";
import { Renderer } from "./renderer.js";
import { Residency, memoryCeiling } from "./residency.js";
import { readSettings, viewAddress } from "./url.js";

const REST_SECONDS = 0.15;
const PREVIEW_MS = 28;
const TILE_MS = 40;
const MIN_PREVIEW_PIXELS = 4000;
const FIRST_TILE_PIXELS = 65536;
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
    this.version = 0;
    this.finishedVersion = -1;
    this.lastMove = -Infinity;
    this.lastTick = 0;
    this.pixelMs = PREVIEW_MS / 60000;
    this.frameMs = 0;
    this.frameTimes = [];
    this.progress = null;
    this.firstPicture = null;
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
  }

  async open(scene, sources, settings, progress) {
    const canvas = this.page.canvas;
    Object.assign(this, { scene, sources, settings, progress, canvas });
    this.quality = QUALITY[settings.quality === "auto" ? this.automaticQuality : settings.quality];
    this.dpr = () => settings.dpr ?? Math.min(devicePixelRatio || 1, settings.quality === "auto" ? 1.5 : 2);
    this.renderer = new Renderer(canvas);
    this.#prepare();
    this.submodels = new Residency(scene, this.renderer, progress, memoryCeiling(settings.memory), {
      wake: () => this.wake(),
      changed: (isWanted) => this.#arrive(isWanted),
      failed: (error) => this.#miss(error),
    });
    this.near = settings.near ?? scene.assets.manifest?.near ?? DEFAULT_NEAR;
    this.lens = null;
    this.controls = new Controls(canvas, {
      up: settings.axis ?? [0, 0, 1],
      depthAt: (u, v) => this.renderer.depthAt(this.shown, u, v),
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

  #prepare() {
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
    }, this.fence ? POLL_MS : FRAME_TIMEOUT_MS);
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
    if (this.#isGpuBusy()) return this.wake();
    const isAtRest = now - this.lastMove >= 1000 * REST_SECONDS;
    const submodel = this.submodels.choose(position(this.controls.matrix), isAtRest);
    if (!this.submodels.uploads.isIdle) this.wake();
    if (this.messages.has("scene") && !this.submodels.error) this.tell("scene", null);
    if (!submodel) return;
    // The first picture of all comes quickly rather than sharp.
    if (!this.shown) {
      this.#drawPreview(submodel);
      return this.wake();
    }
    if (!isAtRest) {
      if (this.previewVersion !== this.version) this.#drawPreview(submodel);
      return this.wake();
    }
    if (this.finishedVersion !== this.version) {
      this.#drawTile(submodel);
      this.wake();
    }
  }

  #moved(now) {
    this.lastMove = now;
    this.version++;
    this.onChange?.();
    this.wake();
  }

  #isGpuBusy() {
    if (!this.fence) return false;
    const { gl } = this.renderer;
    const state = gl.clientWaitSync(this.fence.sync, 0, 0);
    if (state === gl.TIMEOUT_EXPIRED) return true;
    gl.deleteSync(this.fence.sync);
    const { pixels, since, done } = this.fence;
    this.fence = null;
    const ms = performance.now() - since;
    const measured = ms / pixels;
    this.pixelMs += (measured - this.pixelMs) * 0.4;
    done?.(ms);
    return false;
  }

  #startFence(pixels, done) {
    const { gl } = this.renderer;
    this.fence = { sync: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0), pixels, since: this.drawnAt, done };
    gl.flush();
  }

  #size(pixels) {
    const { width, height } = this.canvas;
    const shrink = Math.min(1, Math.sqrt(pixels / (width * height)));
    return [Math.max(1, Math.round(width * shrink)), Math.max(1, Math.round(height * shrink))];
  }

  #drawPreview(submodel) {
    const pixels = Math.max(MIN_PREVIEW_PIXELS, Math.min(this.quality.pixels, PREVIEW_MS / this.pixelMs));
    // Coarse steps of size keep the targets from being re-created at every frame.
    const [fullWidth, fullHeight] = this.#size(this.quality.pixels);
    const step = Math.min(12, Math.ceil(12 * Math.sqrt(Math.min(1, pixels / (fullWidth * fullHeight)))));
    const target = this.renderer.target("preview", Math.ceil((fullWidth * step) / 12), Math.ceil((fullHeight * step) / 12));
    this.drawnAt = performance.now();
    this.renderer.draw(target, submodel, this.camera);
    this.#present(target);
    this.previewVersion = this.version;
    this.#startFence(target.width * target.height, (ms) => this.#countFrame(ms));
  }

  // Full detail comes in bands so that a slow device stays responsive; the canvas changes once all are there.
  #drawTile(submodel) {
    const target = this.renderer.target("full", ...this.#size(this.quality.pixels));
    if (this.bandVersion !== this.version || this.bandSubmodel !== submodel) {
      Object.assign(this, { bandVersion: this.version, bandSubmodel: submodel, bandRow: 0, bandMs: 0 });
    }
    if (this.bandRow >= target.height) return;
    const budget = this.bandRow || this.frameMs ? TILE_MS / this.pixelMs : FIRST_TILE_PIXELS;
    const rows = Math.max(4, Math.floor(budget / target.width));
    const high = Math.min(target.height, this.bandRow + rows);
    this.drawnAt = performance.now();
    this.renderer.draw(target, submodel, this.camera, this.bandRow, high);
    const pixels = (high - this.bandRow) * target.width;
    this.bandRow = high;
    const isLast = high === target.height;
    if (isLast) this.#present(target);
    const { version } = this;
    this.#startFence(pixels, (ms) => {
      this.bandMs += ms;
      if (!isLast) return;
      this.#countFrame(this.bandMs);
      this.#finish(version);
    });
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

  #present(target) {
    this.renderer.present(target);
    this.canvas.classList.remove("empty");
    this.shown = target;
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
      renderWidth: this.shown?.width ?? 0,
      renderHeight: this.shown?.height ?? 0,
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
    if (!this.shown || !this.submodels.shown) return "loading";
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
    this.#changed();
    // Setting the size clears the canvas: show the old picture until the new one is there.
    if (this.shown && !this.isLost) this.renderer.present(this.shown);
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
    this.fence = null;
    this.shown = null;
    this.finishedVersion = -1;
    this.tell("device", "The graphics device was reset. The scene comes back as soon as the browser allows.");
  }

  #restore() {
    this.isLost = false;
    this.tell("device", null);
    try {
      this.#prepare();
    } catch (error) {
      this.fail(error);
      return;
    }
    this.#changed();
  }

  // Benchmark -----------------------------------------------------------------------------------------------------

  // Draws cameras at full detail, each `frames` times, and waits for the GPU after every frame. Options, or only the
  // number of frames: cameras, a list of { matrix, fov } (default: those of the test photos); defines for the shaders
  // (viewer/shaders/README.md), where COUNT = 1 gives counts per ray instead of times.
  async benchmark(options = {}) {
    await this.whenFinished();
    const { frames = 10, defines = {}, ...rest } = typeof options === "object" ? options : { frames: options };
    const { renderer, near } = this;
    const tests = (this.scene.assets.manifest?.cameras ?? []).filter((camera) => camera.split === "test");
    let cameras = tests.map(({ world_from_cam: matrix, intrinsics }) => ({ matrix, fov: verticalFov(intrinsics) }));
    if (rest.cameras || !cameras.length) cameras = rest.cameras ?? [{ matrix: this.controls.matrix, fov: this.fov }];
    const target = renderer.target("benchmark", ...this.#size(this.quality.pixels));
    const results = [];
    renderer.extra = defines;
    try {
      if (Object.keys(defines).length) this.#prepare();
      const drawn = renderer.target("benchmark", target.width, target.height);
      for (const { matrix, fov } of cameras) {
        const camera = { matrix: parseMatrix(matrix), fov, near, lens: null };
        if (this.scene.count > 1) await this.#goTo(camera);
        results.push(this.#measure(drawn, camera, defines.COUNT ? 0 : frames));
        if (!defines.COUNT) this.#present(drawn);
        await new Promise((resolve) => setTimeout(resolve));
      }
    } finally {
      renderer.extra = {};
      if (Object.keys(defines).length) this.#prepare();
      this.shown = null;
      this.#changed();
    }
    const all = results.flatMap(({ times }) => times).sort((a, b) => a - b);
    const mean = all.reduce((sum, ms) => sum + ms, 0) / Math.max(1, all.length);
    return {
      width: target.width, height: target.height, frames, meanMs: mean, frameMs: all,
      cameraMs: results.map(({ times }) => times.reduce((sum, ms) => sum + ms, 0) / Math.max(1, times.length)),
      counts: defines.COUNT ? results.map(({ counts }) => counts) : null,
    };
  }

  // Every camera is drawn with the submodel of its place.
  #goTo({ matrix, fov }) {
    this.setCamera(matrix, fov);
    return this.whenFinished();
  }

  #measure(target, camera, frames) {
    const { renderer } = this;
    const times = [];
    for (let i = -1; i < frames; i++) {
      const since = performance.now();
      renderer.draw(target, this.submodels.shown, camera);
      renderer.finish(target);
      if (i >= 0) times.push(performance.now() - since);
    }
    return { times, counts: frames ? null : renderer.counts(target) };
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
