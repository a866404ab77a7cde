// @ts-check
// Images of a scene of slots: a small preview while things move or full detail takes long, then full detail in bands.

import { Pace } from "../pace.js";
import { mark } from "../program.js";
import { imageSize } from "../quality.js";

const PREVIEW_MS = 28;
// A slow device shows fewer than these pixels while it moves only where they would take longer than this.
const USEFUL_PREVIEW_PIXELS = 900;
const MAX_PREVIEW_MS = 150;
const MIN_PREVIEW_PIXELS = 400;
const BAND_MS = 40;
const PATIENCE_MS = 200;
const FIRST_BAND_PIXELS = 1024;
const SMOOTHING = 0.4;
// With quality "auto" a slow device renders fewer pixels, down to MIN_PIXELS, where all of them would take longer than FULL_MS.
const FULL_MS = 4000;
const MIN_PIXELS = 16384;

/**
 * What is drawn: the camera, the indices of hidden slots, and the version of both.
 * @typedef {{ camera: { matrix: number[], fov: number }, hidden: Set<number>, version: number }} SlotFrame
 */

export class SlotFrames {
  /**
   * @param {import("./painter.js").SlotPainter} painter
   * @param {{ pixels: number, isFixed: boolean, presented: () => void, counted: (ms: number) => void }} options
   *   maximum pixels at rest, and whether a slow device must render them all
   */
  constructor(painter, { pixels, isFixed, presented, counted }) {
    this.painter = painter;
    this.pixels = pixels;
    this.isFixed = isFixed;
    this.presented = presented;
    this.counted = counted;
    this.pace = new Pace(() => mark(painter.gl), PREVIEW_MS / USEFUL_PREVIEW_PIXELS, SMOOTHING, SMOOTHING);
    this.hasCounted = false;
    this.previewVersion = -1;
    this.lose();
  }

  lose() {
    this.pace.fence = null;
    this.shown = null;
    this.band = { version: -1, row: 0, ms: 0, size: [0, 0] };
  }

  // Whether full detail would keep a visitor waiting who has hidden an object or just arrived.
  needsPreview(version) {
    if (this.previewVersion === version) return false;
    const [width, height] = this.#sizeAtRest();
    return this.pace.pixelMs * width * height > PATIENCE_MS;
  }

  /** @param {SlotFrame} frame */
  preview({ camera, hidden, version }) {
    if (this.previewVersion === version) return;
    const within = (ms) => ms / this.pace.pixelMs;
    const pixels = Math.max(within(PREVIEW_MS), Math.min(USEFUL_PREVIEW_PIXELS, within(MAX_PREVIEW_MS)), MIN_PREVIEW_PIXELS);
    const target = this.painter.target("preview", ...this.#sizeNear(pixels));
    this.previewVersion = version;
    const draw = () => {
      this.painter.draw(target, camera, hidden);
      this.#present(target);
    };
    this.pace.time(target.width * target.height, draw, (ms) => this.#count(ms));
  }

  // Full detail comes in bands so that a slow device stays responsive; the canvas changes once all are there.
  /** @param {SlotFrame} frame @param {() => void} finished */
  refine({ camera, hidden, version }, finished) {
    if (this.band.version !== version) this.band = { version, row: 0, ms: 0, size: this.#sizeAtRest() };
    const { band } = this;
    const target = this.painter.target("full", ...band.size);
    const budget = band.row || this.hasCounted ? BAND_MS / this.pace.pixelMs : FIRST_BAND_PIXELS;
    // Rows count blocks of 2 x 2 pixels. Devices draw two of them at once, even where one is asked for.
    const rows = 2 * Math.max(1, Math.floor(budget / (8 * target.columns)));
    const [low, high] = [band.row, Math.min(target.rows, band.row + rows)];
    const isLast = high === target.rows;
    band.row = high;
    const draw = () => {
      this.painter.draw(target, camera, hidden, low, high);
      if (isLast) this.#present(target);
    };
    this.pace.time((high - low) * 4 * target.columns, draw, (ms) => {
      band.ms += ms;
      if (!isLast) return;
      this.#count(band.ms);
      // The device turned out faster than it seemed when this image's size was chosen.
      if (this.#sizeAtRest()[0] > target.width) this.band.version = -1;
      else finished();
    });
  }

  #count(ms) {
    this.hasCounted = true;
    this.counted(ms);
  }

  #present(target) {
    this.shown = target;
    this.presented();
  }

  // Each size has half the pixels of the next, which keeps targets from being re-created at every frame.
  #sizeNear(pixels) {
    const { canvas } = this.painter;
    const max = Math.min(this.pixels, canvas.width * canvas.height);
    return imageSize(canvas, max * 2 ** Math.min(0, Math.round(Math.log2(pixels / max))));
  }

  #sizeAtRest() {
    if (this.isFixed) return imageSize(this.painter.canvas, this.pixels);
    return this.#sizeNear(Math.max(MIN_PIXELS, FULL_MS / this.pace.pixelMs));
  }
}
