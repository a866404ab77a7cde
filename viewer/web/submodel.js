// @ts-check
// Loads one level of a submodel into GPU textures. Files are packed and uploaded one slice at a time, so host memory stays small.
//
// Two RGBA8 groups per sample, for the atlas and the planes alike:
//   density: density, feature 3, feature 0, feature 1      colour: red, green, blue, feature 2

import { LoadError } from "./assets.js";
import { breathe, isTimeUp } from "./breathe.js";
import { t } from "./language.js";
import { TEXEL_BYTES } from "./textures.js";

const MAX_GRID_FILE_EDGE = 256;
const GRID_SLICES = 8;
const PACK_STEP = 1 << 15;

// Texture bytes of a submodel with these parameters; `hasObjects`: of a scene whose voxels belong to objects.
export function textureBytes(params, hasObjects = false) {
  const texels = 3 * params.triplane_resolution ** 2;
  const voxels = params.atlas_width * params.atlas_height * params.atlas_depth;
  const blocks = (params.sparse_grid_resolution / params.data_block_size) ** 3;
  return 8 * texels + (hasObjects ? 9 : 8) * voxels + 4 * blocks + 2 * Math.ceil(params.triplane_resolution / 8) ** 3;
}

// Loads the arrays in `folder`, and the known region of the submodel, and uploads them over several frames.
export async function loadTextures(uploads, scene, folder, params, known, progress, signal) {
  checkLimits(uploads.textures.limits, params);
  const loader = new Loader(uploads, scene.assets, folder, params, progress, signal);
  const parts = [loader.blocks(), loader.grids(), loader.planes(), loader.atlas(), loader.known(known)];
  if (scene.objects.length) parts.push(loader.objects());
  try {
    await Promise.all(parts);
    signal.throwIfAborted();
  } catch (error) {
    loader.dispose();
    throw error;
  }
  return {
    textures: loader.textures,
    region: loader.region,
    solid: loader.solid,
    atlasSize: [params.atlas_width, params.atlas_height, params.atlas_depth],
    bytes: loader.bytes,
    dispose: () => loader.dispose(),
  };
}

/** Throws where a level is too large for a device. @param {{ volume: number, plane: number }} limits */
export function checkLimits({ volume, plane }, params) {
  const edge = Math.max(params.atlas_width, params.atlas_height, params.atlas_depth, Math.ceil(params.triplane_resolution / 8));
  if (edge > volume) throw tooLarge(volume, edge);
  if (params.triplane_resolution > plane) {
    throw tooLarge(plane, params.triplane_resolution);
  }
}

function tooLarge(max, needed) {
  return new LoadError(t("This device allows textures of {max} pixels an edge; the scene needs {needed}.", { max, needed }));
}

class Loader {
  constructor(uploads, assets, folder, params, progress, signal) {
    this.uploads = uploads;
    this.assets = assets;
    this.folder = folder;
    this.params = params;
    this.progress = progress;
    this.signal = signal;
    /** @type {Record<string, any>} */
    this.textures = {};
    this.bytes = 0;
    /** What the controls read of it on the processor. @type {{ cells: number, data: Uint8Array } | null} */
    this.region = null;
    /** @type {{ cells: number, data: Uint8Array } | null} */
    this.solid = null;
    this.isDisposed = false;
  }

  array(name, shape) {
    return this.assets.array(this.folder + name, this.params.export_array_format, shape, this.progress, this.signal);
  }

  // Whether the manifest says that the level has no such array.
  isMissing(name) {
    const file = `${this.folder}${name}.${this.params.export_array_format.replace(".gz", "")}`;
    return ["", ".gz"].every((tail) => this.assets.lists(`${file}${tail}`) === false);
  }

  texture(name, format, size, isVolume = true) {
    const texture = this.uploads.textures.create(format, size, isVolume);
    this.textures[name] = texture;
    this.bytes += size[0] * size[1] * size[2] * TEXEL_BYTES[format];
    return texture;
  }

  async upload(texture, z, size, data) {
    await this.uploads.texture(texture, z, size, data, () => this.isDisposed || this.signal.aborted);
    this.signal.throwIfAborted();
  }

