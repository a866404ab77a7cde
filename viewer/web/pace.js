// @ts-check
// How long the GPU takes: a fence behind every draw, and from it the time per pixel that sizes the next one.

export class Pace {
  /**
   * @param {WebGL2RenderingContext} gl
   * @param {number} pixelMs first guess of the milliseconds a pixel takes
   * @param {number} slower weight of a measurement that is slower than expected
   * @param {number} faster weight of one that is faster
   */
  constructor(gl, pixelMs, slower, faster) {
    this.gl = gl;
    this.pixelMs = pixelMs;
    this.slower = slower;
    this.faster = faster;
    /** @type {{ sync: WebGLSync, pixels: number, since: number, done: (ms: number) => void } | null} */
    this.fence = null;
  }

  // Whether the GPU still works on what was drawn last.
  get isBusy() {
    if (!this.fence) return false;
    const { gl } = this;
    if (gl.clientWaitSync(this.fence.sync, 0, 0) === gl.TIMEOUT_EXPIRED) return true;
    gl.deleteSync(this.fence.sync);
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
    const { gl } = this;
    const since = performance.now();
    draw();
    this.fence = { sync: gl.fenceSync(gl.SYNC_GPU_COMMANDS_COMPLETE, 0), pixels, since, done };
    gl.flush();
  }
}
