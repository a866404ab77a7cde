// @ts-check
// Which submodels are in memory: the one around the camera coarse and then fine, the nearest others ahead of need,
// the least recently used out again when the ceiling is reached.

import { loadTextures, textureBytes } from "./submodel.js";
import { Uploads } from "./uploads.js";

// Maximum bytes of textures per kind of device; the address of the page may say otherwise (memory=MB).
export const CEILINGS = { desktop: 1536e6, mobile: 384e6 };
const AHEAD = 2;
// Beyond this many region edges the coarse level of the right submodel looks better than the wrong one in full.
const NEIGHBOUR = 0.5;

export function memoryCeiling(megabytes) {
  if (megabytes) return 1e6 * megabytes;
  const isMobile = matchMedia("(pointer: coarse)").matches || (navigator["deviceMemory"] ?? 8) <= 4;
  return isMobile ? CEILINGS.mobile : CEILINGS.desktop;
}

export class Residency {
  // wake: asks for a frame; changed: another level can be rendered; failed(error, k): a wanted submodel cannot be had.
  constructor(scene, renderer, progress, ceiling, { wake, changed, failed }) {
    this.scene = scene;
    this.renderer = renderer;
    this.progress = progress;
    this.ceiling = ceiling;
    this.wake = wake;
    this.changed = changed;
    this.failed = failed;
    this.uploads = new Uploads(renderer.textures, wake);
    this.levels = [];
    this.errors = new Map();
    this.loading = null;
    this.shown = null;
    this.wanted = null;
    this.hasImage = false;
    this.clock = 0;
    this.peakBytes = 0;
    this.evictions = 0;
    this.ahead = navigator["connection"]?.saveData ? 0 : AHEAD;
  }

  get bytes() {
    return this.levels.reduce((sum, level) => sum + level.bytes, 0) + (this.loading?.bytes ?? 0);
  }

  // The error that keeps the wanted submodel away.
  get error() {
    return this.errors.get(name(this.wanted, false)) ?? null;
  }

  // Asks again for what could not be had.
  retry() {
    this.errors.clear();
    this.wake();
  }

  // The level to render for a camera at p; null while there is none. Starts what has to be loaded for it.
  choose(p, isAtRest) {
    this.uploads.run(isAtRest || !this.shown);
    const wanted = this.scene.submodelAt(p) ?? this.shown?.k ?? this.scene.entry;
    if (wanted !== this.wanted) this.errors.clear();
    this.wanted = wanted;
    const [full, coarse] = [this.#find(wanted, false), this.#find(wanted, true)];
    const isNear = this.shown && this.levels.includes(this.shown) && this.scene.regionsAway(this.shown.k, p) < NEIGHBOUR;
    const old = isNear && !this.shown.isCoarse ? this.shown : null;
    const level = full ?? old ?? coarse ?? (this.levels.includes(this.shown) ? this.shown : null) ?? this.levels[0] ?? null;
    this.clock++;
    for (const used of [full, coarse, level]) if (used) used.usedAt = this.clock;
    this.shown = level;
    this.#load(p);
    return level;
  }

  get isWantedShown() {
    return this.shown !== null && this.shown.k === this.wanted && !this.shown.isCoarse;
  }

  // Whether the wanted submodel is in memory in full.
  get isWantedHere() {
    return this.#find(this.wanted, false) !== null;
  }

  get isLoading() {
    return this.loading !== null;
  }

  // After a lost context: everything is gone without needing to be freed.
  lose() {
    this.loading?.abort.abort();
    this.uploads.drop();
    this.loading = this.shown = null;
    this.levels = [];
    this.hasImage = false;
    this.errors.clear();
  }

  #find(k, isCoarse) {
    return this.levels.find((level) => level.k === k && level.isCoarse === isCoarse) ?? null;
  }

