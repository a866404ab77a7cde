// @ts-check
// How many pixels are rendered, and with what: by the chosen quality and the kind of device.

// Maximum rendered pixels at rest.
const MAX_PIXELS = { phone: 135e3, low: 150e3, medium: 768e3, high: Infinity };
export const QUALITIES = ["auto", ...Object.keys(MAX_PIXELS)];

// WebGPU or WebGL2 (choice.js).
export const BACKENDS = ["auto", "webgl", "webgpu"];

// What "auto" stands for on this device.
export function automaticQuality() {
  if (!matchMedia("(pointer: coarse)").matches) return "high";
  return Math.min(screen.width, screen.height) < 600 && (navigator["deviceMemory"] ?? 4) < 4 ? "phone" : "medium";
}

/** @param {string} quality */
export function maxPixels(quality) {
  return MAX_PIXELS[quality === "auto" ? automaticQuality() : quality];
}

// Width and height of the image of a canvas with at most so many pixels.
export function imageSize({ width, height }, pixels) {
  const shrink = Math.min(1, Math.sqrt(pixels / (width * height)));
  return [Math.max(1, Math.round(width * shrink)), Math.max(1, Math.round(height * shrink))];
}