  // The three stored arrays of one grid or plane, whatever their grouping on disk.
  async groups(prefix, suffix, width, height, gateWithDensity) {
    const count = width * height;
    const array = (/** @type {string} */ name, /** @type {number} */ channels) =>
      this.array(`${prefix}_${name}_${suffix}`, { width, height, channels });
    if (!this.params.export_store_rgb_and_density_separately) {
      const [joint, features] = await Promise.all([
        array("rgb_and_density", 4),
        array("features", 4),
      ]);
      return pack(count, [joint, 4, 3], [features, 4, 3], [features, 4], [joint, 4]);
    }
    const [rgb, features, density] = await Promise.all([
      array("rgb", 3),
      array("features", gateWithDensity ? 3 : 4),
      array("density", gateWithDensity ? 2 : 1),
    ]);
    if (gateWithDensity) return pack(count, [density, 2, 0], [density, 2, 1], [features, 3], [rgb, 3]);
    return pack(count, [density, 1, 0], [features, 4, 3], [features, 4], [rgb, 3]);
  }

  async atlas() {
    const { params } = this;
    const size = [params.atlas_width, params.atlas_height, params.atlas_depth];
    const depth = params.atlas_depth / params.num_slices;
    const density = this.texture("atlas_density", "rgba8", size);
    const colour = this.texture("atlas_colour", "rgba8", size);
    const slab = [size[0], size[1], depth];
    const slice = async (i) => {
      const packed = await this.groups("sparse_grid", String(i).padStart(3, "0"), slab[0], slab[1] * depth, true);
      await this.upload(density, i * depth, slab, packed.density);
      await this.upload(colour, i * depth, slab, packed.colour);
    };
    await this.slices(slice);
  }

  // Whose each voxel of the atlas is, in a scene that names objects.
  async objects() {
    const { params } = this;
    if (this.isMissing("object_ids_000")) return;
    const size = [params.atlas_width, params.atlas_height, params.atlas_depth];
    const depth = params.atlas_depth / params.num_slices;
    const ids = this.texture("atlas_ids", "r8ui", size);
    await this.slices(async (i) => {
      const shape = { width: size[0], height: size[1] * depth, channels: 1 };
      const data = await this.array(`object_ids_${String(i).padStart(3, "0")}`, shape);
      await this.upload(ids, i * depth, [size[0], size[1], depth], data);
    });
  }

  // A few slices in flight bound the memory of fetched files that wait for their partners.
  async slices(load) {
    let next = 0;
    const worker = async () => {
      while (next < this.params.num_slices) await load(next++);
    };
    await Promise.all([worker(), worker(), worker()]);
  }

  async planes() {
    const { params } = this;
    const t = params.triplane_resolution;
    const density = this.texture("planes_density", "rgba8", [t, t, 3], false);
    const colour = this.texture("planes_colour", "rgba8", [t, t, 3], false);
    for (let i = 0; i < 3; i++) {
      const packed = await this.groups("plane", String(i), t, t, false);
      await this.upload(density, i, [t, t, 1], packed.density);
      await this.upload(colour, i, [t, t, 1], packed.colour);
    }
  }

  async blocks() {
    const { params } = this;
    const n = params.sparse_grid_resolution / params.data_block_size;
    const slots = await this.array("sparse_grid_block_indices", { width: n, height: n * n, channels: 3 });
    const padded = new Uint8Array(4 * n ** 3);
    for (let i = 0; i < n ** 3; i++) {
      for (let c = 0; c < 3; c++) padded[4 * i + c] = slots[3 * i + c];
    }
    const texture = this.texture("blocks", "rgba8ui", [n, n, n]);
    await this.upload(texture, 0, [n, n, n], padded);
  }

  async grids() {
    const { params } = this;
    const n = Math.ceil(params.triplane_resolution / 8);
    const occupancy = await this.grid("occupancy_grid_8", n);
    // A plain 0/1 grid carries no child bits.
    if (occupancy.every((byte) => byte <= 1)) occupancy.forEach((byte, i) => (occupancy[i] = 255 * byte));
    const isLegacy = params.legacyGrids || params.useDistanceGrid === false;
    const isMissing = this.isMissing(this.gridFiles("distance_grid_8", n)[0]);
    const stored = isLegacy || isMissing ? null : await this.grid("distance_grid_8", n).catch(absentAsNull);
    const distance = stored ?? (await distancesOf(occupancy, n));
    const both = new Uint8Array(2 * n ** 3);
    for (let i = 0; i < n ** 3; i++) {
      both[2 * i] = distance[i];
      both[2 * i + 1] = occupancy[i];
    }
    const texture = this.texture("occupancy", "rg8ui", [n, n, n]);
    await this.upload(texture, 0, [n, n, n], both);
  }

