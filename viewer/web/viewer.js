// @ts-check
// The page of a scene: which camera, which submodel, preview or full detail, and when the promised frame is on the canvas.

import { benchmark } from "./benchmark.js";
import { add, checkFov, checkLens, parseMatrix, pixelLens, position, scale } from "./camera.js";
import { chooseBackend } from "./choice.js";
import { Controls } from "./controls.js";
import { Frames } from "./frames.js";
import { Journey } from "./journey.js";
import { t } from "./language.js";
import { FrameLoop } from "./loop.js";
import { loadPath } from "./path.js";
import { automaticQuality, imageSize, maxPixels, raysInWindow } from "./quality.js";
import { Residency, memoryCeiling } from "./residency.js";
import { metaContent } from "./ui.js";
import { parseColour, readSettings } from "./url.js";
import { rayThrough, startView } from "./viewpoint.js";
import { Visitor } from "./visitor.js";

const DEFAULT_NEAR = 0.2;
// Smoothing of the visibility that enlarges steps behind nearly opaque content; 1 keeps every step at one voxel.
const OCCLUSION_DELAY = 1;

export class Viewer {
  /** @param {import("./ui.js").Page} page */
  constructor(page) {
    this.page = page;
    this.canvas = page.canvas;
    /** @type {import("./scene.js").Scene | null} */
    this.scene = null;
    /** Texts of the shaders. @type {Record<string, string>} */
    this.sources = {};
    this.loop = new FrameLoop(this.canvas, {
      tick: (now, dt) => this.#tick(now, dt),
      isDrawing: () => this.frames.pace.fence !== null,
      dpr: () => this.settings.dpr ?? Math.min(devicePixelRatio || 1, this.settings.quality === "auto" ? 1.5 : 2),
      resized: () => this.#resized(),
      lost: () => this.#lost(),
      restored: () => this.#restored(),
      failed: (error) => page.showMessage(error.message, () => location.reload()),
    });
    // Counts changes of what is where on the canvas.
    this.view = 0;
    /** @type {import("./tools.js").Tools | null} */
    this.tools = null;
    /** What had been loaded when the first image was there. @type {{ bytes: number, ms: number } | null} */
    this.firstImage = null;
    /** @type {import("./embedded.js").Embedding | null} */
    this.embedding = null;
    this.reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
    /** Whether a headset draws the scene, and the canvas waits. */
    this.isAway = false;
  }

  /**
   * Decides what draws the scene, which may come later.
   * @param {Record<string, any>} settings @param {Promise<[import("./scene.js").Scene, Record<string, string>]>} fetched
   */
  async chooseBackend(settings, fetched) {
    this.settings = settings;
    this.renderer = await chooseBackend(this.canvas, settings.backend, async (renderer) => {
      [this.scene, this.sources] = await fetched;
      this.page.loading.prepare();
      this.prepare(renderer);
    });
  }

