// @ts-check
// Frame times of cameras at full detail, and what the march counts along their rays.

import { parseMatrix, verticalFov } from "./camera.js";

// Draws every camera `frames` times and waits for the GPU after each. Options, or only the number of frames: cameras, a
// list of { matrix, fov } (default: those of the test photos); defines for the shaders (viewer/shaders/README.md), where
// COUNT = 1 gives counts per ray instead of times.
export async function benchmark(viewer, options = {}) {
  await viewer.whenFinished();
  /** @type {{ frames?: number, defines?: Record<string, any>, cameras?: { matrix: any, fov: number }[] }} */
  const given = typeof options === "object" ? options : { frames: options };
  const { frames = 10, defines = {}, cameras = testCameras(viewer) } = given;
  const { renderer, near } = viewer;
  const results = [];
  let target = null;
  renderer.extra = defines;
  try {
    if (Object.keys(defines).length) viewer.prepare();
    for (const { matrix, fov } of cameras) {
      const camera = { matrix: parseMatrix(matrix), fov, near, lens: null };
      // Every camera is rendered with the submodel of its place.
      if (viewer.scene.count > 1) await goTo(viewer, camera);
      target = renderer.target("benchmark", ...viewer.fullSize());
      results.push(await measure(renderer, target, viewer.submodels.shown, camera, defines.COUNT ? 0 : frames));
      await new Promise((resolve) => setTimeout(resolve));
    }
  } finally {
    renderer.extra = {};
    if (Object.keys(defines).length) viewer.prepare();
    viewer.redraw();
  }
  const all = results.flatMap(({ times }) => times).sort((a, b) => a - b);
  return {
    width: target.width, height: target.height, frames, meanMs: mean(all), frameMs: all,
    cameraMs: results.map(({ times }) => mean(times)),
    counts: defines.COUNT ? results.map(({ counts }) => counts) : null,
  };
}

function testCameras(viewer) {
  const tests = (viewer.scene.assets.manifest?.cameras ?? []).filter((camera) => camera.split === "test");
  if (!tests.length) return [{ matrix: viewer.controls.matrix, fov: viewer.fov }];
  return tests.map(({ world_from_cam: matrix, intrinsics }) => ({ matrix, fov: verticalFov(intrinsics) }));
}

function goTo(viewer, { matrix, fov }) {
  viewer.setCamera(matrix, fov);
  return viewer.whenFinished();
}

// The canvas takes part, as it does for people.
async function measure(renderer, target, level, camera, frames) {
  const times = [];
  for (let i = -1; i < frames; i++) {
    const since = performance.now();
    renderer.draw(target, level, camera);
    if (frames) renderer.present(target);
    await renderer.finish(target);
    if (i >= 0) times.push(performance.now() - since);
  }
  return { times, counts: frames ? null : meansOf(await renderer.counts(target)) };
}

// Means over all rays of what each has counted.
function meansOf(values) {
  const of = (channel) => values.reduce((sum, value, i) => sum + (i % 4 === channel ? value : 0), 0) / (values.length / 4);
  return { iterations: of(0), samples: of(1), colourSamples: of(2), fetches: of(3) };
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
