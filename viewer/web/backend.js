// @ts-check
// What both ways to draw a scene have in common: settings, hidden and lit objects, what a camera is to the march, and rays of
// their own for single points. renderer.js draws with WebGL2, gpurenderer.js with WebGPU; the rest of the page knows neither.

import { pixelLens, position, viewerRotation } from "./camera.js";

const ID_WORDS = 8;
// Rays beside each other that find the depth of a point.
const PROBE = 3;
const SAMPLERS = ["atlas_density", "atlas_colour", "planes_density", "planes_colour", "blocks", "occupancy"];

/**
 * What each has of its own. Targets are off-screen images; their rows are counted from below.
 * @typedef {object} Drawing
 * @property {string} name which it is, for people
 * @property {import("./textures.js").Textures} textures where those of a scene go
 * @property {(scene: any, sources: Record<string, string>, settings: any) => void} prepare compiles for a scene; again when a
 *   lost device is back
 * @property {(params: any, signal?: AbortSignal) => Promise<void>} compiled compiles the march for a level in the background;
 *   resolves when it can be rendered without a stall
 * @property {(level: any) => void} prepareObjects begins to compile what draws hidden and lit objects, before there are any
 * @property {(role: string, width: number, height: number, isExact?: boolean) => any} target that of a role ("full",
 *   "preview"), made again when the size changes; `isExact`: its depths are
 * @property {(target: any, level: any, camera: any, low?: number, high?: number, picks?: boolean) => void} draw renders rows
 *   [low, high) of the target; with `picks` it then knows whose each pixel is
 * @property {(target: any, low?: number, high?: number) => void} present copies a target to the canvas, which keeps its own
 *   size; only rows [low, high) where not all are rendered yet; averages one that has several rays a pixel
 * @property {() => void} keep lets the canvas be read until the task ends
 * @property {(target: any, x: number, y: number) => number} readDepth d / (1 + d) of the distance that a pixel shows
 * @property {(target: any) => number} readOwner id of the object that the only pixel of a target shows
 * @property {() => () => boolean} mark behind what was drawn: returns a function that says whether the GPU has done that
 * @property {(target: any) => Promise<void>} finish resolves when the GPU has drawn a target; for benchmarks
 * @property {(target: any) => Promise<Float32Array>} counts what the march has written of all pixels with COUNT = 1
 */

