// Pictures of a camera, soon and then sharply: small previews while things move; at rest larger and larger ones up to
// full detail, all drawn in bands, so that neither the page nor the next motion ever waits long for a slow device.

const PREVIEW_MS = 28;
const BAND_MS = 40;
// Below these sizes a draw takes hardly less time.
const MIN_PREVIEW_PIXELS = 3000;
const MIN_BAND_PIXELS = 4000;
// The very first picture also waits for the driver; its size suits a slow device.
const FIRST_PIXELS = 2500;
// Sizes of previews are powers of this, which keeps targets from being re-created at every frame.
const PREVIEW_RATIO = 1.2;
// Where full detail takes longer, smaller pictures come before it and its bands appear one by one.
const SLOW_MS = 300;
const SLOW_DIVISORS = [9, 3, 1];
const SLOWER = 0.4;
const FASTER = 0.7;

export class Frames {
  // fullSize(): width and height at full detail; presented(): a picture is on the canvas; counted(ms): what it took.
  constructor(renderer, { fullSize, presented, counted }) {
    Object.assign(this, { renderer, fullSize, presented, counted });
    this.pixelMs = PREVIEW_MS / FIRST_PIXELS;
    this.lose();
  }

  // After a lost context, or when the canvas shows something else.
  lose() {
    Object.assign(this, { fence: null, shown: null, shownView: -1, bands: null, previewVersion: -1 });
  }

  // Whether the GPU still works on what was drawn last.
  get isBusy() {
    if (!this.fence) return false;
    const { gl } = this.renderer;
    if (gl.clientWaitSync(this.fence.sync, 0, 0) === gl.TIMEOUT_EXPIRED) return true;
    gl.deleteSync(this.fence.sync);
    const { pixels, since, done } = this.fence;
    this.fence = null;
    const ms = performance.now() - since;
    const change = ms / pixels - this.pixelMs;
    this.pixelMs += change * (change > 0 ? SLOWER : FASTER);
    done(ms);
    return false;
  }

  // A whole picture, as large as fits into a frame. `frame` holds the level to draw, the camera, the version of all
  // that the picture depends on and that of what decides where things are on the canvas (`view`).
  preview(frame) {
    if (this.shown && this.previewVersion === frame.version) return;
    const [width, height] = this.fullSize();
    const pixels = Math.max(MIN_PREVIEW_PIXELS, PREVIEW_MS / this.pixelMs);
    const power = Math.max(0, Math.round(Math.log((width * height) / pixels) / (2 * Math.log(PREVIEW_RATIO))));
    const target = this.#target("preview", PREVIEW_RATIO ** power);
    const since = performance.now();
    this.renderer.draw(target, frame.level, frame.camera);
    this.#present(target, frame);
    this.previewVersion = frame.version;
    this.#startFence(target.width * target.height, since, (ms) => this.counted(ms));
  }

  // The next band of the next sharper picture; finished() is called once full detail is on the canvas.
  refine(frame, finished) {
    const { bands } = this;
    if (bands?.version !== frame.version || bands.level !== frame.level || bands.isDone) this.bands = this.#begin(frame);
    if (this.bands) this.#drawBand(this.bands, frame, finished);
  }

  #begin(frame) {
    const [width, height] = this.fullSize();
    const isSlow = width * height * this.pixelMs > SLOW_MS;
    const divisor = (isSlow ? SLOW_DIVISORS : [1]).find((each) => each === 1 || this.#isSharper(each, frame));
    const target = this.#target(divisor === 1 ? "full" : `full/${divisor}`, divisor);
    // Bands of another view must not appear beside what is shown.
    const isVisible = isSlow && divisor === 1 && this.shownView === frame.view && this.shown !== target;
    return { version: frame.version, level: frame.level, divisor, target, isVisible, low: 0, high: 0, ms: 0, isDone: false };
  }

  // A picture of the same view is never replaced by a coarser one.
  #isSharper(divisor, { view, version }) {
    if (this.shownView !== view) return true;
    const [width, height] = this.fullSize();
    const pixels = (width * height) / divisor ** 2;
    const shown = this.shown.width * this.shown.height;
    return this.shownVersion === version ? pixels > 1.5 * shown : pixels >= shown;
  }

  // Bands grow from the middle of the picture to its edges.
  #drawBand(bands, frame, finished) {
    const { target } = bands;
    const { width, height } = target;
    const rows = Math.min(height, Math.ceil(Math.max(MIN_BAND_PIXELS, BAND_MS / this.pixelMs) / width));
    const [low, high] = nextBand(bands, rows, height);
    const since = performance.now();
    this.renderer.draw(target, frame.level, frame.camera, low, high);
    bands.low = bands.high ? Math.min(bands.low, low) : low;
    bands.high = Math.max(bands.high, high);
    const isLast = bands.low === 0 && bands.high === height;
    if (isLast) this.#present(target, frame);
    else if (bands.isVisible) this.renderer.present(target, low, high);
    this.#startFence((high - low) * width, since, (ms) => {
      bands.ms += ms;
      bands.isDone = isLast;
      if (!isLast) return;
      this.counted(bands.ms);
      if (bands.divisor === 1) finished();
    });
  }

  #target(role, divisor) {
    const [width, height] = this.fullSize().map((edge) => Math.max(1, Math.ceil(edge / divisor)));
    return this.renderer.target(role, width, height);
  }

  #present(target, { version, view }) {
    this.renderer.present(target);
    Object.assign(this, { shown: target, shownVersion: version, shownView: view });
    this.presented();
  }

  #startFence(pixels, since, done) {
    const { gl } = this.renderer;
    this.fence = { sync: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0), pixels, since, done };
    gl.flush();
  }
}

function nextBand({ low, high }, rows, height) {
  if (!high) {
    const first = Math.floor((height - rows) / 2);
    return [first, first + rows];
  }
  const isUpper = high < height && (low === 0 || height - high >= low);
  return isUpper ? [high, Math.min(height, high + rows)] : [Math.max(0, low - rows), low];
}