  // What should be in memory, most urgent first.
  #plan(p) {
    const near = Array.from({ length: this.scene.count }, (_, k) => k).filter((k) => k !== this.wanted);
    const away = new Map(near.map((k) => [k, this.scene.regionsAway(k, p)]));
    near.sort((a, b) => away.get(a) - away.get(b));
    const order = [this.wanted, ...near.slice(0, this.ahead)];
    return order.flatMap((k) => {
      const full = { k, isCoarse: false };
      return this.scene.coarseFolder(k) && !this.#find(k, false) ? [{ k, isCoarse: true }, full] : [full];
    });
  }

  #load(p) {
    const plan = this.#plan(p);
    const next = plan.find(({ k, isCoarse }) => {
      if (this.#find(k, isCoarse) || this.errors.has(name(k, isCoarse))) return false;
      // What is fetched ahead must not drive out what is needed more.
      return k === this.wanted || this.#canHold(this.scene.knownBytes(k, isCoarse), plan);
    });
    if (!next) return;
    const isUrgent = next.k === this.wanted;
    if (this.loading && isUrgent && this.loading.k !== next.k) {
      this.loading.abort.abort();
      this.loading = null;
    }
    // The first image has the line for itself.
    if (this.loading || (this.levels.length && !this.hasImage)) return;
    this.#start(next, plan, isUrgent);
  }

  async #start({ k, isCoarse }, plan, isUrgent) {
    const { scene, renderer, progress } = this;
    const abort = new AbortController();
    const loading = (this.loading = { k, isCoarse, abort, bytes: 0 });
    const { signal } = abort;
    progress.isQuiet = !isUrgent;
    try {
      if (isUrgent) for (const level of [false, true]) if (level || isCoarse) scene.expect(k, !level, progress);
      const [params, network] = await Promise.all([
        scene.levelParams(k, isCoarse, progress, signal), scene.network(k, progress, signal),
      ]);
      signal.throwIfAborted();
      loading.bytes = textureBytes(params, scene.objects.length > 0);
      if (!this.#makeRoom(plan, isUrgent)) return;
      const folder = isCoarse ? scene.coarseFolder(k) : scene.submodelFolder(k);
      const [textures] = await Promise.all([
        loadTextures(this.uploads, scene, folder, params, scene.knownFiles(k), progress, signal),
        renderer.compiled(params, signal),
      ]);
      loading.bytes = 0;
      this.levels.push({ k, isCoarse, params, ...network, ...textures, usedAt: this.clock });
      this.#dropOutgrown(k, isCoarse);
      this.changed(k === this.wanted);
    } catch (error) {
      if (signal.aborted) return;
      abort.abort();
      this.errors.set(name(k, isCoarse), error);
      if (k === this.wanted && !isCoarse) this.failed(error);
    } finally {
      if (this.loading === loading) {
        this.loading = null;
        progress.isQuiet = false;
        this.wake();
      }
    }
  }

  // A full level makes its coarse one superfluous, except where memory is so scarce that it may be needed again.
  #dropOutgrown(k, isCoarse) {
    const coarse = !isCoarse && this.#find(k, true);
    if (coarse && coarse !== this.shown) this.#dispose(coarse);
  }

  #canHold(bytes, plan) {
    const kept = this.levels.filter((level) => this.#isPlanned(level, plan));
    return kept.reduce((sum, level) => sum + level.bytes, bytes) <= this.ceiling;
  }

  #isPlanned(level, plan) {
    return level === this.shown || plan.some(({ k }) => k === level.k);
  }

  // Evicts until what is being loaded fits under the ceiling; false if it does not and is not urgent either.
  #makeRoom(plan, isUrgent) {
    const oldest = (test) => this.levels.filter(test).sort((a, b) => a.usedAt - b.usedAt)[0];
    while (this.bytes > this.ceiling) {
      const victim =
        oldest((level) => !this.#isPlanned(level, plan)) ??
        (isUrgent ? oldest((level) => level !== this.shown && level.k !== this.wanted) : null) ??
        // The neighbour that is shown goes too. Without a coarse level to stand in, the canvas keeps its last picture.
        (isUrgent ? oldest((level) => level.k !== this.wanted) : null);
      if (!victim) break;
      this.#dispose(victim);
      this.evictions++;
    }
    const fits = this.bytes <= this.ceiling;
    if (fits || isUrgent) this.peakBytes = Math.max(this.peakBytes, this.bytes);
    return fits || isUrgent;
  }

  #dispose(level) {
    this.levels.splice(this.levels.indexOf(level), 1);
    level.dispose();
    if (level === this.shown) this.shown = this.#find(this.wanted, true);
  }
}

function name(k, isCoarse) {
  return `${k}${isCoarse ? " coarse" : ""}`;
}