export class Backend {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    /** Why it is not the other one, which would come first. @type {string | null} */
    this.reason = null;
    /** @type {Record<string, any>} */
    this.targets = {};
    /** Defines beside those of the scene, for measurements. @type {Record<string, any>} */
    this.extra = {};
    /** Bits of the ids that are hidden and lit. */
    this.objects = { hidden: new Uint32Array(ID_WORDS), lit: new Uint32Array(ID_WORDS) };
    /** Whether what is behind the page is seen where the scene has nothing. */
    this.isSeeThrough = false;
    /** What no photo supports fades into: ahead, above, below. @type {number[][] | null} */
    this.unknownColours = null;
    this.hasObjects = false;
  }

  // Compiles for a scene; call again when a lost device is back. A back end may have no room for fading and objects.
  take(scene, { background, exposure, occlusionDelay }, hasRoom = true) {
    this.scene = scene;
    this.occlusionDelay = occlusionDelay;
    this.background = background;
    this.exposure = exposure;
    this.unknownColours = hasRoom && scene.fades ? scene.region.colours : null;
    this.hasObjects = hasRoom && scene.objects.length > 0;
    this.targets = {};
  }

  // `looks`: whether the march asks whose each sample is. Without anything hidden or lit it has no need to.
  defines(params, looks) {
    const settings = {
      EXPOSURE: this.exposure ? 1 : 0, GROWING_STEPS: this.occlusionDelay < 1 ? 1 : 0, KNOWN_REGION: this.unknownColours ? 1 : 0,
      OBJECTS: looks ? 1 : 0,
    };
    return { ...this.scene.defines(params), ...settings, ...this.extra };
  }

  // Names of the textures that a march reads.
  samplers(looks) {
    return [...SAMPLERS, ...(this.unknownColours ? ["known"] : []), ...(looks ? ["atlas_ids"] : [])];
  }

  // Levels of different resolutions need programs of their own.
  key(params, looks) {
    return [params.triplane_resolution, params.sparse_grid_resolution, params.data_block_size, looks].join();
  }

  /**
   * Which ids of objects are hidden and lit, as 256 numbers each; says whether that is another image.
   * @param {Uint8Array} hidden @param {Uint8Array} lit
   */
  setObjects(hidden, lit) {
    const old = this.objects;
    this.objects = { hidden: bits(hidden), lit: bits(lit) };
    return ["hidden", "lit"].some((name) => this.objects[name].some((word, i) => word !== old[name][i]));
  }

  get areObjectsMarked() {
    return [...this.objects.hidden, ...this.objects.lit].some((word) => word !== 0);
  }

  // Whether a level is drawn with a look at whose each sample is; `picks`: somebody wants to know it.
  looksAt(level, picks = false) {
    return this.hasObjects && "atlas_ids" in level.textures && (picks || this.areObjectsMarked);
  }

  // What a camera is to the march through a level, in the words of viewer/shaders/README.md.
  view({ width, height }, level, camera) {
    const { scene } = this;
    const scale = scene.params.submodel_scale;
    const place = scene.placeIn(level.k, position(camera.matrix));
    return {
      lens: pixelLens(width, height, camera.fov, camera.lens),
      rotation: viewerRotation(camera.matrix),
      position: place.position,
      near: camera.near * scale,
      scale,
      weights: level.appearance.weightsAt(level.index, place.region),
    };
  }

  /** @returns {Drawing} */
  get #own() {
    return /** @type {any} */ (this);
  }

  // Distance at (u, v) of a canvas, by rays of its own beside each other: their median; null where nothing is seen.
  probe(level, camera, canvas, u, v) {
    const target = this.#drawAround(PROBE, level, camera, canvas, u, v, false);
    const places = Array.from({ length: PROBE }, (_, i) => (i + 0.5) / PROBE);
    const depths = places.flatMap((y) => places.map((x) => this.depthAt(target, x, y))).filter((depth) => depth !== null);
    return depths.length ? depths.sort((a, b) => a - b)[depths.length >> 1] : null;
  }

  // Id of the object that is seen at (u, v) of a canvas; 0 where there is none.
  objectAt(level, camera, canvas, u, v) {
    if (!this.hasObjects || !("atlas_ids" in level.textures)) return 0;
    return Math.round(this.#own.readOwner(this.#drawAround(1, level, camera, canvas, u, v, true)));
  }

  // A target of `edge` x `edge` rays beside each other, those of the canvas's pixels around (u, v).
  #drawAround(edge, level, camera, { width, height }, u, v, picks) {
    const target = this.#own.target(`around/${edge}`, edge, edge, true);
    const [ix, iy, cx, cy] = pixelLens(width, height, camera.fov, camera.lens);
    const centre = (middle, at) => (middle - at) / edge + 0.5;
    const lens = { fx: 1 / ix / edge, fy: 1 / iy / edge, cx: centre(cx, u * width), cy: centre(height - cy, v * height) };
    this.#own.draw(target, level, { ...camera, lens }, 0, edge, picks);
    return target;
  }

  // Distance in world units along the ray through a point of the target (fractions from the upper left), or null.
  depthAt(target, u, v) {
    if (!target) return null;
    const x = Math.min(target.width - 1, Math.floor(u * target.width));
    const y = Math.min(target.height - 1, Math.floor((1 - v) * target.height));
    const depth = this.#own.readDepth(target, x, y);
    return depth > 0 && depth < 0.999 ? depth / (1 - depth) : null;
  }
}

/** How many pixels of a target are squares of the canvas's, along each edge; 1 where they are none. */
export function raysOf({ width, height }, canvas) {
  const rays = width / canvas.width;
  return Number.isInteger(rays) && height === rays * canvas.height ? rays : 1;
}

function bits(/** @type {Uint8Array} */ mask) {
  const words = new Uint32Array(ID_WORDS);
  mask.forEach((isSet, id) => (words[id >> 5] |= isSet ? 1 << (id & 31) : 0));
  return words;
}
