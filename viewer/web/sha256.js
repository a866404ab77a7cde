// @ts-check
// SHA-256 in hexadecimal: by the browser where it offers that (secure pages and localhost), else here.

import { breathe, isTimeUp } from "./breathe.js";

const BLOCK = 64;

/** @param {Uint8Array<ArrayBuffer>} bytes @returns {Promise<string>} */
export async function sha256(bytes) {
  const { subtle } = globalThis.crypto ?? {};
  const words = subtle ? new DataView(await subtle.digest("SHA-256", bytes)) : await digest(bytes);
  return Array.from({ length: 8 }, (_, i) => words.getUint32(4 * i).toString(16).padStart(8, "0")).join("");
}

// The algorithm of FIPS 180-4, for pages that come over plain HTTP.
/** @param {Uint8Array} bytes */
export async function digest(bytes) {
  const { roots, constants } = tables();
  const state = Int32Array.from(roots);
  const schedule = new Int32Array(BLOCK);
  const whole = bytes.length - (bytes.length % BLOCK);
  const tail = padded(bytes.subarray(whole), bytes.length);
  for (const part of [bytes.subarray(0, whole), tail]) {
    for (let at = 0; at < part.length; at += BLOCK) {
      if (at % 65536 === 0 && isTimeUp()) await breathe();
      compress(state, schedule, constants, part, at);
    }
  }
  const out = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => out.setInt32(4 * i, word));
  return out;
}

// The last bytes, a one bit, zeros, and the length of the whole in bits.
function padded(rest, length) {
  const out = new Uint8Array(rest.length < BLOCK - 8 ? BLOCK : 2 * BLOCK);
  out.set(rest);
  out[rest.length] = 0x80;
  const view = new DataView(out.buffer);
  view.setUint32(out.length - 8, Math.floor(length / 2 ** 29));
  view.setUint32(out.length - 4, (length << 3) >>> 0);
  return out;
}

// The first 32 bits of the fractions of square and cube roots of primes.
function tables() {
  const primes = [];
  for (let n = 2; primes.length < BLOCK; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => Math.floor((x % 1) * 2 ** 32);
  return {
    roots: primes.slice(0, 8).map((p) => fraction(Math.sqrt(p))),
    constants: Int32Array.from(primes, (p) => fraction(Math.cbrt(p))),
  };
}

function compress(state, w, k, bytes, at) {
  for (let i = 0; i < 16; i++) {
    const j = at + 4 * i;
    w[i] = (bytes[j] << 24) | (bytes[j + 1] << 16) | (bytes[j + 2] << 8) | bytes[j + 3];
  }
  for (let i = 16; i < BLOCK; i++) {
    const x = w[i - 15];
    const y = w[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (let i = 0; i < BLOCK; i++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const first = (h + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const second = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g;
    g = f;
    f = e;
    e = (d + first) | 0;
    d = c;
    c = b;
    b = a;
    a = (first + second) | 0;
  }
  state[0] += a;
  state[1] += b;
  state[2] += c;
  state[3] += d;
  state[4] += e;
  state[5] += f;
  state[6] += g;
  state[7] += h;
}
