// @ts-check
// scene_params.json: checked key by key, since a scene may come from anywhere; what is optional gets its default.

import { LoadError } from "./assets.js";

const MAX_EDGE = 8192;
const SIZES = [
  "triplane_resolution", "sparse_grid_resolution", "data_block_size", "atlas_width", "atlas_height", "atlas_depth", "num_slices",
];
const CHOICES = {
  activation: ["elu", "relu"],
  deferred_rendering_mode: ["snerg", "vfr"],
  export_array_format: ["png", "raw", "raw.gz"],
};
const DEFAULTS = {
  params_to_sm: [0],
  sm_to_params: [0],
  submodel_idx: 0,
  num_local_submodels: 1,
  num_submodels: 1,
  submodel_scale: 1,
  export_array_format: "png",
  activation: "elu",
  feature_gating: true,
  deferred_rendering_mode: "snerg",
  merge_features_combine_op: "sum",
  export_pad_occupancy_and_distance_grids: true,
};

/**
 * Returns the parameters with defaults for what is left out.
 * @param {Record<string, any>} given
 * @param {string} file name for complaints
 * @returns {Record<string, any>}
 */
export function readParams(given, file) {
  const fail = (/** @type {string} */ reason) => new LoadError(`${file}: ${reason}.`);
  const present = Object.entries(given).filter(([, value]) => value !== null && value !== undefined);
  /** @type {Record<string, any>} */
  const params = { ...DEFAULTS, ...Object.fromEntries(present) };
  const whole = (/** @type {string} */ key, /** @type {number} */ low, /** @type {number} */ high) => {
    const value = params[key];
    if (value === undefined) throw fail(`${key} is missing`);
    if (!Number.isInteger(value) || value < low || value > high) {
      throw fail(`${key} must be a whole number from ${low} to ${high}, not ${JSON.stringify(value)}`);
    }
  };
  for (const key of SIZES) whole(key, 1, MAX_EDGE);
  for (const key of ["range_features", "range_density"]) {
    const range = params[key];
    if (range === undefined) throw fail(`${key} is missing`);
    if (!Array.isArray(range) || range.length !== 2 || !range.every(Number.isFinite) || !(range[0] < range[1])) {
      throw fail(`${key} must be [min, max] with min < max, not ${JSON.stringify(range)}`);
    }
  }
  for (const [key, names] of Object.entries(CHOICES)) {
    if (!names.includes(params[key])) throw fail(`${key} must be one of ${names.join(", ")}, not ${JSON.stringify(params[key])}`);
  }
  const { atlas_depth: depth, num_slices: slices, sparse_grid_resolution: sparse, data_block_size: block } = params;
  if (depth % slices) throw fail(`num_slices ${slices} does not divide atlas_depth ${depth}`);
  if (sparse % block) throw fail(`data_block_size ${block} does not divide sparse_grid_resolution ${sparse}`);
  checkSubmodels(params, whole, fail);
  return params;
}

// Every region has its submodel or -1, and every submodel its region.
function checkSubmodels(params, whole, fail) {
  whole("num_submodels", 1, MAX_EDGE);
  whole("num_local_submodels", 1, params.num_submodels);
  if (!(params.submodel_scale > 0 && Number.isFinite(params.submodel_scale))) {
    throw fail("submodel_scale must be a positive number");
  }
  if (params.num_local_submodels === 1) return;
  if (Math.round(Math.cbrt(params.num_submodels)) ** 3 !== params.num_submodels) throw fail("num_submodels is not a cube");
  whole("submodel_idx", 0, params.num_submodels - 1);
  /** @param {string} key @param {number} length @param {number} low @param {number} end */
  const table = (key, length, low, end) => {
    const values = params[key];
    const isIndex = (/** @type {any} */ value) => Number.isInteger(value) && value >= low && value < end;
    if (!Array.isArray(values) || values.length !== length || !values.every(isIndex)) {
      throw fail(`${key} must list ${length} whole numbers from ${low} to ${end - 1}`);
    }
  };
  table("params_to_sm", params.num_local_submodels, 0, params.num_submodels);
  table("sm_to_params", params.num_submodels, -1, params.num_local_submodels);
}
