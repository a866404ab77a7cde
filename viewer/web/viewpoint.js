// @ts-check
// Where a scene opens, and the rays of a camera.

import { chooseStart } from "./region.js";
import { add, column, length, lookAt, normalize, pixelLens, position, scale, subtract, swapAxes } from "./camera.js";

const DEFAULT_FOV = 40;

/**
 * The camera of the address, else that of the scene, else the centre of its first submodel.
 * @returns {{ matrix: number[], fov: number, target: number[] | null }}
 */
export function startView(scene, settings, { clientWidth, clientHeight }) {
  const aspect = clientWidth / Math.max(1, clientHeight);
  const covered = chooseStart(scene.region, aspect || 1);
  const start = covered ?? scene.startCamera;
  const fov = settings.fov ?? covered?.fov ?? widened(start?.fov ?? DEFAULT_FOV, aspect);
  const centre = scene.centre(scene.entry);
  const matrix = start?.matrix ?? lookAt(centre, add(centre, swapAxes([0, 0, 1])), [0, 0, 1]);
  if (!settings.pos && !settings.look) return { matrix, fov, target: start?.target ?? null };
  const from = settings.pos ?? position(matrix);
  // A target where the camera stands is none.
  const target = settings.look && length(subtract(settings.look, from)) > 1e-6 ? settings.look : null;
  const ahead = target ?? subtract(from, column(matrix, 2));
  return { matrix: lookAt(from, ahead, settings.up ?? [0, 0, 1]), fov, target };
}

// A scene starts wider on an upright canvas, half-way to what it shows across a square one.
function widened(fovDegrees, aspect) {
  return (Math.atan(Math.tan((fovDegrees * Math.PI) / 360) / Math.sqrt(Math.min(1, aspect) || 1)) * 360) / Math.PI;
}

// Unit direction through a point of the canvas, in fractions from its upper left corner.
export function rayThrough({ matrix: m, fov, lens }, { width, height }, u, v) {
  const [ix, iy, cx, cy] = pixelLens(width, height, fov, lens);
  const [x, y] = [(u * width - cx) * ix, ((1 - v) * height - cy) * iy];
  return normalize(subtract(add(scale(column(m, 0), x), scale(column(m, 1), y)), column(m, 2)));
}
