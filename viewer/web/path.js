// Camera paths in the nerfstudio JSON form: camera_path[] of camera_to_world (row-major, training axes) and fov.

import { LoadError } from "./assets.js";
import { column, cross, fromColumns, mix, normalize, parseMatrix, position } from "./camera.js";

export async function loadPath(address) {
  const url = new URL(address, document.baseURI);
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new LoadError(`The camera path ${url.href} could not be loaded.`);
  const file = await response.json().catch(() => null);
  const entries = file?.camera_path?.length ? file.camera_path : file?.keyframes;
  if (!entries?.length) throw new LoadError(`${url.href} holds no camera path.`);
  const frames = entries.map((entry) => {
    const matrix = entry.camera_to_world ?? entry.matrix;
    return { matrix: parseMatrix(typeof matrix === "string" ? JSON.parse(matrix) : matrix), fov: entry.fov ?? file.default_fov ?? 50 };
  });
  const seconds = file.seconds ?? frames.length / (file.fps ?? 30);
  return new CameraPath(frames, Math.max(0.1, seconds), !!file.is_cycle);
}

export class CameraPath {
  constructor(frames, seconds, isCycle) {
    Object.assign(this, { frames, seconds, isCycle });
  }

  // Camera at a time in seconds; the path repeats.
  at(time) {
    const count = this.frames.length;
    const place = ((time % this.seconds) / this.seconds) * (this.isCycle ? count : count - 1);
    const low = Math.min(count - 1, Math.floor(place));
    const a = this.frames[low];
    const b = this.frames[(low + 1) % count];
    const t = place - low;
    const back = normalize(mix(column(a.matrix, 2), column(b.matrix, 2), t));
    const right = normalize(cross(mix(column(a.matrix, 1), column(b.matrix, 1), t), back));
    const origin = mix(position(a.matrix), position(b.matrix), t);
    return { matrix: fromColumns(right, cross(back, right), back, origin), fov: a.fov + (b.fov - a.fov) * t };
  }
}
