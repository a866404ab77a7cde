// @ts-check
// Images of a camera, soon and then sharply: small previews while things move; at rest larger and larger ones up to
// full detail, which may take several rays a pixel (quality.js); all drawn in bands, so that neither the page nor the next
// motion ever waits long for a slow device.

import { Heat } from "./heat.js";
import { Pace } from "./pace.js";

const PREVIEW_MS = 28;
const BAND_MS = 40;
// Below these sizes a draw takes hardly less time.
const MIN_PREVIEW_PIXELS = 3000;
const MIN_BAND_PIXELS = 4000;
// The very first image also waits for the driver; its size suits a slow device.
const FIRST_PIXELS = 2500;
// Sizes of previews are powers of this, which keeps targets from being re-created at every frame.
const PREVIEW_RATIO = 1.2;
// Where full detail takes longer, smaller images come before it and its bands appear one by one.
const SLOW_MS = 300;
const SLOW_DIVISORS = [9, 3, 1];
const SLOWER = 0.4;
const FASTER = 0.7;

export class Frames {
  // fullSize(): width and height at full detail; rays(): those along an edge of its pixels; presented(): an image is on the
  // canvas; counted(ms): what it took.
  constructor(renderer, { fullSize, rays, presented, counted }) {
    this.renderer = renderer;
    this.fullSize = fullSize;
    this.rays = rays;
    this.presented = presented;
    this.counted = counted;
    this.pace = new Pace(() => renderer.mark(), PREVIEW_MS / FIRST_PIXELS, SLOWER, FASTER);
    this.heat = new Heat();
    this.lose();
  }

  // After a lost context, or when the canvas shows something else.
  lose() {
    this.pace.fence = null;
    this.shown = null;
    this.shownVersion = this.shownView = this.previewVersion = -1;
    this.bands = null;
  }

  // A whole image, as large as fits into a frame. `frame` holds the level to draw, the camera, the version of all
  // that the image depends on and that of what decides where things are on the canvas (`view`).
  preview(frame) {
    if (this.shown && this.previewVersion === frame.version) return;
    const [width, height] = this.fullSize();
    const pixels = Math.max(MIN_PREVIEW_PIXELS, (PREVIEW_MS * this.heat.share) / this.pace.pixelMs);
    const power = Math.max(0, Math.round(Math.log((width * height) / pixels) / (2 * Math.log(PREVIEW_RATIO))));
    const target = this.#target("preview", PREVIEW_RATIO ** power);
    const draw = () => {
      this.renderer.draw(target, frame.level, frame.camera);
      this.#present(target, frame);
    };
    this.pace.time(target.width * target.height, draw, this.counted);
    this.heat.note();
    this.previewVersion = frame.version;
  }

  // The next band of the next sharper image; finished() is called once full detail is on the canvas.
  refine(frame, finished) {
    const { bands } = this;
    if (bands?.version !== frame.version || bands.level !== frame.level || bands.isDone) this.bands = this.#begin(frame);
    if (this.bands) this.#drawBand(this.bands, frame, finished);
  }

  #begin(frame) {
    const [width, height] = this.fullSize();
    const finest = this.rays();
    const isSlow = width * height * finest ** 2 * this.pace.pixelMs > SLOW_MS;
    const coarser = isSlow ? SLOW_DIVISORS.filter((each) => each > 1 || finest > 1) : [];
    const divisor = coarser.find((each) => this.#isSharper(each, frame));
    const isFinest = divisor === undefined;
    const target = isFinest ? this.#target(finest > 1 ? "fine" : "full", 1, finest) : this.#target(`full/${divisor}`, divisor);
    // Bands of another view must not appear beside what is shown.
    const isVisible = isSlow && isFinest && this.shownView === frame.view && this.shown !== target;
    const kind = { isFinest, isVisible, rays: isFinest ? finest : 1 };
    return { version: frame.version, level: frame.level, target, ...kind, low: 0, high: 0, ms: 0, isDone: false };
  }

  // An image of the same view is never replaced by a coarser one.
  #isSharper(divisor, { view, version }) {
    if (this.shownView !== view) return true;
    const [width, height] = this.fullSize();
    const pixels = (width * height) / divisor ** 2;
    const shown = this.shown.width * this.shown.height;
    return this.shownVersion === version ? pixels > 1.5 * shown : pixels >= shown;
  }

  // Bands grow from the middle of the image to its edges, by whole rows of the canvas's pixels.
  #drawBand(bands, frame, finished) {
    const { target, rays } = bands;
    const { width, height } = target;
    const rows = Math.ceil(Math.max(MIN_BAND_PIXELS, BAND_MS / this.pace.pixelMs) / (width * rays));
    const [low, high] = nextBand(bands, Math.min(height, rows * rays), height, rays);
    bands.low = bands.high ? Math.min(bands.low, low) : low;
    bands.high = Math.max(bands.high, high);
    const isLast = bands.low === 0 && bands.high === height;
    const draw = () => {
      this.renderer.draw(target, frame.level, frame.camera, low, high);
      if (isLast) this.#present(target, frame);
      else if (bands.isVisible) this.renderer.present(target, low, high);
    };
    this.pace.time((high - low) * width, draw, (ms) => {
      bands.ms += ms;
      bands.isDone = isLast;
      if (!isLast) return;
      this.counted(bands.ms);
      if (bands.isFinest) finished();
    });
  }

  #target(role, divisor, rays = 1) {
    const [width, height] = this.fullSize().map((edge) => rays * Math.max(1, Math.ceil(edge / divisor)));
    return this.renderer.target(role, width, height);
  }

  #present(target, { version, view }) {
    this.renderer.present(target);
    this.shown = target;
    this.shownVersion = version;
    this.shownView = view;
    this.presented();
  }
}

function nextBand({ low, high }, rows, height, unit) {
  if (!high) {
    const first = unit * Math.floor((height - rows) / 2 / unit);
    return [first, first + rows];
  }
  const isUpper = high < height && (low === 0 || height - high >= low);
  return isUpper ? [high, Math.min(height, high + rows)] : [Math.max(0, low - rows), low];
}
