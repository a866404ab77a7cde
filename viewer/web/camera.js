// @ts-check
// Cameras in training axes (OpenGL camera-to-world, z up) and the small vector algebra that the page needs.
// Matrices are flat row-major arrays of 12 or 16 numbers; only the first three rows count.

export const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
export const length = (a) => Math.hypot(a[0], a[1], a[2]);
export const normalize = (a) => scale(a, 1 / (length(a) || 1));
export const mix = (a, b, t) => a.map((value, i) => value + (b[i] - value) * t);

// Training to viewer axes: x' = -x, y' = z, z' = y. The map is its own inverse.
export const swapAxes = (v) => [-v[0], v[2], v[1]];

export const position = (m) => [m[3], m[7], m[11]];
export const column = (m, i) => [m[i], m[4 + i], m[8 + i]];

export function fromColumns(right, up, back, origin) {
  const rows = [0, 1, 2].map((i) => [right[i], up[i], back[i], origin[i]]);
  return [...rows.flat(), 0, 0, 0, 1];
}

export function lookAt(origin, target, up) {
  let back = subtract(origin, target);
  if (length(back) < 1e-9) throw new Error("The camera's position and its target are the same point.");
  back = normalize(back);
  let right = cross(up, back);
  if (length(right) < 1e-6) right = cross(Math.abs(back[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0], back);
  right = normalize(right);
  return fromColumns(right, cross(back, right), back, origin);
}

// Checks a camera from outside the page: 12 or 16 numbers, flat or nested rows, a rotation within 1e-3.
export function parseMatrix(value) {
  const flat = Array.from(value ?? []).flatMap((row) => (typeof row === "number" ? [row] : Array.from(row)));
  if ((flat.length !== 12 && flat.length !== 16) || flat.some((x) => !Number.isFinite(x))) {
    throw new Error("cameraToWorld must hold 12 or 16 finite numbers, row by row.");
  }
  const m = flat.slice(0, 12);
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j <= i; j++) {
      if (Math.abs(dot(column(m, i), column(m, j)) - (i === j ? 1 : 0)) > 1e-3) {
        throw new Error("cameraToWorld must be a rotation and a translation without scale.");
      }
    }
  }
  return [...m, 0, 0, 0, 1];
}

/** Checks a vertical field of view from outside the page; undefined keeps the present one. */
export function checkFov(fovDegrees) {
  if (fovDegrees !== undefined && !(fovDegrees > 0 && fovDegrees < 180)) {
    throw new Error("fovDegrees must lie between 0 and 180.");
  }
}

/** Checks a lens from outside the page. */
export function checkLens(lens) {
  if (lens && !["cx", "cy", "fx", "fy"].every((key) => lens[key] === undefined || Number.isFinite(lens[key]))) {
    throw new Error("lens must hold finite numbers cx, cy, fx, fy.");
  }
}

// Heading of a camera relative to an up axis, in radians: yaw about up, pitch above the horizon, roll about the view.
export class Heading {
  constructor(up) {
    this.up = normalize(up);
    const seed = Math.abs(this.up[0]) < 0.9 ? [1, 0, 0] : [0, 1, 0];
    this.east = normalize(subtract(seed, scale(this.up, dot(seed, this.up))));
    this.north = cross(this.up, this.east);
  }

  ofMatrix(m) {
    const forward = scale(column(m, 2), -1);
    const yaw = Math.atan2(dot(forward, this.north), dot(forward, this.east));
    const flat = this.basis(yaw, Math.asin(Math.max(-1, Math.min(1, dot(forward, this.up)))));
    const right = column(m, 0);
    return { yaw: flat.yaw, pitch: flat.pitch, roll: Math.atan2(dot(right, flat.up), dot(right, flat.right)) };
  }

  basis(yaw, pitch) {
    const level = add(scale(this.east, Math.cos(yaw)), scale(this.north, Math.sin(yaw)));
    const forward = add(scale(level, Math.cos(pitch)), scale(this.up, Math.sin(pitch)));
    const right = normalize(cross(level, this.up));
    return { yaw, pitch, forward, level, right, up: cross(right, forward) };
  }

