// @ts-check
// Walking: gravity, eye height, steps, and walls that one slides along. smerf/scene/walk.py does the same in the desktop
// viewer; tests/viewer/walk_vectors.json holds both to one another. Positions are in training axes, z up.

import { swapAxes } from "./camera.js";
import { contract } from "./region.js";

const EYE_METRES = 1.6;
const GRAVITY = 9.81;
const KNOWN = 0.3;
const AROUND = Array.from({ length: 8 }, (_, i) => [Math.cos((i * Math.PI) / 4), Math.sin((i * Math.PI) / 4)]);
const TOUCH = 1e-6;
const DROP = 4;
const SEARCH = 24;

/** Who walks, in training units. @typedef {{ eye: number, radius: number, step: number, head: number, metre: number }} Body */

/** @param {number} eye height of the eyes above the floor @returns {Body} */
export function bodyOfEye(eye) {
  return { eye, radius: 0.12 * eye, step: 0.25 * eye, head: 0.06 * eye, metre: eye / EYE_METRES };
}

// What is solid around a submodel, and what is known.
export class Place {
  /**
   * @param {{ centre: number[], scale: number }} frame of the submodel
   * @param {{ cells: number, data: Uint8Array }} occupied eight cells a byte
   * @param {{ cells: number, data: Uint8Array } | null} known null: all is known
   * @param {{ points: number[][], reach: number }} stands places of the photos' cameras, around which one may stand too
   */
  constructor({ centre, scale }, occupied, known = null, stands = { points: [], reach: 0 }) {
    this.centre = centre;
    this.scale = scale;
    this.occupied = occupied;
    this.known = known;
    this.stands = stands;
    this.grain = 2 / occupied.cells / scale;
  }

  /** Contracted, viewer axes. @param {number[]} p */
  contracted(p) {
    return contract(swapAxes(p.map((value, i) => value - this.centre[i])).map((value) => value * this.scale));
  }

  isSolid(x, y, z) {
    const { cells: n, data } = this.occupied;
    const [i, j, k] = cellOf(this.contracted([x, y, z]), 2 * n);
    const byte = data[((k >> 1) * n + (j >> 1)) * n + (i >> 1)];
    return ((byte >> (4 * (i & 1) + 2 * (j & 1) + (k & 1))) & 1) === 1;
  }

  // Whether photos look into the cell at a point.
  isSeen(x, y, z) {
    if (!this.known) return true;
    const { cells: n, data } = this.known;
    const [i, j, k] = cellOf(this.contracted([x, y, z]), n);
    return data[4 * ((k * n + j) * n + i) + 3] >= 255 * KNOWN;
  }

  isKnown(x, y, z) {
    if (this.isSeen(x, y, z)) return true;
    const { points, reach } = this.stands;
    return points.some((p) => (p[0] - x) ** 2 + (p[1] - y) ** 2 + (p[2] - z) ** 2 <= reach * reach);
  }
}

/** @param {number[]} y contracted @param {number} cells @returns {number[]} */
function cellOf(y, cells) {
  return y.map((value) => Math.min(cells - 1, Math.max(0, Math.floor((value + 2) * 0.25 * cells))));
}

export class Walker {
  /** @param {Place} place @param {Body} body @param {number[]} position of the eyes */
  constructor(place, body, position) {
    this.place = place;
    this.body = body;
    this.x = position[0];
    this.y = position[1];
    this.feet = position[2] - body.eye;
    this.fall = 0;
  }

  get position() {
    return [this.x, this.y, this.feet + this.body.eye];
  }

  // Goes to the nearest place with a floor and room to stand; says whether there is one.
  spawn() {
    const { grain } = this.place;
    for (let ring = 0; ring < SEARCH; ring++) {
      for (const [dx, dy] of ringOf(ring)) {
        const [x, y] = [this.x + dx * grain, this.y + dy * grain];
        const floor = this.#floor(x, y, this.feet);
        if (floor !== null && this.#isFree(x, y, floor)) {
          Object.assign(this, { x, y, feet: floor, fall: 0 });
          return true;
        }
      }
    }
    return false;
  }

  // Walks by (dx, dy) as far as there is room, sliding along what is in the way; then falls for dt seconds.
  move(dx, dy, dt) {
    if ((dx || dy) && !this.#isFree(this.x, this.y, this.feet)) this.spawn();
    const count = Math.ceil(Math.hypot(dx, dy) / (0.5 * this.place.grain));
    for (let i = 0; i < count; i++) if (!this.#advance(dx / count, dy / count)) break;
    this.#settle(dt);
  }

  get isFalling() {
    return this.fall > 0;
  }

  #advance(dx, dy) {
    for (const [sx, sy] of [[dx, dy], [dx, 0], [0, dy]]) {
      if (!sx && !sy) continue;
      const [x, y] = [this.x + sx, this.y + sy];
      const floor = this.#floor(x, y, this.feet);
      const feet = floor === null ? this.feet : Math.max(this.feet, floor);
      if (this.#isFree(x, y, feet)) {
        Object.assign(this, { x, y, feet });
        return true;
      }
    }
    return false;
  }

  #settle(dt) {
    const floor = this.#floor(this.x, this.y, this.feet);
    // Where no floor was photographed, one goes on at the same height.
    if (floor === null || this.feet <= floor) {
      this.feet = floor ?? this.feet;
      this.fall = 0;
      return;
    }
    this.fall += GRAVITY * this.body.metre * dt;
    this.feet = Math.max(floor, this.feet - this.fall * dt);
  }

  // Height of the highest floor that one can stand on: at most a step up, some way down; null without any.
  #floor(x, y, feet) {
    const { grain, centre } = this.place;
    const base = centre[2];
    const high = Math.floor((feet + this.body.step - base) / grain + TOUCH) - 1;
    const low = Math.floor((feet - DROP * this.body.eye - base) / grain);
    for (let j = high; j >= low; j--) if (this.place.isSolid(x, y, base + (j + 0.5) * grain)) return base + (j + 1) * grain;
    return null;
  }

  // Whether a body has room: above what it can step on, up to its head, all around.
  #isFree(x, y, feet) {
    const { place, body } = this;
    if (!place.isKnown(x, y, feet + body.eye)) return false;
    const low = feet + body.step;
    const high = feet + body.eye + body.head;
    const count = Math.max(1, Math.ceil((high - low) / place.grain));
    for (let i = 0; i <= count; i++) {
      const z = low + (high - low) * (i / count);
      if (place.isSolid(x, y, z)) return false;
      if (AROUND.some(([c, s]) => place.isSolid(x + body.radius * c, y + body.radius * s, z))) return false;
    }
    return true;
  }
}

// Offsets of a square ring, row by row.
function ringOf(ring) {
  const out = [];
  for (let dx = -ring; dx <= ring; dx++) {
    for (let dy = -ring; dy <= ring; dy++) if (Math.max(Math.abs(dx), Math.abs(dy)) === ring) out.push([dx, dy]);
  }
  return out;
}
