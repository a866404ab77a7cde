// @ts-check
// The lattice of appearance networks: parsed once, interpolated at the camera centre for every frame.

import { LoadError } from "./assets.js";

const LAYERS = 3;

export class Appearance {
  /**
   * @param {Record<string, { shape: number[], data: number[] }>} tensors content of deferred_mlp.json
   * @param {number} submodelCount
   * @param {string} file name for complaints
   */
  constructor(tensors, submodelCount, file) {
    this.lattice = "ResampleDense_0/kernel" in tensors;
    const prefix = this.lattice ? "ResampleDense" : "Dense";
    this.layers = [];
    for (let i = 0; i < LAYERS; i++) {
      const kernel = readTensor(tensors, `${prefix}_${i}/kernel`, file);
      const bias = readTensor(tensors, `${prefix}_${i}/bias`, file);
      const [inputs, outputs] = kernel.shape.slice(-2);
      if (inputs * bias.data.length !== kernel.data.length) {
        throw new LoadError(`${file}: ${prefix}_${i}/bias does not fit its kernel.`);
      }
      this.layers.push({ inputs, outputs, kernel: kernel.data, bias: bias.data });
    }
    const { shape } = tensors[`${prefix}_0/kernel`];
    this.resolution = this.lattice ? shape[1] : 1;
    if (this.lattice && shape[0] < submodelCount) {
      throw new LoadError(`${file}: the appearance network does not cover every submodel.`);
    }
    if (this.layers.some((layer, i) => i > 0 && layer.inputs !== this.layers[i - 1].outputs) || this.layers[2].outputs !== 3) {
      throw new LoadError(`${file}: the layers of the appearance network do not fit each other.`);
    }
    if (this.layers.some((layer, i) => i < 2 && layer.outputs % 4)) {
      throw new LoadError(`${file}: hidden widths of the appearance network must be multiples of 4.`);
    }
    this.inputs = this.layers[0].inputs;
    this.hidden1 = this.layers[0].outputs;
    this.hidden2 = this.layers[1].outputs;
    this.values = new Float32Array(4 * this.weightCount);
  }

  // Number of vec4 in the uniform block, in the order that shade.frag documents.
  get weightCount() {
    return this.layers.reduce((sum, { inputs, outputs }) => sum + Math.ceil(outputs / 4) * (1 + 4 * Math.ceil(inputs / 4)), 0);
  }

  // Corners of the lattice cell around `local` (training axes, [-1, 1] across the submodel's region) and their weights.
  corners(index, local) {
    if (!this.lattice) return [{ vertex: 0, weight: 1 }];
    const n = this.resolution;
    const axes = local.map((u) => {
      const g = ((u + 1) / 2) * n - 0.5;
      const low = Math.floor(g);
      const clamp = (i) => Math.max(0, Math.min(n - 1, i));
      return [[clamp(low), 1 - (g - low)], [clamp(low + 1), g - low]];
    });
    const corners = [];
    for (const [z, wz] of axes[2]) {
      for (const [y, wy] of axes[1]) {
        for (const [x, wx] of axes[0]) {
          if (wx * wy * wz > 0) corners.push({ vertex: ((index * n + z) * n + y) * n + x, weight: wx * wy * wz });
        }
      }
    }
    return corners;
  }

  // Weights of submodel `index` at `local`, packed for the uniform block. The array is reused by the next call.
  weightsAt(index, local) {
    const out = this.values.fill(0);
    for (const { vertex, weight } of this.corners(index, local)) {
      let at = 0;
      for (const { inputs, outputs, kernel, bias } of this.layers) {
        const rows = 1 + 4 * Math.ceil(inputs / 4);
        const kernelAt = vertex * inputs * outputs;
        for (let j = 0; j < outputs; j++) {
          const base = at + 4 * (j >> 2) * rows + (j & 3);
          out[base] += weight * bias[vertex * outputs + j];
          for (let i = 0; i < inputs; i++) out[base + 4 * (1 + i)] += weight * kernel[kernelAt + i * outputs + j];
        }
        at += 4 * Math.ceil(outputs / 4) * rows;
      }
    }
    return out;
  }
}

function readTensor(tensors, name, file) {
  const { shape, data } = tensors[name] ?? {};
  if (!Array.isArray(shape) || !Array.isArray(data)) throw new LoadError(`${file}: ${name} is missing.`);
  if (data.length !== shape.reduce((size, edge) => size * edge, 1)) {
    throw new LoadError(`${file}: ${name} holds ${data.length} numbers where its shape ${shape.join(" x ")} needs others.`);
  }
  return { shape, data: Float32Array.from(data) };
}
