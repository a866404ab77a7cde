// @ts-check
// Which back end draws a scene: WebGPU where a device of its own is there with the limits needed, else WebGL2.

import { GpuRenderer } from "./gpurenderer.js";
import { GlRenderer } from "./renderer.js";

// How long WebGPU may take to give a device, and to compile; where it is asked for, software may draw.
/** @type {Record<string, { device: number, proof: number }>} */
const PATIENCE_MS = { auto: { device: 4000, proof: 20000 }, webgpu: { device: 60000, proof: 120000 } };

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} wanted one of BACKENDS (quality.js)
 * @param {(renderer: GlRenderer | GpuRenderer) => Promise<void>} prepare gives it the scene, when that is there
 * @returns {Promise<GlRenderer | GpuRenderer>} ready to draw
 */
export async function chooseBackend(canvas, wanted, prepare) {
  let reason = null;
  /** @type {GpuRenderer | null} */
  let first = null;
  try {
    const request = await findDevice(wanted);
    const patience = PATIENCE_MS[wanted];
    first = new GpuRenderer(canvas, await inTime(request(), patience.device), request);
    await prepare(first);
    await inTime(first.prove(), patience.proof);
    return first;
  } catch (error) {
    first?.drop();
    reason = error.message;
  }
  const renderer = new GlRenderer(canvas);
  renderer.reason = reason;
  await prepare(renderer);
  return renderer;
}

// Throws where a browser's WebGPU does not answer: visitors see WebGL2 then, and not an empty page.
/** @template T @param {Promise<T>} promise @param {number} patience @returns {Promise<T>} */
async function inTime(promise, patience) {
  let timer = 0;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("The browser's WebGPU does not answer.")), patience);
  });
  try {
    return /** @type {T} */ (await Promise.race([promise, late]));
  } finally {
    clearTimeout(timer);
  }
}

// A function that gets a device. Throws an Error, for scripts, where WebGPU is not to be taken.
async function findDevice(/** @type {string} */ wanted) {
  if (wanted === "webgl") throw new Error("The address asks for WebGL2.");
  if (!navigator.gpu) throw new Error("This browser has no WebGPU, or the page does not come by https.");
  if (wanted === "auto" && (await hasHeadset())) throw new Error("Headsets are drawn to by WebGL2.");
  const request = async () => {
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    if (!adapter) throw new Error("The browser gives no WebGPU adapter.");
    const isSoftware = adapter.info?.isFallbackAdapter ?? adapter["isFallbackAdapter"];
    if (wanted === "auto" && isSoftware) throw new Error("The WebGPU adapter is software.");
    const { maxTextureDimension2D, maxTextureDimension3D } = adapter.limits;
    return adapter.requestDevice({ requiredLimits: { maxTextureDimension2D, maxTextureDimension3D } });
  };
  return request;
}

async function hasHeadset() {
  const { xr } = /** @type {any} */ (navigator);
  const kinds = ["immersive-vr", "immersive-ar"].map((kind) => xr?.isSessionSupported(kind).catch(() => false));
  return (await Promise.all(kinds)).some(Boolean);
}
