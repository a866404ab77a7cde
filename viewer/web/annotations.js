// @ts-check
// Annotations as a file: titles, texts and links at points of the scene, each with the view that shows it; and the
// distances that were measured. docs/format.md describes it; smerf export --annotations puts one into a page.

import { LoadError } from "./assets.js";
import { checkFov, parseMatrix } from "./camera.js";
import { t } from "./language.js";

const FORMAT = "smerf-annotations";
const VERSION = 1;
const MAX = 500;

/**
 * @typedef {{ title: string, text: string, link: string, position: number[],
 *   camera: { matrix: number[], fov: number } | null }} Note
 */

/**
 * Reads the parsed JSON of a file; `name` is for the complaint.
 * @returns {{ notes: Note[], distances: [number[], number[]][], metres: number | null }}
 */
export function parseAnnotations(file, name) {
  const wrong = (reason) => new LoadError(t("{name} is not a file of notes: {reason}.", { name, reason }));
  if (file?.format !== FORMAT || !Array.isArray(file.annotations)) throw wrong(t("its format is another one"));
  if (file.version !== VERSION) throw wrong(t("version {n} is unknown", { n: file.version }));
  if (file.annotations.length > MAX) throw wrong(t("it holds more than {n}", { n: MAX }));
  const point = (value) => {
    const isPoint = Array.isArray(value) && value.length === 3 && value.every(Number.isFinite);
    if (!isPoint) throw wrong(t("a position is not 3 numbers"));
    return value;
  };
  const notes = file.annotations.map((entry) => ({
    title: String(entry.title ?? ""), text: String(entry.text ?? ""), link: safeLink(entry.link),
    position: point(entry.position), camera: entry.camera ? camera(entry.camera, wrong) : null,
  }));
  const distances = (file.measurements ?? []).map(({ from, to }) => [point(from), point(to)]);
  return { notes, distances, metres: file.metres_per_unit > 0 ? file.metres_per_unit : null };
}

function camera({ camera_to_world: matrix, fov }, wrong) {
  try {
    checkFov(fov ?? NaN);
    return { matrix: parseMatrix(matrix), fov };
  } catch {
    throw wrong(t("a camera makes no sense"));
  }
}

// The file of notes and distances, in the space of the scene.
export function annotationsJson(notes, distances, metres) {
  return {
    format: FORMAT,
    version: VERSION,
    metres_per_unit: metres,
    annotations: notes.map(({ title, text, link, position, camera }) => ({
      title, text, link, position, camera: camera && { camera_to_world: camera.matrix, fov: camera.fov },
    })),
    measurements: distances.map(([from, to]) => ({ from, to })),
  };
}

// An address of the web, or nothing: links of a file may come from anyone.
export function safeLink(text) {
  try {
    const url = new URL(String(text ?? ""));
    return /^https?:$/.test(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
}
