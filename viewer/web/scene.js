// @ts-check
// What a scene is on disk: finds its files, reads the parameters, tells which submodel serves a camera.
// The format is the official SMERF asset layout; manifest.json beside the submodel folders is our addition.

import { Assets, LoadError } from "./assets.js";
import { Appearance } from "./appearance.js";
import { checkFov, parseMatrix, swapAxes } from "./camera.js";
import { t } from "./language.js";
import { readObjects } from "./objects.js";
import { readParams } from "./params.js";
import { checkHost } from "./policy.js";
import { readRegion } from "./region.js";
import { textureBytes } from "./submodel.js";

const FORMAT_MAJOR = 1;
// Opens the scene at `address`: a folder with manifest.json, or one submodel folder (then siblings are found by name).
// `overrides` replace keys of scene_params.json.
export async function openScene(address, progress, overrides = {}) {
  const base = new URL(address.endsWith("/") ? address : `${address}/`, document.baseURI);
  const name = base.pathname.split("/").filter(Boolean).pop() ?? "";
  const trouble = (text) => progress?.onTrouble(text);
  if (globalThis.smerfEmbeddedFiles) {
    const assets = new Assets(base);
    if (assets.lists("manifest.json")) assets.manifest = await assets.json("manifest.json");
    return openFolder(assets, firstFolder(assets.embedded), progress, overrides);
  }
  checkHost(base);
  if (/^sm_\d{3}$/.test(name)) {
    return openFolder(new Assets(new URL("../", base), null, trouble), `${name}/`, progress, overrides);
  }
  const assets = new Assets(base, null, trouble);
  try {
    assets.manifest = await assets.json("manifest.json", progress);
  } catch (error) {
    if (!error.status) throw error;
    progress?.forget("manifest.json");
    return openFolder(assets, "", progress, overrides);
  }
  const { version, files } = assets.manifest;
  if (version !== undefined && Number.parseInt(version, 10) > FORMAT_MAJOR) {
    throw new LoadError(t("The scene has format version {version}, which is newer than this viewer.", { version }));
  }
  return openFolder(assets, firstFolder(files ?? {}), progress, overrides);
}

function firstFolder(files) {
  const entry = Object.keys(files).filter((path) => /^([^/]*\/)?scene_params\.json$/.test(path)).sort()[0];
  if (!entry) throw new LoadError("manifest.json lists no scene_params.json.");
  return entry.slice(0, entry.length - "scene_params.json".length);
}

async function openFolder(assets, folder, progress, overrides) {
  const file = `${folder}scene_params.json`;
  const params = readParams({ ...(await assets.json(file, progress)), ...overrides }, file);
  const scene = new Scene(assets, folder, params, overrides);
  await scene.network(scene.entry, progress);
  return scene;
}

export class Scene {
  constructor(assets, folder, params, overrides = {}) {
    this.assets = assets;
    this.overrides = overrides;
    this.folder = folder;
    this.params = params;
    this.count = params.num_local_submodels;
    this.regions = Math.round(Math.cbrt(params.num_submodels));
    this.hasCoarseSum = params.merge_features_combine_op === "coarse_sum";
    this.entry = this.count > 1 ? params.sm_to_params[params.submodel_idx] : 0;
    /** Its widths are those of every network. @type {Appearance | null} */
    this.widths = null;
    this.region = readRegion(assets.manifest?.region);
    const { list, problems } = readObjects(assets.manifest?.objects);
    /** Without any the files that say whose a voxel is are not fetched. */
    this.objects = list;
    this.problems = problems;
    this.known = new Map();
    this.networks = new Map();
  }

  // The appearance network of submodel k and its index there: { appearance, index }. It lies beside the coarse level,
  // or with all others in the folder that was opened.
  network(k, progress, signal) {
    const own = `${this.submodelFolder(k)}coarse/`;
    const hasOwn = ["", ".gz"].some((tail) => this.assets.lists(`${own}deferred_mlp.json${tail}`));
    const key = hasOwn ? k : "shared";
    if (!this.networks.has(key)) {
      const folder = hasOwn ? own : this.folder;
      const isSeparate = hasOwn || this.params.export_store_deferred_mlp_separately;
      const file = `${folder}${isSeparate ? "deferred_mlp" : "scene_params"}.json`;
      const content = isSeparate ? this.assets.json(file, progress, signal) : Promise.resolve(this.params.deferred_mlp);
      const made = content.then((network) => this.#appearance(network, hasOwn ? 1 : this.count, file));
      made.catch(() => this.networks.delete(key));
      this.networks.set(key, made);
    }
    return this.networks.get(key).then((appearance) => ({ appearance, index: hasOwn ? 0 : k }));
  }

  #appearance(content, count, file) {
    if (!content) throw new LoadError(`${file} holds no appearance network.`);
    const made = new Appearance(content, count, file);
    const inputs = (this.hasCoarseSum ? 14 : 7) + 27;
    if (made.inputs !== inputs) {
      throw new LoadError(`${file}: the appearance network takes ${made.inputs} inputs where the scene gives ${inputs}.`);
    }
    this.widths ??= made;
    if (made.weightCount !== this.widths.weightCount) throw new LoadError(`${file}: the appearance networks differ in width.`);
    return made;
  }

  // Whether this viewer fetches the named file of a submodel folder (test frames and coarse occupancy are left out).
  reads(name) {
    if (/^object_ids_/.test(name)) return this.objects.length > 0;
    return /^(sparse_grid_|plane_|occupancy_grid_8_|distance_grid_8_|(known|solid)_grid\.)/.test(name);
  }