  matrix({ yaw, pitch, roll }, origin) {
    const { forward, right, up } = this.basis(yaw, pitch);
    const c = Math.cos(roll);
    const s = Math.sin(roll);
    const tilted = add(scale(right, c), scale(up, s));
    return fromColumns(tilted, add(scale(up, c), scale(right, -s)), scale(forward, -1), origin);
  }
}

// Pixel lens of a render target: 1/fx, 1/fy, cx, cy with the origin in the lower left corner.
// `lens` may hold cx, cy and fx, fy as fractions of the width and height, measured from the upper left corner.
export function pixelLens(width, height, fovDegrees, lens) {
  const focal = height / 2 / Math.tan((fovDegrees * Math.PI) / 360);
  const fx = lens?.fx ? lens.fx * width : focal;
  const fy = lens?.fy ? lens.fy * height : focal;
  return [1 / fx, 1 / fy, (lens?.cx ?? 0.5) * width, (1 - (lens?.cy ?? 0.5)) * height];
}

// Rotation of the camera as a column-major 3x3 in viewer axes, ready for uniformMatrix3fv.
export function viewerRotation(m) {
  return new Float32Array([0, 1, 2].flatMap((i) => swapAxes(column(m, i))));
}

// Rotation of a camera as a quaternion x, y, z, w of length one.
export function toQuaternion(m) {
  const [a, b, c] = [m[0], m[5], m[10]];
  // The largest of the four squares keeps the division well away from zero.
  const squares = [1 + a - b - c, 1 - a + b - c, 1 - a - b + c, 1 + a + b + c];
  const largest = squares.indexOf(Math.max(...squares));
  const s = 2 * Math.sqrt(squares[largest]);
  const [yz, zx, xy] = [m[9] - m[6], m[2] - m[8], m[4] - m[1]];
  const [xy2, zx2, yz2] = [m[1] + m[4], m[2] + m[8], m[6] + m[9]];
  if (largest === 0) return [s / 4, xy2 / s, zx2 / s, yz / s];
  if (largest === 1) return [xy2 / s, s / 4, yz2 / s, zx / s];
  if (largest === 2) return [zx2 / s, yz2 / s, s / 4, xy / s];
  return [yz / s, zx / s, xy / s, s / 4];
}

// Camera matrix of a quaternion of any length and a place.
export function fromQuaternion(q, origin) {
  const size = Math.hypot(...q) || 1;
  const [x, y, z, w] = q.map((value) => value / size);
  return [
    1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w), origin[0],
    2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w), origin[1],
    2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y), origin[2],
    0, 0, 0, 1,
  ];
}

// Vertical field of view in degrees of a lens with `height` and `fy` in pixels.
export function verticalFov({ height, fy }) {
  return (Math.atan((0.5 * height) / fy) * 360) / Math.PI;
}

// What cameras look at together: the point nearest to all their axes, and their median distance from it.
// Null for fewer than two cameras, or where all look the same way.
export function commonTarget(matrices) {
  const sum = Array.from({ length: 3 }, () => [0, 0, 0, 0]);
  for (const m of matrices) {
    const axis = column(m, 2);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) {
        const part = (i === j ? 1 : 0) - axis[i] * axis[j];
        sum[i][j] += part;
        sum[i][3] += part * position(m)[j];
      }
    }
  }
  const minor = (c) => dot(cross(c(0), c(1)), c(2));
  const at = (j) => sum.map((row) => row[j]);
  const whole = minor(at);
  if (matrices.length < 2 || Math.abs(whole) < 1e-6 * matrices.length ** 3) return null;
  const point = [0, 1, 2].map((k) => minor((j) => at(j === k ? 3 : j)) / whole);
  const distances = matrices.map((m) => length(subtract(position(m), point))).sort((a, b) => a - b);
  return { point, distance: distances[distances.length >> 1] };
}
