// @ts-check
// Work for the GPU in small pieces: a few megabytes of textures per frame, so that loading never holds a frame up.

const PIECE_BYTES = 1 << 20;
const FRAME_BYTES = 4 << 20;
const REST_BYTES = 16 << 20;
const FRAME_MS = 4;

export class Uploads {
  // wake: asks for a frame, in which `run` must be called.
  /** @param {import("./textures.js").Textures} textures @param {() => void} wake */
  constructor(textures, wake) {
    this.textures = textures;
    this.wake = wake;
    this.waiting = [];
  }

  // Queues layers of a texture from z on; resolves when all have been handed to the driver. `isStale` drops what is left.
  texture(texture, z, [width, height, depth], data, isStale) {
    const row = data.length / (height * depth);
    const rows = Math.max(1, Math.min(height, Math.floor(PIECE_BYTES / row)));
    const layers = rows < height ? 1 : Math.max(1, Math.floor(PIECE_BYTES / (row * height)));
    const pieces = [];
    for (let layer = 0; layer < depth; layer += layers) {
      for (let y = 0; y < height; y += rows) {
        const size = [width, Math.min(rows, height - y), Math.min(layers, depth - layer)];
        const from = (layer * height + y) * row;
        const part = data.subarray(from, from + row * size[1] * size[2]);
        pieces.push(this.#add(part.length, isStale, () => this.textures.write(texture, [0, y, z + layer], size, part)));
      }
    }
    return Promise.all(pieces);
  }

  #add(bytes, isStale, job) {
    return new Promise((resolve) => {
      this.waiting.push({ bytes, isStale, job, resolve });
      this.wake();
    });
  }

  get isIdle() {
    return this.waiting.length === 0;
  }

  // Does one frame's part; more of it while nothing moves.
  run(isAtRest) {
    const since = performance.now();
    let left = isAtRest ? REST_BYTES : FRAME_BYTES;
    while (this.waiting.length && left > 0 && performance.now() - since < FRAME_MS * (isAtRest ? 4 : 1)) {
      const { bytes, isStale, job, resolve } = this.waiting.shift();
      if (!isStale()) {
        job();
        left -= bytes;
      }
      resolve();
    }
  }

  // After a lost context nothing of what waits can be uploaded.
  drop() {
    for (const { resolve } of this.waiting.splice(0)) resolve();
  }
}
