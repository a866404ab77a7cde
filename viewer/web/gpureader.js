// @ts-check
// WebGPU: single numbers of an image, on the processor at once. Drawing a canvas onto one of the processor is the only way
// there that needs no promise, for which no event of the page could wait.

import { bindImage } from "./gpuprogram.js";

// Columns and rows of texels that are read together at most.
export const READ = 3;
const TRIAL = [1234.5678, -3e-5, 255, 0.001];

export class GpuReader {
  /** @param {GPUDevice} device @param {GPUShaderModule} module */
  constructor(device, module) {
    this.device = device;
    this.tell = device.createRenderPipeline({
      layout: "auto", vertex: { module, entryPoint: "cover" },
      fragment: { module, entryPoint: "tell", targets: [{ format: "rgba8unorm" }] },
    });
    this.place = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.told = new OffscreenCanvas(2 * READ, READ);
    /** @type {GPUCanvasContext} */
    this.context = /** @type {any} */ (this.told.getContext("webgpu"));
    this.context.configure({ device, format: "rgba8unorm", alphaMode: "opaque" });
    this.paper = new OffscreenCanvas(2 * READ, READ).getContext("2d", { willReadFrequently: true });
  }

  /**
   * A channel of the texels from a column and a row on, row by row; the image holds whole floats.
   * @param {GPUTexture} image @param {number} channel @param {number} x @param {number} y counted from above
   * @param {number} width @param {number} height at most READ each
   */
  read(image, channel, x, y, width, height) {
    const { device } = this;
    const group = bindImage(device, this.tell, image, this.place, [x, y, channel, 0]);
    const encoder = device.createCommandEncoder();
    const view = this.context.getCurrentTexture().createView();
    const pass = encoder.beginRenderPass({ colorAttachments: [{ view, loadOp: "clear", storeOp: "store" }] });
    pass.setPipeline(this.tell);
    pass.setBindGroup(0, group);
    pass.draw(3);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.paper.drawImage(this.told, 0, 0);
    const { data } = this.paper.getImageData(0, 0, 2 * READ, height);
    const bits = Uint32Array.from({ length: width * height }, (_, i) => {
      const [low, middle, high, , highest] = data.subarray(8 * (i % width) + 8 * READ * Math.floor(i / width));
      return low | (middle << 8) | (high << 16) | (highest << 24);
    });
    return new Float32Array(bits.buffer);
  }

  // Whether numbers come back as they were; some browsers blur what is read from a canvas.
  get isTrue() {
    const numbers = Float32Array.from(TRIAL);
    const usage = GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_DST;
    const image = this.device.createTexture({ size: [2, 2], format: "r32float", usage });
    this.device.queue.writeTexture({ texture: image }, numbers, { bytesPerRow: 8 }, [2, 2]);
    const found = this.read(image, 0, 0, 0, 2, 2);
    image.destroy();
    return found.every((number, i) => number === numbers[i]);
  }
}
