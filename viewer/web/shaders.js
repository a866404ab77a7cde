// @ts-check
// Source texts of the shaders. In the source tree they are fetched from viewer/shaders; an exported site replaces
// this module by one that holds the texts.

import { t } from "./language.js";

const FILES = [
  "prologue_web.glsl", "screen.vert", "march.frag", "shade.frag", "box.frag",
  "chunks/appearance.glsl", "chunks/contract.glsl", "chunks/regions.glsl", "chunks/known.glsl", "chunks/calm.glsl",
  "chunks/objects.glsl", "wgsl/march.wgsl", "wgsl/screen.wgsl", "wgsl/contract.wgsl", "wgsl/regions.wgsl", "wgsl/known.wgsl",
  "wgsl/objects.wgsl", "wgsl/appearance.wgsl",
];

export const loadShaderSources = () => loadTexts(FILES);

/** @param {string[]} files names below viewer/shaders @returns {Promise<Record<string, string>>} */
export async function loadTexts(files) {
  const root = new URL("../shaders/", import.meta.url);
  const load = async (/** @type {string} */ name) => {
    const response = await fetch(new URL(name, root));
    if (!response.ok) throw new Error(t("{file} could not be loaded (HTTP {n}).", { file: name, n: response.status }));
    return [name, await response.text()];
  };
  return Object.fromEntries(await Promise.all(files.map(load)));
}
