// @ts-check
// Holds the camera softly where photos support what it sees, and lets visitors walk.

import { add, length, scale, subtract, swapAxes } from "./camera.js";
import { t } from "./language.js";
import { support } from "./region.js";
import { Place, Walker, bodyOfEye } from "./walk.js";

// Share of a view that photos have to support, and how quickly a visitor is brought back where they do not.
const ENOUGH = 0.85;
const RETURN_SECONDS = 0.15;
// A view is judged by rays at these parts of its half width and height.
const RAYS = [-0.9, -0.45, 0, 0.45, 0.9];
const REACH = 8;
// How close the near plane may come, in units of the scene's own, and where it lies before the nearest thing.
const NEAREST = 0.1;
const BEFORE = 0.6;
const FAR = 1e4;
const METRES_PER_SECOND = 1.4;
// Without an eye height from the photos: that of a person where training space is a room of about five metres.
const DEFAULT_EYE = 0.3;
const STUCK_SECONDS = 0.4;
const HINT_MS = 6000;

/** @typedef {{ right: number[], up: number[], forward: number[] }} Basis */

export class Visitor {
  /**
   * @param {object} host
   * @param {any} host.scene
   * @param {() => any} host.level what is being rendered
   * @param {() => number} host.fov vertical field of view in degrees
   * @param {() => number} host.aspect width over height of the canvas
   * @param {(text: string) => void} host.tell shows a notice
   */
  constructor({ scene, level, fov, aspect, tell }) {
    this.scene = scene;
    this.level = level;
    this.fov = fov;
    this.aspect = aspect;
    this.tell = tell;
    this.isFree = false;
    this.hintedAt = -Infinity;
    this.nearest = Infinity;
    /** @type {{ level: any, place: Place } | null} */
    this.kept = null;
    /** @type {Walker | null} */
    this.walker = null;
    /** @type {{ point: number[], idle: number } | null} */
    this.errand = null;
  }

  /** What is solid and known around the camera; null where the scene does not say. @returns {Place | null} */
  get place() {
    const level = this.level();
    if (!level?.solid || !level.region) return null;
    if (this.kept?.level !== level) {
      const frame = { centre: this.scene.centre(level.k), scale: this.scene.params.submodel_scale };
      this.kept = { level, place: new Place(frame, level.solid, level.region, this.#stands()) };
    }
    return this.kept.place;
  }

  #stands() {
    const cameras = this.scene.assets.manifest?.cameras ?? [];
    const points = cameras.filter(({ split }) => split === "train").map(({ world_from_cam: rows }) => rows.map((row) => row[3]));
    return { points, reach: this.scene.region.reach };
  }

  // Staying where photos are ---------------------------------------------------------------------------------------

  /**
   * The share of a view that photos support, and how near the nearest thing is; null where nothing says so.
   * @param {number[]} origin @param {Basis} basis
   */
  look(origin, basis) {
    const { place } = this;
    if (!place?.known) return null;
    const [a, b, c] = origin;
    // Nobody looks about inside of things.
    const isOpen = place.isKnown(a, b, c) && !place.isSolid(a, b, c);
    const tangent = Math.tan((this.fov() * Math.PI) / 360);
    let sum = 0;
    let nearest = Infinity;
    for (const x of RAYS) {
      for (const y of RAYS) {
        const aside = add(scale(basis.right, x * tangent * this.aspect()), scale(basis.up, y * tangent));
        const ray = add(basis.forward, aside);
        const { share, distance } = lookAlong(place, origin, scale(ray, 1 / length(ray)));
        sum += share;
        // The near plane cuts by depth along the axis.
        nearest = Math.min(nearest, distance / length(ray));
      }
    }
    return { share: isOpen ? sum / RAYS.length ** 2 : 0, nearest };
  }

  /**
   * How far to go back to the last good view, in [0, 1], after dt seconds at this one; 0 for a view that is good.
   * @param {number[]} origin @param {Basis} basis @param {number} dt
   */
  pull(origin, basis, dt) {
    const seen = this.look(origin, basis);
    this.nearest = seen?.nearest ?? Infinity;
    if (this.isFree || !seen || seen.share >= ENOUGH) return 0;
    return 1 - Math.exp(-dt / RETURN_SECONDS);
  }

  // The near plane, closer than the scene's own where that would cut open what is right before the eyes.
  nearPlane(near) {
    return Math.min(near, Math.max(NEAREST * near, BEFORE * this.nearest));
  }

  hint() {
    const now = performance.now();
    if (now - this.hintedAt < HINT_MS) return;
    this.hintedAt = now;
    this.tell(t("Nothing was photographed there. The settings let the camera go anyway."));
  }

  // Walking --------------------------------------------------------------------------------------------------------

  /** Begins to walk at a position of the eyes. @param {number[]} position */
  begin(position) {
    const { place } = this;
    this.errand = null;
    this.walker = place ? new Walker(place, bodyOfEye(this.scene.region?.eye ?? DEFAULT_EYE), position) : null;
  }

  end() {
    this.walker = this.errand = null;
    this.nearest = Infinity;
  }

  /** Training units a second. */
  get speed() {
    return METRES_PER_SECOND * (this.walker?.body.metre ?? DEFAULT_EYE / 1.6);
  }

  /** Goes towards a point. @param {number[]} point */
  goTo(point) {
    this.errand = { point, idle: 0 };
  }

  /**
   * Walks by a step for dt seconds, or on towards where the visitor was sent; the new position of the eyes.
   * @param {number[]} step horizontal @param {number} dt
   */
  walk(step, dt) {
    const { walker } = this;
    const { place } = this;
    // Another submodel, or its full level: the same visitor.
    if (place) walker.place = place;
    const before = walker.position;
    if (length(step) > 0) this.errand = null;
    const wanted = this.errand ? this.#errandStep(dt) : step;
    walker.move(wanted[0], wanted[1], dt);
    if (this.errand) {
      const went = subtract(walker.position, before);
      this.errand.idle = Math.hypot(went[0], went[1]) < 0.2 * Math.hypot(wanted[0], wanted[1]) ? this.errand.idle + dt : 0;
      if (this.errand.idle > STUCK_SECONDS) this.errand = null;
    }
    return walker.position;
  }

  #errandStep(dt) {
    const { point } = this.errand;
    const way = subtract(point, this.walker.position);
    const distance = Math.hypot(way[0], way[1]);
    if (distance < 2 * this.walker.body.radius) {
      this.errand = null;
      return [0, 0, 0];
    }
    const step = Math.min(distance, 2 * this.speed * dt) / distance;
    return [way[0] * step, way[1] * step, 0];
  }

  /** Whether the visitor moves without being asked to. */
  get isBusy() {
    return this.errand !== null || (this.walker?.isFalling ?? false);
  }
}

/** @param {Place} place @param {number[]} origin @param {number[]} ray unit */
function lookAlong(place, origin, ray) {
  const at = (/** @type {number} */ t) => add(origin, scale(ray, t));
  let t = place.grain;
  // What no photo looked into may hold anything.
  let isClear = true;
  for (; t < REACH; t += Math.max(0.5 * place.grain, 0.01 * t)) {
    const [x, y, z] = at(t);
    if (place.isSolid(x, y, z)) break;
    isClear &&= t <= place.stands.reach || place.isSeen(x, y, z);
  }
  const distance = t < REACH ? t : FAR;
  const share = isClear ? support(place.known, place.contracted(at(distance)), swapAxes(ray)) : 0;
  return { share, distance };
}