  // The known region: a texture, and on the processor what the controls read.
  async known(files) {
    if (!files) return;
    const { assets } = this;
    const { folder, extension, cells: n, solidCells: m } = files;
    const load = (name, edge, channels) =>
      assets.array(folder + name, extension, { width: edge, height: edge * edge, channels }, this.progress, this.signal);
    const [known, solid] = await Promise.all([load("known_grid", n, 4), load("solid_grid", m, 1)]);
    const texture = this.texture("known", "rgba8", [n, n, n]);
    await this.upload(texture, 0, [n, n, n], known);
    this.region = { cells: n, data: known };
    this.solid = { cells: m, data: solid };
  }

  gridFiles(name, n) {
    if (this.params.legacyGrids || this.params.export_slice_occupancy_and_distance_grids === false) return [name];
    const count = n > MAX_GRID_FILE_EDGE ? GRID_SLICES : 1;
    return Array.from({ length: count }, (_, i) => `${name}_${String(i).padStart(3, "0")}`);
  }

  async grid(name, n) {
    const files = this.gridFiles(name, n);
    const channels = this.params.export_pad_occupancy_and_distance_grids ? 4 : 1;
    const out = new Uint8Array(n ** 3);
    const each = n ** 3 / files.length;
    await Promise.all(
      files.map(async (file, i) => {
        const data = await this.array(file, { width: n, height: each / n, channels });
        for (let j = 0; j < each; j++) out[i * each + j] = data[channels * j + channels - 1];
      }),
    );
    return out;
  }

  dispose() {
    this.isDisposed = true;
    for (const texture of Object.values(this.textures)) this.uploads.textures.free(texture);
    this.textures = {};
  }
}

function absentAsNull(error) {
  if (error.status === 404) return null;
  throw error;
}

// Arguments are [array, channels per entry, channel] for single values, [array, channels per entry] for groups.
async function pack(count, [d, dn, di], [g, gn, gi], [f, fn], [c, cn]) {
  const density = new Uint8Array(4 * count);
  const colour = new Uint8Array(4 * count);
  for (let start = 0; start < count; start += PACK_STEP) {
    if (isTimeUp()) await breathe();
    for (let i = start; i < Math.min(count, start + PACK_STEP); i++) {
      const at = 4 * i;
      density[at] = d[dn * i + di];
      density[at + 1] = g[gn * i + gi];
      density[at + 2] = f[fn * i];
      density[at + 3] = f[fn * i + 1];
      colour[at] = c[cn * i];
      colour[at + 1] = c[cn * i + 1];
      colour[at + 2] = c[cn * i + 2];
      colour[at + 3] = f[fn * i + 2];
    }
  }
  return { density, colour };
}

// Chebyshev distance to the nearest occupied cell minus one. Two sweeps over the 13 neighbours that a sweep has
// already passed are exact for this metric.
export async function distancesOf(occupancy, n) {
  const out = occupancy.map((byte) => (byte ? 0 : 255));
  const plane = n * n;
  for (const side of [1, -1]) {
    for (let step = 0; step < n ** 3; step++) {
      if (step % n === 0 && isTimeUp()) await breathe();
      const i = side > 0 ? step : n ** 3 - 1 - step;
      let best = out[i];
      if (best === 0) continue;
      const x = i % n;
      const y = Math.floor(i / n) % n;
      const z = Math.floor(i / plane);
      for (let dz = -1; dz <= 0; dz++) {
        const w = z + side * dz;
        if (w < 0 || w >= n) continue;
        for (let dy = -1; dy <= (dz < 0 ? 1 : 0); dy++) {
          const v = y + side * dy;
          if (v < 0 || v >= n) continue;
          const last = dz < 0 || dy < 0 ? 1 : -1;
          for (let dx = -1; dx <= last; dx++) {
            const u = x + side * dx;
            if (u >= 0 && u < n) best = Math.min(best, out[w * plane + v * n + u] + 1);
          }
        }
      }
      out[i] = best;
    }
  }
  return out.map((distance) => (distance ? distance - 1 : 0));
}
