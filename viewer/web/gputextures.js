// @ts-check
// Textures of WebGPU, behind the face of textures.js.

import { TEXEL_BYTES } from "./textures.js";

const FORMATS = /** @type {const} */ ({ rgba8: "rgba8unorm", rgba8ui: "rgba8uint", rg8ui: "rg8uint", r8ui: "r8uint" });

/** @typedef {import("./textures.js").Textures} Textures */

/** @implements {Textures} */
export class GpuTextures {
  /** @param {{ device: GPUDevice }} owner whose device may be another one after a loss */
  constructor(owner) {
    this.owner = owner;
  }

  get limits() {
    const { maxTextureDimension3D: volume, maxTextureDimension2D: plane } = this.owner.device.limits;
    return { volume, plane };
  }

  /** @param {keyof typeof FORMATS} format @param {number[]} size */
  create(format, size, isVolume = true) {
    const usage = GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST;
    const dimension = isVolume ? "3d" : "2d";
    const texture = this.owner.device.createTexture({ size, dimension, format: FORMATS[format], usage });
    return { texture, bytes: TEXEL_BYTES[format], view: texture.createView({ dimension: isVolume ? "3d" : "2d-array" }) };
  }

  /** @param {any} texture @param {number[]} origin @param {number[]} size @param {Uint8Array} data */
  write({ texture, bytes }, origin, size, data) {
    const layout = { bytesPerRow: bytes * size[0], rowsPerImage: size[1] };
    this.owner.device.queue.writeTexture({ texture, origin }, /** @type {BufferSource} */ (data), layout, size);
  }

  free({ texture }) {
    texture.destroy();
  }
}
