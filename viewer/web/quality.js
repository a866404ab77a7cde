// @ts-check
// How many pixels are rendered, and with what: by the chosen quality and the kind of device.

// Maximum rendered pixels at rest.
const MAX_PIXELS = { phone: 135e3, low: 150e3, medium: 768e3, high: Infinity };
export const QUALITIES = ["auto", ...Object.keys(MAX_PIXELS)];

// Rays along an edge of a pixel; of a picture that is held in graphics memory whole, those of a 4K screen.
const MAX_RAYS = 4;
const WINDOW_RAYS = 3840 * 2160;
const WINDOW_EDGE = 8192;

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

/**
 * Rays along an edge of a pixel, as smerf/scene/supersample.py says: one, where pixels are no wider than those of the photos.
 * @param {number} drawn radians that a pixel of the picture covers
 * @param {number | null | undefined} trained those of the photos; without them one ray is all
 */
export function raysPerAxis(drawn, trained) {
  return trained > 0 ? Math.min(MAX_RAYS, Math.max(1, Math.floor(drawn / trained + 0.5))) : 1;
}

/**
 * The same of a canvas; fewer where all together were more than `pixels` or took too much memory.
 * @param {number} drawn @param {number | null | undefined} trained
 * @param {number[]} size width and height @param {number} pixels
 */
export function raysInWindow(drawn, trained, [width, height], pixels) {
  const most = Math.sqrt(Math.min(pixels, WINDOW_RAYS) / (width * height));
  return Math.max(1, Math.min(Math.floor(most), Math.floor(WINDOW_EDGE / Math.max(width, height)), raysPerAxis(drawn, trained)));
}