  // Announces the files of one level to the progress, as far as the manifest knows them.
  expect(k, isCoarse, progress) {
    const folder = isCoarse ? this.coarseFolder(k) : this.submodelFolder(k);
    for (const [path, { bytes }] of Object.entries(this.assets.manifest?.files ?? {})) {
      if (path.startsWith(folder) && this.reads(path.slice(folder.length))) progress?.expect(path, bytes);
    }
  }

  /** Where the scene opens. @returns {{ matrix: number[], fov: number | undefined, target: number[] | null } | null} */
  get startCamera() {
    const { start } = this.assets.manifest ?? {};
    if (!start) return null;
    try {
      const { fov_degrees: fov, look_at: target = null } = start;
      checkFov(fov);
      return { matrix: parseMatrix(start.world_from_cam), fov, target };
    } catch {
      throw new LoadError("manifest.json: start is not a camera.");
    }
  }

  // Centre of the region of submodel k in training axes.
  centre(k) {
    const n = this.regions;
    const linear = this.params.params_to_sm[k];
    const index = [Math.floor(linear / (n * n)), Math.floor(linear / n) % n, linear % n];
    return index.map((i) => ((i + 0.5) * 2) / n - 1);
  }

  // Submodel that serves a camera at p (training axes); null where none was trained.
  submodelAt(p) {
    if (this.count <= 1) return 0;
    const n = this.regions;
    const [x, y, z] = p.map((v) => Math.max(0, Math.min(n - 1, Math.floor(((v + 1) / 2) * n))));
    const k = this.params.sm_to_params[(x * n + y) * n + z];
    return k >= 0 ? k : null;
  }

  submodelFolder(k) {
    if (this.count <= 1 || k === this.entry) return this.folder;
    return `sm_${String(this.params.params_to_sm[k]).padStart(3, "0")}/`;
  }

  // Folder of the coarse level of submodel k; null where there is none.
  coarseFolder(k) {
    const folder = `${this.submodelFolder(k)}coarse/`;
    return this.assets.lists(`${folder}scene_params.json`) ? folder : null;
  }

  // Whether what no photo supports fades away.
  get fades() {
    return this.region !== null && this.params.deferred_rendering_mode !== "vfr";
  }

  // The files of the known region of submodel k, which serve both of its levels; null where there is none.
  knownFiles(k) {
    if (!this.region) return null;
    const { export_array_format: extension, triplane_resolution: texels } = this.params;
    return { folder: this.submodelFolder(k), extension, cells: this.region.cells, solidCells: Math.ceil(texels / 8) };
  }

  // Parameters of one level of submodel k.
  async levelParams(k, isCoarse, progress, signal) {
    if (k === this.entry && !isCoarse) return this.params;
    const folder = isCoarse ? this.coarseFolder(k) : this.submodelFolder(k);
    if (!this.known.has(folder)) {
      const file = `${folder}scene_params.json`;
      const given = await this.assets.json(file, progress, signal);
      this.known.set(folder, readParams({ ...given, ...this.overrides }, file));
    }
    return this.known.get(folder);
  }

  // Texture bytes of a level as far as its parameters have been read; 0 before.
  knownBytes(k, isCoarse) {
    const folder = isCoarse ? this.coarseFolder(k) : this.submodelFolder(k);
    const params = k === this.entry && !isCoarse ? this.params : this.known.get(folder);
    return params ? textureBytes(params, this.objects.length > 0) : 0;
  }

  // Distance of p from the region of submodel k, in region edges and along the largest axis; 0 inside.
  regionsAway(k, p) {
    const centre = this.centre(k);
    return Math.max(0, ...p.map((v, i) => (Math.abs(v - centre[i]) * this.regions) / 2 - 0.5));
  }

  // Camera of submodel k: position in its space (viewer axes) and in its region (training axes, [-1, 1] inside).
  placeIn(k, p) {
    const local = p.map((v, i) => v - this.centre(k)[i]);
    return {
      position: swapAxes(local).map((v) => v * this.params.submodel_scale),
      region: local.map((v) => v * this.regions),
    };
  }

  // Constants that the shaders are compiled with; p: the parameters of a level.
  defines(p) {
    const float = (x) => (Number.isInteger(x) ? `${x}.0` : `${x}`);
    return {
      TRIPLANE_RESOLUTION: p.triplane_resolution,
      SPARSE_RESOLUTION: p.sparse_grid_resolution,
      BLOCK_SIZE: p.data_block_size,
      GRID_RESOLUTION: Math.ceil(p.triplane_resolution / 8),
      STEP_MULTIPLIER: 1,
      MAX_STEPS: Math.ceil(Math.SQRT2 * p.triplane_resolution),
      RANGE_FEATURES_MIN: `(${float(p.range_features[0])})`,
      RANGE_FEATURES_MAX: `(${float(p.range_features[1])})`,
      RANGE_DENSITY_MIN: `(${float(p.range_density[0])})`,
      RANGE_DENSITY_MAX: `(${float(p.range_density[1])})`,
      FEATURE_GATING: p.feature_gating ? 1 : 0,
      COARSE_SUM: this.hasCoarseSum ? 1 : 0,
      VFR: p.deferred_rendering_mode === "vfr" ? 1 : 0,
      ACTIVATION_ELU: p.activation === "elu" ? 1 : 0,
      HIDDEN_1: this.widths.hidden1,
      HIDDEN_2: this.widths.hidden2,
      WEIGHT_COUNT: this.widths.weightCount,
    };
  }
}
