// @ts-check
// The three files of a scene of slots (see smerf/scene/slots.py), from a folder or from the page itself.

import { checkHost } from "../policy.js";

const FORMAT = "smerf-slots-web-1";

async function bytesOf(address, name) {
  const embedded = globalThis.smerfEmbeddedFiles?.[name];
  if (embedded) return Uint8Array.from(atob(embedded), (c) => c.charCodeAt(0)).buffer;
  const url = new URL(`${address.replace(/\/?$/, "/")}${name}`, document.baseURI);
  checkHost(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${name} of the scene could not be loaded (HTTP ${response.status}).`);
  return response.arrayBuffer();
}

export async function openSlots(address) {
  const names = ["slots.json", "network.bin", "scene.bin"];
  const [text, network, matrices] = await Promise.all(names.map((name) => bytesOf(address, name)));
  let scene;
  try {
    scene = JSON.parse(new TextDecoder().decode(text));
  } catch {
    throw new Error("slots.json of the scene is damaged; export the slots again.");
  }
  if (scene.format !== FORMAT) {
    throw new Error(`slots.json has the format ${scene.format}; this page reads ${FORMAT}. Export the slots again.`);
  }
  if (network.byteLength !== 8 * scene.network_texels) {
    throw new Error("network.bin has the wrong length; export the slots again.");
  }
  if (matrices.byteLength !== 16 * scene.scene_texels) throw new Error("scene.bin has the wrong length; export the slots again.");
  return { ...scene, network: new Uint16Array(network), matrices: new Float32Array(matrices) };
}
