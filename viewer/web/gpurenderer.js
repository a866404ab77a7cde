// @ts-check
// WebGPU: one compute pass (march and appearance) into an off-screen target, then a copy to the canvas.

import { Backend } from "./backend.js";
import { assemble, bindingOf, frameEntries, textureEntries } from "./gpuprogram.js";
import { GpuReader, READ } from "./gpureader.js";
import { GpuScreen } from "./gpuscreen.js";
import { GpuTextures } from "./gputextures.js";
import { t } from "./language.js";
import { checkLimits } from "./submodel.js";

const TILE = 8;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4000;
const TRIES = 8;
// In floats; where they stand is march.wgsl's struct Frame.
const FRAME_SIZE = 60;
const FRAME = {
  rotation: [0, 4, 8], position: 12, near: 15, lens: 16, atlasSize: 20, scale: 23, background: 24, occlusionDelay: 27,
  unknown: [28, 32, 36], logExposure: 31, size: 40, rows: 42, hidden: 44, lit: 52,
};

/** @typedef {import("./backend.js").Drawing} Drawing */

/** @implements {Drawing} */
export class GpuRenderer extends Backend {
  /** @param {HTMLCanvasElement} canvas @param {GPUDevice} device @param {() => Promise<GPUDevice>} request gets another one */
  constructor(canvas, device, request) {
    super(canvas);
    this.name = "WebGPU";
    this.request = request;
    /** What draws; null while there is none. @type {GPUDevice | null} */
    this.device = null;
    this.textures = new GpuTextures(this);
    /** Null until it is proven that this device can do what the page needs. @type {GpuScreen | null} */
    this.screen = null;
    this.isDropped = false;
    this.#take(device);
  }

  // Another back end draws.
  drop() {
    this.isDropped = true;
    this.device?.destroy();
  }

  // The loop listens to these events of the canvas as to those of WebGL2.
  #take(/** @type {GPUDevice} */ device) {
    this.device = device;
    device.lost.then(() => this.#replace());
  }

  async #replace() {
    if (this.isDropped || !this.screen) {
      // Whoever chooses takes another back end.
      this.device = null;
      return;
    }
    this.canvas.dispatchEvent(new Event("devicelost"));
    for (let pause = FIRST_PAUSE_MS, left = TRIES; left > 0; pause = Math.min(2 * pause, LONGEST_PAUSE_MS), left--) {
      const device = await this.request().catch(() => null);
      if (device) {
        this.#take(device);
        break;
      }
      this.device = null;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    this.canvas.dispatchEvent(new Event("devicerestored"));
  }

