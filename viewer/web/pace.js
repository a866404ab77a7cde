// @ts-check
// How long the GPU takes: a mark behind every draw, and from it the time per pixel that sizes the next one.

export class Pace {
  /**
   * @param {() => () => boolean} mark returns a function that says whether the GPU has done all that it was given before
   * @param {number} pixelMs first guess of the milliseconds a pixel takes
   * @param {number} slower weight of a measurement that is slower than expected
   * @param {number} faster weight of one that is faster
   */
  constructor(mark, pixelMs, slower, faster) {
    this.mark = mark;
    this.pixelMs = pixelMs;
    this.slower = slower;
    this.faster = faster;
    /** @type {{ isPassed: () => boolean, pixels: number, since: number, done: (ms: number) => void } | null} */
    this.fence = null;
  }

  // Whether the GPU still works on what was drawn last.
  get isBusy() {
    if (!this.fence) return false;
    if (!this.fence.isPassed()) return true;
    const { pixels, since, done } = this.fence;
    this.fence = null;
    const ms = performance.now() - since;
    const change = ms / pixels - this.pixelMs;
    this.pixelMs += change * (change > 0 ? this.slower : this.faster);
    done(ms);
    return false;
  }

  /**
   * Runs `draw` and calls `done` with the milliseconds that the GPU took for its `pixels`.
   * @param {number} pixels @param {() => void} draw @param {(ms: number) => void} done
   */
  time(pixels, draw, done) {
    const since = performance.now();
    draw();
    this.fence = { isPassed: this.mark(), pixels, since, done };
  }
}
