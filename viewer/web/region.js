// @ts-check
// The known region of a scene: what photos support, where a visitor starts, and what holds him softly where he sees
// something (smerf/scene/region.py).

import { LoadError } from "./assets.js";
import { checkFov, parseMatrix } from "./camera.js";

export const MODES = ["orbit", "walk", "fly"];
const MARGIN = 1.7;
const RAMP = 5;

/**
 * @typedef {object} Region
 * @property {number} cells edge of known_grid
 * @property {number[][]} colours what unknown places fade into ahead, above and below
 * @property {string} mode how visitors move at first
 * @property {number | null} eye height of the photos' cameras above the floor
 * @property {number} reach how far around the photos' cameras a visitor may stand even where no photo looks
 * @property {{ aspect: number, matrix: number[], fov: number }[]} starts
 */

/** Checks the manifest's entry. @param {any} value @returns {Region | null} */
export function readRegion(value) {
  if (!value) return null;
  const fail = () => new LoadError("manifest.json: region is not one that this viewer reads.");
  const { cells, colour, above = colour, below = colour, mode = "orbit", eye = null, reach = 0, starts = [] } = value;
  const colours = [colour, above, below];
  const areColours = colours.every((each) => Array.isArray(each) && each.length === 3 && each.every(Number.isFinite));
  if (!Number.isInteger(cells) || cells < 2 || cells > 256 || !areColours || !Array.isArray(starts)) throw fail();
  if (!MODES.includes(mode) || (eye !== null && !(eye > 0 && Number.isFinite(eye)))) throw fail();
  try {
    const views = starts.map(({ aspect, world_from_cam, fov_degrees: fov }) => {
      checkFov(fov);
      if (!(aspect > 0)) throw fail();
      return { aspect, matrix: parseMatrix(world_from_cam), fov };
    });
    return { cells, colours, mode, eye, reach: Number.isFinite(reach) ? reach : 0, starts: views };
  } catch {
    throw fail();
  }
}

/** Into [-2, 2]^3. @param {number[]} p */
export function contract(p) {
  const size = p.map(Math.abs);
  const largest = Math.max(...size);
  if (largest <= 1) return p;
  const axis = size.indexOf(largest);
  return p.map((value, i) => (i === axis ? (value / largest) * (2 - 1 / largest) : value / largest));
}

/**
 * How well photos support what is seen at a contracted point along a unit direction, both in viewer axes.
 * @param {{ cells: number, data: Uint8Array }} known @param {number[]} y @param {number[]} view
 */
export function support({ cells: n, data }, y, view) {
  const where = y.map((value) => Math.min(n - 1, Math.max(0, (value + 2) * 0.25 * n - 0.5)));
  const low = where.map((value) => Math.min(n - 2, Math.floor(value)));
  const upper = where.map((value, i) => value - low[i]);
  const mean = [0, 0, 0, 0];
  for (let corner = 0; corner < 8; corner++) {
    const d = [corner >> 2, (corner >> 1) & 1, corner & 1];
    const weight = d.reduce((product, bit, i) => product * (bit ? upper[i] : 1 - upper[i]), 1 / 255);
    const at = 4 * (((low[2] + d[2]) * n + low[1] + d[1]) * n + low[0] + d[0]);
    for (let c = 0; c < 4; c++) mean[c] += weight * data[at + c];
  }
  const r = mean.slice(0, 3).map((value) => 2 * value - 1);
  const spread = Math.hypot(...r);
  const facing = r.reduce((sum, value, i) => sum + value * view[i], 0) + spread * (MARGIN - 2 * spread);
  return mean[3] * Math.min(1, Math.max(0, facing * RAMP + 1));
}

/**
 * The first view for a canvas of this shape; it shows nothing that the stored view of the nearest shape does not.
 * @param {Region | null} region @param {number} aspect width over height
 */
export function chooseStart(region, aspect) {
  if (!region?.starts.length) return null;
  const off = (/** @type {{ aspect: number }} */ start) => Math.abs(Math.log(start.aspect / aspect));
  const start = region.starts.reduce((best, each) => (off(each) < off(best) ? each : best));
  const half = Math.tan((start.fov * Math.PI) / 360) * Math.min(1, start.aspect / aspect);
  return { matrix: start.matrix, fov: (Math.atan(half) * 360) / Math.PI };
}
