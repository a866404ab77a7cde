// @ts-check
// What scripts and embedding pages may do with a scene: the verbs of bridge.js.

import { publish } from "./bridge.js";
import { parseMatrix } from "./camera.js";
import { parsePath, pathJson } from "./path.js";
import { QUALITIES } from "./quality.js";
import { MODES } from "./region.js";
import { picture } from "./sharing.js";

/** @param {import("./viewer.js").Viewer} viewer */
export function publishScene(viewer) {
  const verbs = {
    // cameraToWorld: 12 or 16 numbers, rows, OpenGL axes in training space; fovDegrees: vertical.
    // lens (optional): { cx, cy, fx, fy } as fractions of the image size, from its upper left corner.
    async setCamera(cameraToWorld, fovDegrees, lens = null) {
      await viewer.opened;
      viewer.setCamera(cameraToWorld, fovDegrees, lens);
      await viewer.whenFinished();
    },
    getCamera: () => viewer.getCamera(),
    stats: () => viewer.stats(),
    benchmark: (frames) => viewer.benchmark(frames),
    // Flies there, as people would; resolves when the flight has begun.
    async flyTo(cameraToWorld, fovDegrees) {
      await viewer.opened;
      viewer.flyTo({ matrix: parseMatrix(cameraToWorld), fov: fovDegrees ?? viewer.fov });
    },
    async reset() {
      await viewer.opened;
      viewer.home();
    },
    async setMode(mode) {
      await viewer.opened;
      if (!MODES.includes(mode)) throw new Error(`mode must be one of ${MODES.join(", ")}.`);
      viewer.setMode(mode);
    },
    async setQuality(name) {
      await viewer.opened;
      if (!QUALITIES.includes(name)) throw new Error(`quality must be one of ${QUALITIES.join(", ")}.`);
      viewer.setQuality(name);
    },
    // A camera path in nerfstudio's JSON, or null to take it away.
    async setPath(json) {
      await viewer.opened;
      const path = json === null ? null : parsePath(json, "The path");
      viewer.tools.path.take(path);
    },
    getPath() {
      const path = viewer.journey?.path;
      return path ? pathJson(path, viewer.canvas.width, viewer.canvas.height) : null;
    },
    async play(isPlaying = true) {
      await viewer.opened;
      if (!viewer.journey.path) throw new Error("There is no camera path to play; setPath gives one.");
      viewer.journey.play(!!isPlaying);
    },
    // Notes and distances as annotations.json holds them.
    async setAnnotations(json) {
      await viewer.opened;
      viewer.tools.notes.take(json, "The file");
    },
    async getAnnotations() {
      await viewer.opened;
      return viewer.tools.notes.json();
    },
    async openAnnotation(index) {
      await viewer.opened;
      viewer.tools.notes.open(index);
    },
    // What scripts hide and light, by names or ids; 0 is everything that belongs to no object. Left out: as it was.
    async setObjects(given) {
      await viewer.opened;
      viewer.tools.objects.set(given ?? {});
      await viewer.whenFinished();
    },
    async getObjects() {
      await viewer.opened;
      return viewer.tools.objects.get();
    },
    // Selects an object by its name or id, and flies there; null selects none.
    async selectObject(given) {
      await viewer.opened;
      viewer.tools.objects.select(given);
    },
    // { id, name } of what is seen at (u, v) of the canvas; null where there is no object.
    async objectAt(u, v) {
      await viewer.opened;
      return viewer.tools.objects.objectAt(u, v);
    },
    // Where the rays through (u, v) of the canvas meet the scene; fractions from its upper left corner.
    async pick(u, v) {
      await viewer.opened;
      return viewer.pick(u, v);
    },
    // What the click does on a page with embed=1.
    start: () => viewer.embedding?.start(),
    // The finished image of the moment as a PNG.
    async picture() {
      await viewer.opened;
      return picture(viewer);
    },
  };
  publish(verbs, () => viewer.whenFinished(), ["picture", "benchmark"]);
}
