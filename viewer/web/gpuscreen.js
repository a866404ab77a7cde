// @ts-check
// WebGPU: what is drawn off screen gets to the canvas. That is empty again after every frame; the picture is kept beside it,
// and copied when a part has changed.

import { raysOf } from "./backend.js";
import { bindImage } from "./gpuprogram.js";

export class GpuScreen {
  /**
   * @param {HTMLCanvasElement} canvas which no other kind of context may have taken
   * @param {GPUDevice} device @param {GPUShaderModule} module
   */
  constructor(canvas, device, module) {
    this.canvas = canvas;
    this.device = device;
    /** @type {GPUTexture | null} */
    this.kept = null;
    this.format = navigator.gpu.getPreferredCanvasFormat();
    /** @type {GPUCanvasContext} */
    this.context = /** @type {any} */ (canvas.getContext("webgpu"));
    const usage = GPUTextureUsage.RENDER_ATTACHMENT | GPUTextureUsage.COPY_DST;
    this.context.configure({ device, format: this.format, alphaMode: "opaque", usage });
    const pipeline = (/** @type {string} */ entryPoint) => device.createRenderPipeline({
      layout: "auto", vertex: { module, entryPoint: "cover" },
      fragment: { module, entryPoint, targets: [{ format: this.format }] },
    });
    this.show = pipeline("show");
    this.average = pipeline("average");
    this.place = device.createBuffer({ size: 16, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.linear = device.createSampler({ magFilter: "linear", minFilter: "linear" });
    this.nearest = device.createSampler();
  }

  // Copies rows [low, high), counted from below, of an image to the canvas.
  present(target, /** @type {number} */ low, /** @type {number} */ high) {
    const { canvas, device } = this;
    const { width, height, pixel } = target;
    if (this.kept?.width !== canvas.width || this.kept.height !== canvas.height) this.#remake();
    const same = width === canvas.width && height === canvas.height;
    const [from, to] = [low, high].map((row) => Math.round((row * canvas.height) / height));
    const rays = raysOf(target, canvas);
    const [program, sampler] = rays > 1 ? [this.average, null] : [this.show, same ? this.nearest : this.linear];
    const place = [1 / canvas.width, 1 / canvas.height, rays, 0];
    const group = bindImage(device, program, pixel, this.place, place, sampler);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginRenderPass({
      colorAttachments: [{ view: this.kept.createView(), loadOp: "load", storeOp: "store" }],
    });
    pass.setPipeline(program);
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
}
