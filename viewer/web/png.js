// @ts-check
// PNG to bytes without a detour through the browser's image pipeline, which may premultiply alpha or convert colours
// and would change the stored numbers. 8-bit, colour types 0, 2, 4, 6, optionally interlaced.

import { breathe, isTimeUp } from "./breathe.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3, 4: 2, 6: 4 };
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]];

export async function inflate(bytes, format) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream(format));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * Returns the bytes of an image of these sides, row-major with interleaved channels.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {{ width: number, height: number, channels: number }} shape
 */
export async function decodePng(bytes, shape) {
  if (SIGNATURE.some((value, i) => bytes[i] !== value)) throw new Error("is not a PNG file");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let header = null;
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const body = bytes.subarray(at + 8, at + 8 + length);
    if (type === "IHDR") {
      header = {
        width: view.getUint32(at + 8), height: view.getUint32(at + 12), depth: body[8], type: body[9], interlaced: body[12],
      };
    } else if (type === "IDAT") parts.push(body);
    else if (type === "IEND") break;
    at += 12 + length;
  }
  const channels = header && CHANNELS[header.type];
  if (!channels || header.depth !== 8) throw new Error("is not an 8-bit grey, grey-alpha, RGB or RGBA PNG");
  const { width, height } = header;
  if (width !== shape.width || height !== shape.height || channels !== shape.channels) {
    const sides = (/** @type {any} */ each) => `${each.width} x ${each.height}`;
    throw new Error(
      `has ${sides(header)} pixels of ${channels} bytes where the scene needs ${sides(shape)} of ${shape.channels}`,
    );
  }
  const packed = await inflate(new Blob(parts), "deflate");
  const data = new Uint8Array(width * height * channels);
  if (!header.interlaced) {
    await unfilter(packed, 0, data, width, height, channels);
    return data;
  }
  let at = 0;
  for (const [x0, y0, dx, dy] of ADAM7) {
    const w = Math.ceil((width - x0) / dx);
    const h = Math.ceil((height - y0) / dy);
    if (w <= 0 || h <= 0) continue;
    const pass = new Uint8Array(w * h * channels);
    at = await unfilter(packed, at, pass, w, h, channels);
    for (let y = 0; y < h; y++) {
      for (let x = 0; x < w; x++) {
        const to = ((y0 + y * dy) * width + x0 + x * dx) * channels;
        for (let c = 0; c < channels; c++) data[to + c] = pass[(y * w + x) * channels + c];
      }
    }
  }
  return data;
}

async function unfilter(packed, at, out, width, height, channels) {
  const stride = width * channels;
  if (packed.length < at + height * (stride + 1)) throw new Error("is a truncated PNG file");
  for (let y = 0; y < height; y++) {
    if (isTimeUp()) await breathe();
    const filter = packed[at++];
    const row = y * stride;
    const above = row - stride;
    for (let i = 0; i < stride; i++) {
      const left = i >= channels ? out[row + i - channels] : 0;
      const up = y > 0 ? out[above + i] : 0;
      let guess = 0;
      if (filter === 1) guess = left;
      else if (filter === 2) guess = up;
      else if (filter === 3) guess = (left + up) >> 1;
      else if (filter === 4) {
        const corner = y > 0 && i >= channels ? out[above + i - channels] : 0;
        const estimate = left + up - corner;
        const a = Math.abs(estimate - left);
        const b = Math.abs(estimate - up);
        const c = Math.abs(estimate - corner);
        guess = a <= b && a <= c ? left : b <= c ? up : corner;
      }
      out[row + i] = packed[at + i] + guess;
    }
    at += stride;
  }
  return at;
}
