// @ts-check
// WGSL texts of viewer/shaders/wgsl as programs: their constants, and the parts that a scene needs.

// What measurements may switch (viewer/shaders/README.md).
const OPTIONS = {
  DENSITY_FIRST: 1, SKIP_BY_DISTANCE: 1, SKIP_BY_OCCUPANCY: 1, EARLY_TERMINATION: 1, SKIP_TO_CUBE: 1, SKIP_TOGETHER: 1, COUNT: 0,
};

/**
 * Replaces #include "FILE" by the file; lines between #if NAME, #else and #endif stay where the define is 1, or is not.
 * @param {Record<string, string>} sources texts by their names below viewer/shaders
 * @param {string} name @param {Record<string, any>} defines
 */
export function assemble(sources, name, defines) {
  const all = { ...OPTIONS, ...defines };
  const body = sources[name].replace(/^#include "(.+)"$/gm, (_, path) => sources[path]);
  let isKept = true;
  const lines = body.split("\n").map((line) => {
    const [, word, of] = /^#(if|else|endif) ?(\w*)$/.exec(line) ?? [];
    if (word === "if") isKept = Number(all[of]) === 1;
    else if (word) isKept = word === "endif" || !isKept;
    return word || !isKept ? "" : line;
  });
  const constants = Object.entries(all).map(([key, value]) => `const ${key} = ${value};`);
  return `${constants.join("\n")}\n${lines.join("\n")}`;
}

/** The bindings of a march's group of textures. @param {string[]} samplers names @returns {GPUBindGroupLayoutEntry[]} */
export function textureEntries(samplers) {
  const visibility = GPUShaderStage.COMPUTE;
  const entries = samplers.map((name) => {
    const isVolume = !name.startsWith("planes");
    const isWhole = ["blocks", "occupancy", "atlas_ids"].includes(name);
    /** @type {GPUTextureBindingLayout} */
    const texture = { sampleType: isWhole ? "uint" : "float", viewDimension: isVolume ? "3d" : "2d-array" };
    return { binding: bindingOf(name), visibility, texture };
  });
  return [{ binding: 0, visibility, sampler: {} }, ...entries];
}

const BINDINGS = [
  "linear", "atlas_density", "atlas_colour", "planes_density", "planes_colour", "blocks", "occupancy", "known", "atlas_ids",
];

/** Of a texture in march.wgsl. @param {string} name */
export function bindingOf(name) {
  return BINDINGS.indexOf(name);
}

/** The bindings of a march's group of numbers and targets. @param {GPUTextureFormat} seen @returns {GPUBindGroupLayoutEntry[]} */
export function frameEntries(seen) {
  const visibility = GPUShaderStage.COMPUTE;
  const stored = (/** @type {number} */ binding, /** @type {GPUTextureFormat} */ format) => {
    return { binding, visibility, storageTexture: { format } };
  };
  return [
    { binding: 0, visibility, buffer: {} }, { binding: 1, visibility, buffer: {} }, stored(2, "rgba8unorm"), stored(3, seen),
  ];
}

/**
 * What a program of screen.wgsl reads: an image, and numbers that are written at once.
 * @param {GPUDevice} device @param {GPURenderPipeline} pipeline @param {GPUTexture} image
 * @param {GPUBuffer} buffer @param {number[]} numbers @param {GPUSampler | null} sampler where it takes one
 */
export function bindImage(device, pipeline, image, buffer, numbers, sampler = null) {
  device.queue.writeBuffer(buffer, 0, new Float32Array(numbers));
  /** @type {GPUBindGroupEntry[]} */
  const entries = [{ binding: 0, resource: image.createView() }, { binding: 2, resource: { buffer } }];
  if (sampler) entries.push({ binding: 1, resource: sampler });
  return device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
}
