// @ts-check
// The three files of a scene of slots (see smerf/scene/slots.py), from a folder or from the page itself.

import { t } from "../language.js";
import { checkHost } from "../policy.js";

const FORMAT = "smerf-slots-web-1";

async function bytesOf(address, name) {
  const embedded = globalThis.smerfEmbeddedFiles?.[name];
  if (embedded) return Uint8Array.from(atob(embedded), (c) => c.charCodeAt(0)).buffer;
  const url = new URL(`${address.replace(/\/?$/, "/")}${name}`, document.baseURI);
  checkHost(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(t("{file} could not be loaded (HTTP {n}).", { file: name, n: response.status }));
  return response.arrayBuffer();
}

export async function openSlots(address) {
  const names = ["slots.json", "network.bin", "scene.bin"];
  const [text, network, matrices] = await Promise.all(names.map((name) => bytesOf(address, name)));
  let scene;
  try {
    scene = JSON.parse(new TextDecoder().decode(text));
  } catch {
    throw damaged("slots.json");
  }
  if (scene.format !== FORMAT) {
    throw new Error(`slots.json has the format ${scene.format}; this page reads ${FORMAT}. Export the slots again.`);
  }
  if (network.byteLength !== 8 * scene.network_texels) throw damaged("network.bin");
  if (matrices.byteLength !== 16 * scene.scene_texels) throw damaged("scene.bin");
  return { ...scene, network: new Uint16Array(network), matrices: new Float32Array(matrices) };
}

function damaged(/** @type {string} */ file) {
  return new Error(t("{file} is damaged. Upload or export the scene again.", { file }));
}
