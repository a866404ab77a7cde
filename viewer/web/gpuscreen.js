// @ts-check
// WebGPU: what is drawn off screen gets to the canvas, and single numbers of it back to the processor at once.
//
// A canvas of WebGPU is empty again after every frame; the picture is kept beside it, and copied when a part has changed.

import { assemble } from "./gpuprogram.js";

// Columns and rows of texels that are read together.
const READ = 3;

export class GpuScreen {
  /**
   * @param {HTMLCanvasElement} canvas @param {GPUCanvasContext} context @param {GPUDevice} device
   * @param {Record<string, string>} sources
   */
  constructor(canvas, context, device, sources) {
    this.canvas = canvas;
    this.context = context;
    this.device = device;
    /** @type {GPUTexture | null} */
    this.kept = null;
    this.format = navigator.gpu.getPreferredCanvasFormat();
    const usage = GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_DST;
    context.configure({ device, format: this.format, alphaMode: "opaque", usage });
    const module = device.createShaderModule({ code: assemble(sources, "wgsl/screen.wgsl", {}) });
    const pipeline = (/** @type {string} */ entryPoint, /** @type {GPUTextureFormat} */ format) => {
      return device.createRenderPipeline({
        layout: "auto", vertex: { module, entryPoint: "cover" }, fragment: { module, entryPoint, targets: [{ format }] },
      });
    };
    this.show = pipeline("show", this.format);
    this.tell = pipeline("tell", "rgba8unorm");
    this.place = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.samplers = {
      linear: device.createSampler({ magFilter: "linear", minFilter: "linear" }), nearest: device.createSampler(),
    };
    // Drawing a canvas onto one of the processor is the one way to read from the GPU without waiting for a promise.
    this.told = new OffscreenCanvas(2 * READ, READ);
    /** @type {GPUCanvasContext} */
    this.telling = /** @type {any} */ (this.told.getContext("webgpu"));
    this.telling.configure({ device, format: "rgba8unorm", alphaMode: "opaque" });
    this.paper = new OffscreenCanvas(2 * READ, READ).getContext("2d", { willReadFrequently: true });
  }

  // Copies rows [low, high), counted from below, of an image to the canvas.
  present({ width, height, pixel }, /** @type {number} */ low, /** @type {number} */ high) {
    const { canvas, device } = this;
    if (this.kept?.width !== canvas.width || this.kept.height !== canvas.height) this.#remake();
    const same = width === canvas.width && height === canvas.height;
    const [from, to] = [low, high].map((row) => Math.round((row * canvas.height) / height));
    const sampler = same ? this.samplers.nearest : this.samplers.linear;
    const group = this.#group(this.show, pixel, [1 / canvas.width, 1 / canvas.height, 0, 0], sampler);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginRenderPass({
      colorAttachments: [{ view: this.kept.createView(), loadOp: "load", storeOp: "store" }],
    });
    pass.setPipeline(this.show);
    pass.setBindGroup(0, group);
    pass.setScissorRect(0, canvas.height - to, canvas.width, to - from);
    pass.draw(3);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.restore();
  }

  // Puts what is kept on the canvas.
  restore() {
    const { canvas, device, kept } = this;
    if (kept?.width !== canvas.width || kept.height !== canvas.height) return;
    const encoder = device.createCommandEncoder();
    encoder.copyTextureToTexture({ texture: kept }, { texture: this.context.getCurrentTexture() }, [kept.width, kept.height]);
    device.queue.submit([encoder.finish()]);
  }

  #remake() {
    const { canvas, device, format } = this;
    this.kept?.destroy();
    const usage = GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_SRC;
    this.kept = device.createTexture({ size: [canvas.width, canvas.height], format, usage });
  }

  /**
   * A channel of the texels from a column and a row on, row by row; the image holds whole floats.
   * @param {GPUTexture} image @param {number} channel @param {number} x @param {number} y counted from above
   * @param {number} width @param {number} height at most READ each
   */
  read(image, channel, x, y, width, height) {
    const { device } = this;
    const group = this.#group(this.tell, image, [x, y, channel, 0]);
    const encoder = device.createCommandEncoder();
    const view = this.telling.getCurrentTexture().createView();
    const pass = encoder.beginRenderPass({ colorAttachments: [{ view, loadOp: "clear", storeOp: "store" }] });
    pass.setPipeline(this.tell);
    pass.setBindGroup(0, group);
    pass.draw(3);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.paper.drawImage(this.told, 0, 0);
    const { data } = this.paper.getImageData(0, 0, 2 * width, height);
    const bits = Uint32Array.from({ length: width * height }, (_, i) => {
      const [low, middle, high, , highest] = data.subarray(8 * i);
      return low | (middle << 8) | (high << 16) | (highest << 24);
    });
    return new Float32Array(bits.buffer);
  }

  #group(/** @type {GPURenderPipeline} */ pipeline, /** @type {GPUTexture} */ image, place, sampler = null) {
    this.device.queue.writeBuffer(this.place, 0, new Float32Array(place));
    /** @type {GPUBindGroupEntry[]} */
    const entries = [
      { binding: 0, resource: image.createView() }, { binding: 2, resource: { buffer: this.place } },
    ];
    if (sampler) entries.push({ binding: 1, resource: sampler });
    return this.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  }
}