  async open(progress) {
    const { canvas, loop, scene, settings } = this;
    this.progress = progress;
    this.pixels = maxPixels(settings.quality);
    this.frames = new Frames(this.renderer, {
      fullSize: () => this.fullSize(),
      rays: () => this.#rays(),
      presented: () => this.#presented(),
      counted: (ms) => this.#count(ms),
    });
    this.submodels = new Residency(scene, this.renderer, progress, memoryCeiling(settings.memory), {
      wake: () => loop.wake(),
      changed: (isWanted) => this.#arrive(isWanted),
      failed: (error) => this.#miss(error),
    });
    this.near = settings.near ?? scene.assets.manifest?.near ?? DEFAULT_NEAR;
    this.lens = null;
    this.visitor = new Visitor({
      scene,
      level: () => this.submodels.shown,
      fov: () => this.fov,
      aspect: () => canvas.clientWidth / Math.max(1, canvas.clientHeight),
      tell: (text) => this.page.notify(text),
    });
    this.visitor.isFree = settings.free;
    this.controls = new Controls(canvas, {
      visitor: this.visitor,
      up: settings.axis ?? [0, 0, 1],
      depthAt: (u, v) => this.depthAt(u, v),
      wake: () => loop.wake(),
      interrupt: () => this.#interrupt(),
      reducedMotion: () => this.reducedMotion.matches,
      fov: () => this.fov,
      rayOf: (u, v) => rayThrough(this.camera, canvas, u, v),
    });
    this.controls.mode = settings.mode ?? scene.region?.mode ?? "orbit";
    this.page.setMode(this.controls.mode);
    this.journey = new Journey({
      show: (view, isResting) => this.#show(view, isResting),
      wake: () => loop.wake(),
      begin: () => this.#interrupt(),
      onPlay: (isPlaying) => this.page.setPlaying(isPlaying),
      reducedMotion: () => this.reducedMotion.matches,
    });
    this.setCameraTo(startView(scene, settings, canvas));
    const path = settings.path ?? metaContent("smerf-path");
    if (path) {
      this.journey.setPath(await loadPath(path));
      const isPlayed = settings.autoplay ?? metaContent("smerf-autoplay") === "1";
      this.journey.play(isPlayed && !settings.pos && !this.reducedMotion.matches);
    }
    loop.start(settings.size);
    if (settings.benchmark) this.whenFinished().then(() => this.#showBenchmark(), () => {});
  }

  get opened() {
    return this.loop.opened;
  }

  // Camera --------------------------------------------------------------------------------------------------------

  get camera() {
    const near = this.visitor.nearPlane(this.near);
    return { matrix: this.controls.matrix, fov: this.fov, near, lens: this.lens };
  }

  /** Flies back to where the page opened. */
  home() {
    this.flyTo(startView(this.scene, this.settings, this.canvas));
  }

  // Takes the view that the page's address now names behind its hash.
  goToAddress() {
    const { pos, look, up, fov, object, hidden, problems } = readSettings(location);
    Object.assign(this.settings, { pos, look, up, fov });
    this.home();
    const unknown = this.tools.objects.follow({ object, hidden, pos, look }, (view) => this.flyTo(view));
    this.page.warn([...problems, ...unknown]);
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

  // Jumps to a camera from outside the page.
  setCamera(cameraToWorld, fovDegrees, lens = null) {
    const matrix = parseMatrix(cameraToWorld);
    checkFov(fovDegrees);
    checkLens(lens);
    this.setCameraTo({ matrix, fov: fovDegrees ?? this.fov }, lens);
  }

  /** @param {{ matrix: number[], fov: number, target?: number[] | null }} view */
  setCameraTo({ matrix, fov, target = null }, lens = null) {
    this.#interrupt();
    this.fov = fov;
    this.lens = lens;
    this.controls.setMatrix(matrix, target);
    this.#moved(-Infinity);
  }

  getCamera() {
    return { cameraToWorld: this.controls?.matrix.slice() ?? null, fovDegrees: this.fov ?? null, lens: this.lens ?? null };
  }

  // Distance of what the last image shows at (u, v) of the canvas, or null.
  depthAt(u, v) {
    return this.renderer.depthAt(this.frames.shown, u, v);
  }

  /**
   * The point of the scene at (u, v) of the canvas, fractions from its upper left corner; null where there is nothing.
   * Rays of its own find it, whatever the size of the image on the canvas.
   */
  pick(u, v) {
    const { camera, canvas, submodels } = this;
    if (!submodels.shown || this.loop.isLost) return null;
    const depth = this.renderer.probe(submodels.shown, camera, canvas, u, v);
    return depth === null ? null : add(position(camera.matrix), scale(rayThrough(camera, canvas, u, v), depth));
  }

  setMode(mode) {
    this.controls.setMode(mode);
    this.page.setMode(mode);
  }

  #interrupt() {
    this.lens = null;
    this.journey.cancel();
  }

  #moved(/** @type {number} */ now) {
    this.view++;
    this.loop.moved(now);
  }

  // Submodels -----------------------------------------------------------------------------------------------------

  prepare(renderer = this.renderer) {
    const { params } = this.scene;
    const background = this.settings.bg ?? parseColour(params.backgroundColor) ?? [0.5, 0.5, 0.5];
    const exposure = params.default_exposure || this.settings.exposure || 0;
    const occlusionDelay = this.settings.occlusion ?? OCCLUSION_DELAY;
    renderer.prepare(this.scene, this.sources, { background, exposure, occlusionDelay });
  }