  prepare(scene, sources, settings) {
    const { device } = this;
    if (!device) throw new Error(t("This device cannot draw the scene."));
    checkLimits(this.textures.limits, scene.params);
    this.take(scene, settings);
    this.sources = sources;
    const size = 16 * scene.widths.weightCount;
    if (size > device.limits.maxUniformBufferBindingSize) throw new Error(t("This device cannot draw the scene."));
    const buffer = (/** @type {number} */ bytes) => {
      return device.createBuffer({ size: bytes, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    };
    this.numbers = new Float32Array(FRAME_SIZE);
    this.words = new Uint32Array(this.numbers.buffer);
    this.frame = buffer(this.numbers.byteLength);
    this.weights = buffer(size);
    this.linear = device.createSampler({ magFilter: "linear", minFilter: "linear" });
    const code = assemble(sources, "wgsl/screen.wgsl", {});
    this.copies = device.createShaderModule({ code });
    this.reader = new GpuReader(device, this.copies);
    if (this.screen) this.screen = new GpuScreen(this.canvas, device, this.copies);
    /** @type {GPUTextureFormat} */
    this.seenFormat = this.extra.COUNT ? "rgba32float" : "rg32float";
    this.frameLayout = device.createBindGroupLayout({ entries: frameEntries(this.seenFormat) });
    this.layouts = [false, true].map((looks) => {
      return device.createBindGroupLayout({ entries: textureEntries(this.samplers(looks)) });
    });
    /** @type {Map<string, { made: Promise<GPUComputePipeline>, done: GPUComputePipeline | null }>} */
    this.marches = new Map();
    /** Groups of textures. @type {WeakMap<any, GPUBindGroup[]>} */
    this.groups = new WeakMap();
  }

  // Takes the canvas, which until then is free for another back end. Throws where this device, or what the browser knows of
  // WGSL, is not enough.
  async prove() {
    await this.compiled(this.scene.params);
    if (!this.device) throw new Error("The WebGPU device was lost.");
    if (!this.reader.isTrue) throw new Error("This browser blurs the numbers that WebGPU gives back.");
    this.screen = new GpuScreen(this.canvas, this.device, this.copies);
  }

  // What a march is made from.
  #description(params, /** @type {boolean} */ looks) {
    const { device } = this;
    const module = device.createShaderModule({ code: assemble(this.sources, "wgsl/march.wgsl", this.defines(params, looks)) });
    const layout = device.createPipelineLayout({ bindGroupLayouts: [this.frameLayout, this.layouts[Number(looks)]] });
    return { layout, compute: { module, entryPoint: "main" } };
  }

  // Levels of different resolutions need programs of their own, which are compiled in the background.
  #march(params, looks = false) {
    const key = this.key(params, looks);
    if (!this.marches.has(key)) {
      const made = this.device.createComputePipelineAsync(this.#description(params, looks));
      const march = { made, done: null };
      made.then((done) => (march.done ??= done), () => {});
      this.marches.set(key, march);
    }
    return this.marches.get(key);
  }

  prepareObjects(level) {
    if (this.hasObjects && level) this.#march(level.params, true);
  }

  async compiled(params, signal) {
    const { device } = this;
    try {
      await this.#march(params, this.hasObjects && this.areObjectsMarked).made;
    } catch (error) {
      // Of a lost device nothing was to be had.
      if (device !== this.device) return;
      throw new Error(`${t("This device cannot draw the scene.")} ${error.message}`.slice(0, 500));
    }
    signal?.throwIfAborted();
  }

  target(role, width, height) {
    const { device } = this;
    const old = this.targets[role];
    if (old && old.width === width && old.height === height) return old;
    for (const texture of old ? [old.pixel, old.seen] : []) texture.destroy();
    const usage = GPUTextureUsage.STORAGE_BINDING | GPUTextureUsage.TEXTURE_BINDING | GPUTextureUsage.COPY_SRC;
    const image = (/** @type {GPUTextureFormat} */ format) => device.createTexture({ size: [width, height], format, usage });
    const [pixel, seen] = [image("rgba8unorm"), image(this.seenFormat)];
    const resources = [{ buffer: this.frame }, { buffer: this.weights }, pixel.createView(), seen.createView()];
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    const group = device.createBindGroup({ layout: this.frameLayout, entries });
    return (this.targets[role] = { width, height, pixel, seen, group, depths: null });
  }

  draw(target, level, camera, low = 0, high = target.height, picks = false) {
    const { device } = this;
    const looks = this.looksAt(level, picks);
    const march = this.#march(level.params, looks);
    march.done ??= device.createComputePipeline(this.#description(level.params, looks));
    this.#write(target, level, camera, low, high);
    target.depths = null;
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(march.done);
    pass.setBindGroup(0, target.group);
    pass.setBindGroup(1, this.#textures(level, looks));
    pass.dispatchWorkgroups(Math.ceil(target.width / TILE), Math.ceil((high - low) / TILE));
    pass.end();
    device.queue.submit([encoder.finish()]);
  }

  #textures(level, /** @type {boolean} */ looks) {
    const groups = this.groups.get(level) ?? [];
    this.groups.set(level, groups);
    return (groups[Number(looks)] ??= this.device.createBindGroup({
      layout: this.layouts[Number(looks)],
      entries: [
        { binding: 0, resource: this.linear },
        ...this.samplers(looks).map((name) => ({ binding: bindingOf(name), resource: level.textures[name].view })),
      ],
    }));
  }

  #write(target, level, camera, /** @type {number} */ low, /** @type {number} */ high) {
    const { numbers, words, objects, device } = this;
    const { lens, rotation, position, near, scale, weights } = this.view(target, level, camera);
    FRAME.rotation.forEach((at, column) => numbers.set(rotation.slice(3 * column, 3 * column + 3), at));
    numbers.set(position, FRAME.position);
    numbers[FRAME.near] = near;
    numbers.set(lens, FRAME.lens);
    numbers.set(level.atlasSize, FRAME.atlasSize);
    numbers[FRAME.scale] = scale;
    numbers.set(this.background, FRAME.background);
    numbers[FRAME.occlusionDelay] = this.occlusionDelay;
    this.unknownColours?.forEach((colour, i) => numbers.set(colour, FRAME.unknown[i]));
    numbers[FRAME.logExposure] = this.exposure ? Math.log(this.exposure) : 0;
    words.set([target.width, target.height], FRAME.size);
    words.set([low, high], FRAME.rows);
    words.set(objects.hidden, FRAME.hidden);
    words.set(objects.lit, FRAME.lit);
    device.queue.writeBuffer(this.frame, 0, numbers);
    device.queue.writeBuffer(this.weights, 0, weights);
  }

  present(target, low = 0, high = target.height) {
    this.screen.present(target, low, high);
  }

  keep() {
    this.screen.restore();
  }

  readDepth(target, x, y) {
    const { width, height, seen } = target;
    const row = height - 1 - y;
    if (width > READ || height > READ) return this.reader.read(seen, 0, x, row, 1, 1)[0];
    target.depths ??= this.reader.read(seen, 0, 0, 0, width, height);
    return target.depths[row * width + x];
  }

  readOwner({ seen }) {
    return this.reader.read(seen, 1, 0, 0, 1, 1)[0];
  }

  mark() {
    let isPassed = false;
    this.device.queue.onSubmittedWorkDone().then(() => (isPassed = true), () => (isPassed = true));
    return () => isPassed;
  }

  async finish() {
    await this.device.queue.onSubmittedWorkDone();
  }

  async counts({ width, height, seen }) {
    const { device } = this;
    const bytesPerRow = 256 * Math.ceil((16 * width) / 256);
    const buffer = device.createBuffer({ size: bytesPerRow * height, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const encoder = device.createCommandEncoder();
    encoder.copyTextureToBuffer({ texture: seen }, { buffer, bytesPerRow }, [width, height]);
    device.queue.submit([encoder.finish()]);
    await buffer.mapAsync(GPUMapMode.READ);
    const all = new Float32Array(buffer.getMappedRange());
    const out = new Float32Array(4 * width * height);
    const stride = bytesPerRow / 4;
    for (let y = 0; y < height; y++) out.set(all.subarray(y * stride, y * stride + 4 * width), 4 * y * width);
    buffer.destroy();
    return out;
  }
}
