// @ts-check
// Camera paths: keyframes, a smooth path through them, and nerfstudio's JSON, which the desktop viewer and
// `smerf render` read as well. Matrices are camera-to-world, row-major, in training axes; fov is vertical, in degrees.

import { LoadError } from "./assets.js";
import { column, cross, fromColumns, fromQuaternion, mix, normalize, parseMatrix, position, toQuaternion } from "./camera.js";
import { t } from "./language.js";
import { checkHost } from "./policy.js";
import { siteJson } from "./ui.js";

const FPS = 30;
const MAX_FRAMES = 20000;
export const SECONDS_PER_KEYFRAME = 2;

// Views at equal distances of time; `keyframes` are what the path was made from, possibly none.
export class CameraPath {
  /** @param {{ matrix: number[], fov: number }[]} frames @param {number} seconds */
  constructor(frames, seconds, { isCycle = false, keyframes = [], fps = FPS } = {}) {
    this.frames = frames;
    this.seconds = seconds;
    this.isCycle = isCycle;
    this.keyframes = keyframes;
    this.fps = fps;
  }

  // Passes through the keyframes along Catmull-Rom splines of place, turn (as quaternions) and fov.
  static through(keyframes, seconds = null, isCycle = false) {
    const count = keyframes.length;
    if (count < 2) throw new Error(t("A camera path needs two keyframes or more."));
    const spans = isCycle ? count : count - 1;
    seconds ??= SECONDS_PER_KEYFRAME * spans;
    const total = Math.min(MAX_FRAMES, Math.max(2, Math.round(seconds * FPS) + (isCycle ? 0 : 1)));
    const places = keyframes.map(({ matrix, fov }) => [...position(matrix), fov]);
    const turns = keyframes.map(({ matrix }) => toQuaternion(matrix));
    const corner = (index) => (isCycle ? (index + count) % count : Math.min(count - 1, Math.max(0, index)));
    const frames = Array.from({ length: total }, (_, i) => {
      const place = (i * spans) / (isCycle ? total : total - 1);
      const low = Math.min(spans - 1, Math.floor(place));
      const corners = [-1, 0, 1, 2].map((offset) => corner(low + offset));
      const [x, y, z, fov] = catmullRom(corners.map((k) => places[k]), place - low);
      const turn = catmullRom(alongside(corners.map((k) => turns[k])), place - low);
      return { matrix: fromQuaternion(turn, [x, y, z]), fov: Math.min(170, Math.max(1, fov)) };
    });
    return new CameraPath(frames, seconds, { isCycle, keyframes: [...keyframes] });
  }

  // Camera at a time in seconds; a cycle repeats, another path stays at its end.
  at(time) {
    const count = this.frames.length;
    const fraction = this.isCycle ? (time % this.seconds) / this.seconds : Math.min(1, time / this.seconds);
    const place = fraction * (this.isCycle ? count : count - 1);
    const low = Math.min(count - 1, Math.floor(place));
    const a = this.frames[low];
    const b = this.frames[(low + 1) % count];
    const t = place - low;
    if (t === 0) return a;
    const back = normalize(mix(column(a.matrix, 2), column(b.matrix, 2), t));
    const right = normalize(cross(mix(column(a.matrix, 1), column(b.matrix, 1), t), back));
    const origin = mix(position(a.matrix), position(b.matrix), t);
    return { matrix: fromColumns(right, cross(back, right), back, origin), fov: a.fov + (b.fov - a.fov) * t };
  }
}

/** @param {number[][]} points */
function catmullRom([p0, p1, p2, p3], t) {
  return p1.map((value, i) => {
    const linear = p2[i] - p0[i];
    const square = 2 * p0[i] - 5 * value + 4 * p2[i] - p3[i];
    const cube = 3 * value - p0[i] - 3 * p2[i] + p3[i];
    return 0.5 * (2 * value + t * (linear + t * (square + t * cube)));
  });
}

// A quaternion and its negative are the same rotation: take signs that make each corner a near neighbour of the one beside.
/** @param {number[][]} quaternions */
function alongside([q0, q1, q2, q3]) {
  const near = (q, other) => (q.reduce((sum, x, i) => sum + x * other[i], 0) < 0 ? q.map((x) => -x) : q);
  const next = near(q2, q1);
  return [near(q0, q1), q1, next, near(q3, next)];
}

export async function loadPath(address) {
  if (globalThis.smerfEmbeddedFiles?.[address]) return parsePath(await siteJson(address), address);
  const url = new URL(address, document.baseURI);
  checkHost(url);
  const response = await fetch(url).catch(() => null);
  if (!response?.ok) throw new LoadError(t("The camera path {address} could not be loaded.", { address: url.href }));
  return parsePath(await response.json().catch(() => null), url.href);
}

// Reads nerfstudio's JSON; `name` is for the complaint. Keyframes alone make a smooth path.
export function parsePath(file, name) {
  const wrong = (reason) => new LoadError(t("{name} is not a camera path: {reason}.", { name, reason }));
  if (!file?.camera_path?.length && !file?.keyframes?.length) throw wrong(t("it holds neither camera_path nor keyframes"));
  const view = (entry) => {
    const matrix = entry?.camera_to_world ?? entry?.matrix;
    const fov = entry?.fov ?? file.default_fov ?? 50;
    if (!(fov > 0 && fov < 180)) throw wrong(t("a field of view makes no sense"));
    try {
      // Older nerfstudio wrote the matrix of a keyframe as a string.
      return { matrix: parseMatrix(typeof matrix === "string" ? JSON.parse(matrix) : matrix), fov };
    } catch {
      throw wrong(t("a frame has no pose that makes sense"));
    }
  };
  const keyframes = (file.keyframes ?? []).map(view);
  const isCycle = !!file.is_cycle;
  const fps = file.fps > 0 ? file.fps : FPS;
  const frames = (file.camera_path ?? []).map(view);
  const seconds = Math.max(0.1, file.seconds > 0 ? file.seconds : frames.length / fps || SECONDS_PER_KEYFRAME * keyframes.length);
  if (frames.length) return new CameraPath(frames, seconds, { isCycle, keyframes, fps });
  if (keyframes.length > 1) return CameraPath.through(keyframes, seconds, isCycle);
  return new CameraPath(keyframes, seconds, { keyframes });
}

// The path as nerfstudio's JSON, to be rendered at width x height.
export function pathJson(path, width, height) {
  const aspect = width / height;
  return {
    camera_type: "perspective",
    render_width: width,
    render_height: height,
    fps: path.fps,
    seconds: path.seconds,
    is_cycle: path.isCycle,
    smoothness_value: 0.5,
    default_fov: path.frames[0].fov,
    default_transition_sec: SECONDS_PER_KEYFRAME,
    keyframes: path.keyframes.map(({ matrix, fov }) => ({ matrix, fov, aspect, override_transition_enabled: false })),
    camera_path: path.frames.map(({ matrix, fov }) => ({ camera_to_world: matrix, fov, aspect })),
  };
}