  // Another level is in memory.
  #arrive(isWanted) {
    if (isWanted) {
      this.page.tell("scene", null);
      this.loop.changed();
    }
    if (this.submodels.isWantedHere) this.page.loading.sharpen();
  }

  // The submodel around the camera cannot be had.
  #miss(error) {
    this.page.tell("scene", error.message, () => this.submodels.retry());
    if (!this.submodels.shown) this.loop.reject(error);
    this.loop.changed();
  }

  // Frames --------------------------------------------------------------------------------------------------------

  whenFinished() {
    const { loop, submodels } = this;
    const error = submodels?.error;
    if (!loop.failure && error && (loop.isFinished || !submodels.shown)) return Promise.reject(error);
    return loop.whenFinished(loop.isFinished && submodels.isWantedShown);
  }

  #tick(now, dt) {
    const { loop, submodels, frames } = this;
    if (this.isAway) return;
    if (this.controls.update(dt)) this.#moved(now);
    this.journey.update(dt);
    if (frames.pace.isBusy) return loop.wake();
    const isAtRest = loop.isAtRest(now);
    const level = submodels.choose(position(this.controls.matrix), isAtRest);
    if (!submodels.uploads.isIdle) loop.wake();
    if (!submodels.error) this.page.tell("scene", null);
    if (!level) return;
    const frame = { level, camera: this.camera, version: loop.version, view: this.view };
    // The first image of all comes quickly rather than sharp.
    if (!isAtRest || !frames.shown) frames.preview(frame);
    else if (!loop.isFinished) frames.refine(frame, () => this.#finish(frame.version));
    else return;
    loop.wake();
  }

  // Lets the canvas be read until the task ends.
  keep() {
    this.renderer.keep();
  }

  // Width and height of an image at full detail.
  fullSize() {
    return imageSize(this.canvas, this.pixels);
  }

  // Rays along an edge of a pixel of such an image.
  #rays() {
    const size = this.fullSize();
    const [x, y] = pixelLens(size[0], size[1], this.fov, this.lens);
    return raysInWindow(Math.sqrt(x * y), this.scene.assets.manifest?.pixel_angle, size, this.pixels);
  }

  get automaticQuality() {
    return automaticQuality();
  }

  setQuality(name) {
    this.settings.quality = name;
    this.pixels = maxPixels(name);
    this.loop.resize();
    this.loop.changed();
  }

  #finish(version) {
    const { loop, submodels } = this;
    if (version !== loop.version) return;
    loop.finishedVersion = version;
    // Until the wanted submodel is here the image of a neighbour stands in, which is not what was promised.
    if (submodels.isWantedShown) {
      this.page.loading.finish();
      this.tools?.settle();
      loop.resolve();
    } else if (submodels.error) loop.reject(submodels.error);
  }

  #presented() {
    this.canvas.classList.remove("empty");
    this.page.loading.showImage();
    this.submodels.hasImage = true;
    this.firstImage ??= { bytes: this.progress.loaded, ms: performance.now() };
  }

  #count(ms) {
    this.loop.count(ms);
    this.page.showStatistics(this.stats());
  }

  stats() {
    return {
      ...this.loop.stats,
      backend: this.renderer?.name ?? null,
      backendReason: this.renderer?.reason ?? null,
      renderWidth: this.frames?.shown?.width ?? 0,
      renderHeight: this.frames?.shown?.height ?? 0,
      submodel: this.submodels?.shown?.k ?? null,
      submodels: this.scene?.count ?? 0,
      status: this.#status(),
      isLoading: this.submodels?.isLoading ?? true,
      residentSubmodels: [...new Set(this.submodels?.levels.map(({ k }) => k))],
      textureBytes: this.submodels?.bytes ?? 0,
      peakTextureBytes: this.submodels?.peakBytes ?? 0,
      memoryCeilingBytes: this.submodels?.ceiling ?? 0,
      isSparing: (this.frames?.heat.share ?? 1) < 1,
      evictions: this.submodels?.evictions ?? 0,
      firstPictureBytes: this.firstImage?.bytes ?? null,
      firstPictureMs: this.firstImage?.ms ?? null,
      loadedBytes: this.progress?.loaded ?? 0,
      totalBytes: this.progress?.total ?? 0,
    };
  }

  // "loading" without any image, then "coarse" and "full": what the wanted submodel is rendered with.
  #status() {
    if (!this.frames?.shown || !this.submodels.shown) return "loading";
    return this.submodels.isWantedShown ? "full" : "coarse";
  }

  // Events of the canvas ------------------------------------------------------------------------------------------

  #resized() {
    this.view++;
    this.loop.changed();
    // Show the old image until the new one is there.
    if (this.frames.shown && !this.loop.isLost) this.renderer.present(this.frames.shown);
  }

  #lost() {
    this.submodels.lose();
    this.frames.lose();
    this.page.tell("device", t("The graphics device was reset. The scene comes back as soon as the browser allows."));
  }

  #restored() {
    this.page.tell("device", null);
    this.prepare();
  }

  // Benchmark -----------------------------------------------------------------------------------------------------

  benchmark(options) {
    return benchmark(this, options);
  }

  // After something else was on the canvas.
  redraw() {
    this.frames.lose();
    this.loop.changed();
  }

  async #showBenchmark() {
    const { width, height, meanMs, cameraMs } = await this.benchmark();
    this.page.showMessage(`Benchmark: ${meanMs.toFixed(2)} ms per frame (${cameraMs.length} cameras, ${width} x ${height}).`);
  }
}
