// @ts-check
// Where a headset's room lies in the scene: metres to training units, y up to z up, and the lens of each eye.

import { add, column, fromColumns, scale, subtract } from "./camera.js";

/** What the centre of an eye's image spans, as a fraction of its edges; around it fewer pixels do. */
export const CENTRE = 0.5;

/** @typedef {number[] | Float32Array} Numbers */
/** @typedef {{ matrix: number[], fov: number, lens: { fx: number, fy: number, cx: number, cy: number } }} EyeCamera */

export class Space {
  /** @param {number} unitsPerMetre training units */
  constructor(unitsPerMetre) {
    this.scale = unitsPerMetre;
    /** Turn of the room about the scene's up axis, in radians. */
    this.yaw = 0;
    /** The point of the scene at the origin of the room. */
    this.origin = [0, 0, 0];
  }

  /** A direction of the room (x right, y up, z back) in training axes. @param {Numbers} v */
  direction([x, y, z]) {
    const [c, s] = [Math.cos(this.yaw), Math.sin(this.yaw)];
    return [c * x + s * z, s * x - c * z, y];
  }

  /** A point of the room, in metres, in training space. @param {Numbers} p */
  point(p) {
    return add(this.origin, scale(this.direction(p), this.scale));
  }

  /** Moves the room so that its point `head` lies at a point of the scene. @param {Numbers} head @param {number[]} point */
  stand(head, point) {
    this.origin = subtract(point, scale(this.direction(head), this.scale));
  }

  /** Turns the room about whoever stands in it. @param {number} angle @param {Numbers} head */
  turn(angle, head) {
    const point = this.point(head);
    this.yaw += angle;
    this.stand(head, point);
  }

  /**
   * Turns and moves the room so that a pose in it stands and looks, level, as a camera of the scene does.
   * @param {Numbers} pose column by column @param {number[]} matrix
   */
  align(pose, matrix) {
    const ahead = scale(column(matrix, 2), -1);
    const own = this.direction([-pose[8], -pose[9], -pose[10]]);
    // Straight up or down is no heading.
    if (Math.hypot(ahead[0], ahead[1]) > 1e-3 && Math.hypot(own[0], own[1]) > 1e-3) {
      this.yaw += Math.atan2(ahead[1], ahead[0]) - Math.atan2(own[1], own[0]);
    }
    this.stand([pose[12], pose[13], pose[14]], [matrix[3], matrix[7], matrix[11]]);
  }

  /** The camera matrix of a pose of the room. @param {Numbers} m column by column */
  matrix(m) {
    const axes = [0, 4, 8].map((i) => this.direction([m[i], m[i + 1], m[i + 2]]));
    return fromColumns(axes[0], axes[1], axes[2], this.point([m[12], m[13], m[14]]));
  }

  /**
   * The camera of an eye.
   * @param {{ transform: { matrix: Numbers }, projectionMatrix: Numbers }} view
   * @returns {EyeCamera}
   */
  camera({ transform, projectionMatrix: p }) {
    const lens = { fx: p[0] / 2, fy: p[5] / 2, cx: (1 - p[8]) / 2, cy: (1 + p[9]) / 2 };
    return { matrix: this.matrix(transform.matrix), fov: (2 * Math.atan(1 / p[5]) * 180) / Math.PI, lens };
  }
}

/**
 * The middle of an eye's image: its lens, and its place as fractions from the upper left corner.
 * @param {EyeCamera} camera
 */
export function centreOf({ matrix, fov, lens }) {
  const from = (/** @type {number} */ middle) => Math.min(1 - CENTRE, Math.max(0, middle - CENTRE / 2));
  const [left, top] = [from(lens.cx), from(lens.cy)];
  const inner = { fx: lens.fx / CENTRE, fy: lens.fy / CENTRE, cx: (lens.cx - left) / CENTRE, cy: (lens.cy - top) / CENTRE };
  return { camera: { matrix, fov, lens: inner }, left, top };
}

const SHARES = [0.2, 0.25, 0.32, 0.4, 0.5, 0.63, 0.8, 1];
const LATE = 1.25;
const LATE_FRAMES = 3;
const CALM_FRAMES = 90;

/** Fraction of an eye's resolution that holds the headset's frame rate; steps keep targets from being made again. */
export class Resolution {
  constructor() {
    this.step = SHARES.length - 4;
    this.late = this.calm = 0;
  }

  get share() {
    return SHARES[this.step];
  }

  /** Counts a frame that came `ms` after the one before it. @param {number} ms @param {number} wantedMs */
  count(ms, wantedMs) {
    const isLate = ms > LATE * wantedMs;
    this.late = isLate ? this.late + 1 : 0;
    this.calm = isLate ? 0 : this.calm + 1;
    if (this.late >= LATE_FRAMES) this.#go(-1);
    else if (this.calm >= CALM_FRAMES) this.#go(1);
  }

  #go(/** @type {number} */ by) {
    this.step = Math.min(SHARES.length - 1, Math.max(0, this.step + by));
    this.late = this.calm = 0;
  }
}
