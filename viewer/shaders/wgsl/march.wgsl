// march.frag and shade.frag in WGSL: marches one ray per pixel through the baked submodel and evaluates the appearance
// network on what it has blended, both in one invocation, so that nothing between them goes through memory.
//
// o_pixel: the display colour    o_seen: d / (1 + d) of the expected distance d, 0 where nothing was hit; id of the object
// With COUNT o_seen holds iterations, samples, samples with colour and texture fetches of the ray.

#include "wgsl/contract.wgsl"
#include "wgsl/regions.wgsl"

struct Frame {
  camera_rotation: mat3x3f,  // viewer axes from camera axes
  camera_position: vec3f,    // submodel space
  near: f32,                 // submodel units
  lens: vec4f,               // 1/fx, 1/fy, cx, cy in pixels of the target, from its lower left corner
  atlas_size: vec3f,         // voxels
  submodel_scale: f32,       // submodel units per world unit
  background: vec3f,
  occlusion_delay: f32,      // GROWING_STEPS: smoothing of the visibility that enlarges steps; 1 switches it off
  unknown_ahead: vec3f,      // what no photo supports fades into it, by how far up a pixel looks
  log_exposure: f32,         // used with EXPOSURE only
  unknown_above: vec3f,
  unknown_below: vec3f,
  size: vec2u,               // pixels of the target
  rows: vec2u,               // the first and the one behind the last that are drawn, counted from below
  // 256 bits each: that of id i is bit (i & 31) of word i >> 5.
  hidden: array<vec4u, 2>,
  lit: array<vec4u, 2>,
}

@group(0) @binding(0) var<uniform> frame: Frame;
@group(0) @binding(1) var<uniform> u_weights: array<vec4f, WEIGHT_COUNT>;
@group(0) @binding(2) var o_pixel: texture_storage_2d<rgba8unorm, write>;
#if COUNT
@group(0) @binding(3) var o_seen: texture_storage_2d<rgba32float, write>;
#else
@group(0) @binding(3) var o_seen: texture_storage_2d<rg32float, write>;
#endif
@group(1) @binding(0) var u_linear: sampler;
@group(1) @binding(1) var u_atlas_density: texture_3d<f32>;
@group(1) @binding(2) var u_atlas_colour: texture_3d<f32>;
@group(1) @binding(3) var u_planes_density: texture_2d_array<f32>;
@group(1) @binding(4) var u_planes_colour: texture_2d_array<f32>;
@group(1) @binding(5) var u_blocks: texture_3d<u32>;
@group(1) @binding(6) var u_occupancy: texture_3d<u32>;
#if KNOWN_REGION
@group(1) @binding(7) var u_known: texture_3d<f32>;
#endif
#if OBJECTS
@group(1) @binding(8) var u_atlas_ids: texture_3d<u32>;
#endif

const STEP = 4.0 / (f32(TRIPLANE_RESOLUTION) * f32(STEP_MULTIPLIER));
const CELL = 32.0 / f32(TRIPLANE_RESOLUTION);
const SPARSE_VOXEL = 4.0 / f32(SPARSE_RESOLUTION);
const BLOCK = SPARSE_VOXEL * f32(BLOCK_SIZE);
const SKIPS_TOGETHER = 1 + SKIP_TOGETHER * (MAX_STEPS - 1);
const OCCLUSION_STEP = 10.0;
// Sixteen in official scenes, 2048 texels wide; as long a piece in smaller ones is fewer steps.
const LEAST_STEPS = clamp(f32(TRIPLANE_RESOLUTION) / 128.0, 4.0, 16.0);
const COLOUR_THRESHOLD = 0.25 / 255.0;
const VISIBILITY_END = 1.0 / 255.0;

struct Ray {
  origin: vec3f,
  direction: vec3f,  // as far as the near plane
  length: f32,       // of that, in world units
  exits: Exits,
}

// What a ray has met: the inputs of the appearance network, and what else the pixel needs.
struct Blended {
  colour: vec3f,
  visibility: f32,
  features: vec4f,
  coarse_colour: vec3f,
  depth: f32,
  coarse_features: vec4f,
  unknown: f32,
  lit: f32,
}

// Where a ray is. The current piece: g = start + s * direction for s in [0, piece_end], in contracted space with its corner
// at 0. Contraction is projective on a piece: with u falling linearly from 1 to m(enter) / m(exit), where m is the largest
// component in space, the ray has gone reach * s / u behind the piece's beginning.
struct Walk {
  t_exit: f32,
  s: f32,
  piece_end: f32,
  start: vec3f,
  direction: vec3f,
  inverse_direction: vec3f,
  upper: vec3f,  // 1 on the axes on which the ray climbs
  is_first: bool,
  piece_depth: f32,
  reach: f32,
  fall: f32,
  g: vec3f,
  stride: f32,
  average_visibility: f32,
  // Answers of the grids hold until the ray leaves the cell they came from.
  cell_end: f32,
  block_end: f32,
  found_cell: vec3i,
  found: vec2u,
  slot_low: vec3f,
  slot_offset: vec3f,
  is_block_empty: bool,
  steps: i32,
  is_over: bool,
  counts: vec4f,
}

// `count` says how many textures were summed.
fn to_features(bytes: vec4f, count: f32) -> vec4f {
  return count * RANGE_FEATURES_MIN + bytes * (RANGE_FEATURES_MAX - RANGE_FEATURES_MIN);
}

fn to_density(bytes: f32, count: f32) -> f32 {
  return count * RANGE_DENSITY_MIN + bytes * (RANGE_DENSITY_MAX - RANGE_DENSITY_MIN);
}

fn sigmoid(x: vec4f) -> vec4f {
  return 1.0 / (1.0 + exp(-x));
}

#include "wgsl/known.wgsl"
#include "wgsl/objects.wgsl"
#include "wgsl/appearance.wgsl"

// Distance along the ray from g to the far faces of the cell [low, low + size] that holds it.
fn distance_to_exit(walk: ptr<function, Walk>, g: vec3f, low: vec3f, size: f32) -> f32 {
  return max(0.0, min_component((low + size * (*walk).upper - g) * (*walk).inverse_direction));
}

// Goes on to the next piece; sets is_over where there is none.
fn next_piece(walk: ptr<function, Walk>, ray: Ray) {
  let end = (*walk).start + (*walk).piece_end * (*walk).direction - 2.0;
  (*walk).is_over = max_component(abs(end)) >= 2.0 - 0.001;
  if ((*walk).is_over) { return; }
  var t_enter = (*walk).t_exit;
  var t_exit = next_exit(ray.exits, t_enter);
  // Pieces behind the first that are too short (in t) are passed over.
  for (var skipped = 0; skipped < 5 && !(*walk).is_first && t_exit - t_enter <= LEAST_STEPS * (*walk).stride; skipped++) {
    t_enter = t_exit;
    t_exit = next_exit(ray.exits, t_enter);
  }
  (*walk).t_exit = t_exit;
  (*walk).is_over = t_exit >= NO_EXIT;
  if ((*walk).is_over) { return; }
  let axis = slab_axis(ray.origin + 0.5 * (t_enter + t_exit) * ray.direction);
  let enter = ray.origin + t_enter * ray.direction;
  let leave = ray.origin + t_exit * ray.direction;
  let start = contract(enter, axis);
  let piece = contract(leave, axis) - start;
  let piece_end = max(length(piece), 1e-9);
  let direction = piece / piece_end;
  (*walk).start = start + 2.0;
  (*walk).piece_end = piece_end;
  (*walk).direction = direction;
  (*walk).inverse_direction = 1.0 / select(direction, vec3f(1e-9), abs(direction) < vec3f(1e-9));
  (*walk).upper = step(vec3f(0.0), (*walk).inverse_direction);
  var ratio = 1.0;
  if (any(axis != vec3f(0.0))) { ratio = dot(abs(enter), axis) / dot(abs(leave), axis); }
  (*walk).fall = (1.0 - ratio) / piece_end;
  (*walk).reach = ray.length * (t_exit - t_enter) * ratio / piece_end;
  (*walk).piece_depth = ray.length * t_enter;
  (*walk).s = select(0.5 * (*walk).stride, 0.0, (*walk).is_first);
  (*walk).is_first = false;
  (*walk).cell_end = 0.0;
  (*walk).block_end = 0.0;
}

// Whether the ray has skipped the empty cell, or child of a cell, that it is in.
fn skip_cell(walk: ptr<function, Walk>) -> bool {
  let g = (*walk).g;
  let cell = clamp(vec3i(floor(g / CELL)), vec3i(0), vec3i(GRID_RESOLUTION - 1));
  // The children of a cell share its bits.
  if (any(cell != (*walk).found_cell)) {
    (*walk).found_cell = cell;
    (*walk).found = textureLoad(u_occupancy, cell, 0).rg;
    (*walk).counts.w += 1.0;
  }
  let found = (*walk).found;
  if (SKIP_BY_DISTANCE == 1 && found.x > 0u) {
    let around = f32(found.x) * CELL;
    // All cells up to that distance are empty: leave the cube that they form.
    let low = vec3f(cell) * CELL - around;
    let way = distance_to_exit(walk, g, low, 2.0 * around + CELL) + 0.5 * (*walk).stride;
    (*walk).s += select(around, way, SKIP_TO_CUBE == 1);
    return true;
  }
  let child = floor(g / (0.5 * CELL));
  let half_of_cell = clamp(vec3i(child) - 2 * cell, vec3i(0), vec3i(1));
  let bit = u32(4 * half_of_cell.x + 2 * half_of_cell.y + half_of_cell.z);
  let child_end = (*walk).s + distance_to_exit(walk, g, child * 0.5 * CELL, 0.5 * CELL);
  if (SKIP_BY_OCCUPANCY == 1 && ((found.y >> bit) & 1u) == 0u) {
    (*walk).s = child_end + 0.5 * (*walk).stride;
    return true;
  }
  (*walk).cell_end = child_end;
  return false;
}

// Finds the atlas slot of the macroblock that the ray is in.
fn find_block(walk: ptr<function, Walk>) {
  let shifted = (*walk).g - 0.5 * SPARSE_VOXEL;
  let block = clamp(vec3i(floor(shifted / BLOCK)), vec3i(0), vec3i(SPARSE_RESOLUTION / BLOCK_SIZE - 1));
  let slot = textureLoad(u_blocks, block, 0).rgb;
  (*walk).counts.w += 1.0;
  (*walk).is_block_empty = slot.r == 255u;
  (*walk).slot_low = vec3f(slot) * f32(BLOCK_SIZE + 1) + 0.5;
  (*walk).slot_offset = (*walk).slot_low - vec3f(block * BLOCK_SIZE) - 0.5;
  (*walk).block_end = (*walk).s + distance_to_exit(walk, shifted, vec3f(block) * BLOCK, BLOCK);
}

// Skips until there may be something; whether there is. Skips have a loop of their own, so that rays that run side by side
// also sample side by side.
fn find_sample(walk: ptr<function, Walk>, ray: Ray, visibility: f32) -> bool {
  for (var skips = 0; skips < SKIPS_TOGETHER && (*walk).steps < MAX_STEPS; skips++) {
    (*walk).steps++;
    (*walk).counts.x += 1.0;
    if (GROWING_STEPS == 1) {
      let average = mix(visibility, (*walk).average_visibility, frame.occlusion_delay);
      (*walk).average_visibility = average;
      (*walk).stride = STEP * mix(OCCLUSION_STEP, 1.0, sqrt(min(1.0, average / 0.8)));
    }
    if ((*walk).s >= (*walk).piece_end) {
      next_piece(walk, ray);
      if ((*walk).is_over) { return false; }
      continue;
    }
    (*walk).g = (*walk).start + (*walk).s * (*walk).direction;
    if ((*walk).s >= (*walk).cell_end && skip_cell(walk)) { continue; }
    if ((*walk).s >= (*walk).block_end) { find_block(walk); }
    if (!(*walk).is_block_empty) { return true; }
    (*walk).s += (*walk).stride;
  }
  return false;
}

fn fetch_atlas(atlas: texture_3d<f32>, uvw: vec3f) -> vec4f {
  return textureSampleLevel(atlas, u_linear, uvw, 0.0);
}

// Dequantisation is affine, so the bytes of the three planes are summed first.
fn fetch_planes(planes: texture_2d_array<f32>, uvw: vec3f) -> vec4f {
  return textureSampleLevel(planes, u_linear, uvw.yz, 0, 0.0) + textureSampleLevel(planes, u_linear, uvw.xz, 1, 0.0) +
         textureSampleLevel(planes, u_linear, uvw.xy, 2, 0.0);
}

// Adds the colours and features of the sample that the ray is at; `density`: those texels of the atlas and the planes.
fn blend_colour(
  seen: ptr<function, Blended>, weight: f32, gate: f32, atlas: vec3f, uvw: vec3f, sparse_density: vec4f, plane_density: vec4f,
) {
  let sparse_colour = to_features(fetch_atlas(u_atlas_colour, atlas), 1.0);
  let plane_colour = to_features(fetch_planes(u_planes_colour, uvw), 3.0);
  let sparse = to_features(sparse_density, 1.0);
  let plane = to_features(plane_density, 3.0);
  let sparse_features = vec4f(sparse.zw, sparse_colour.w, sparse.y);
  let plane_features = vec4f(plane.zw, plane_colour.w, plane.y);
  (*seen).colour += weight * sigmoid(sparse_colour + gate * plane_colour).rgb;
  (*seen).features += weight * sigmoid(sparse_features + gate * plane_features);
  if (COARSE_SUM == 1) {
    (*seen).coarse_colour += weight * sigmoid(sparse_colour).rgb;
    (*seen).coarse_features += weight * sigmoid(sparse_features);
  }
}

// Blends the sample that the ray is at, and goes one step on.
fn take_sample(walk: ptr<function, Walk>, seen: ptr<function, Blended>, owners: ptr<function, Owners>, view: vec3f) {
  let s = (*walk).s;
  let stride = (*walk).stride;
  (*walk).s += stride;
  let low = (*walk).slot_low;
  let voxel = clamp((*walk).g / SPARSE_VOXEL + (*walk).slot_offset, low, low + f32(BLOCK_SIZE));
  let id = id_at(voxel);
  (*walk).counts.w += f32(OBJECTS);
  if (OBJECTS == 1 && is_among(frame.hidden, id)) { return; }
  let atlas = voxel / frame.atlas_size;
  let uvw = (*walk).g * 0.25;
  let sparse_density = fetch_atlas(u_atlas_density, atlas);
  let plane_density = fetch_planes(u_planes_density, uvw);
  (*walk).counts += vec4f(0.0, 1.0, 0.0, 4.0);
  let gate = select(1.0, to_features(sparse_density, 1.0).y, FEATURE_GATING == 1);
  let rho = to_density(sparse_density.x, 1.0) + gate * to_density(plane_density.x, 3.0);
  let sigma = exp(rho - 1.0);

  let s_next = min(s + stride, (*walk).piece_end);
  let u = 1.0 - s * (*walk).fall;
  let u_next = 1.0 - s_next * (*walk).fall;
  let alpha = 1.0 - exp(-sigma * (*walk).reach * (s_next - s) / (u * u_next));
  if (DENSITY_FIRST == 0 || alpha > COLOUR_THRESHOLD) {
    let weight = (*seen).visibility * alpha;
    (*walk).counts += vec4f(0.0, 0.0, 1.0, 4.0);
    blend_colour(seen, weight, gate, atlas, uvw, sparse_density, plane_density);
    (*seen).depth += weight * ((*walk).piece_depth + (*walk).reach * s / u);
    if (KNOWN_REGION == 1) { (*seen).unknown += weight * (1.0 - support_at(uvw, view)); }
    if (OBJECTS == 1) {
      add_owner(owners, id, weight);
      if (is_among(frame.lit, id)) { (*seen).lit += HIGHLIGHT_SHARE * weight; }
    }
  }
  (*seen).visibility *= 1.0 - alpha;
}

fn march(walk: ptr<function, Walk>, ray: Ray, owners: ptr<function, Owners>) -> Blended {
  var seen = Blended();
  seen.visibility = 1.0;
  let view = normalize(ray.direction);
  // One iteration is one skip or one sample.
  while ((*walk).steps < MAX_STEPS && !(*walk).is_over) {
    if (EARLY_TERMINATION == 1 && seen.visibility <= VISIBILITY_END) { break; }
    if (find_sample(walk, ray, seen.visibility)) { take_sample(walk, &seen, owners, view); }
  }
  if (KNOWN_REGION == 1) {
    // What is left of a ray shows what lies behind everything.
    let end = (*walk).start + (*walk).piece_end * (*walk).direction;
    seen.unknown += seen.visibility * (1.0 - support_at(0.25 * end, view));
  }
  return seen;
}

fn begin() -> Walk {
  var walk = Walk();
  walk.t_exit = 1.0;
  walk.start = vec3f(2.0);
  walk.inverse_direction = vec3f(1.0);
  walk.upper = vec3f(1.0);
  walk.is_first = true;
  walk.stride = STEP;
  walk.average_visibility = 1.0;
  walk.found_cell = vec3i(-1);
  walk.is_block_empty = true;
  return walk;
}

// As chunks/calm.glsl.
fn calm_colour(up: f32) -> vec3f {
  let steep = abs(up) * (2.0 - abs(up));
  return mix(frame.unknown_ahead, select(frame.unknown_below, frame.unknown_above, up > 0.0), steep);
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) at: vec3u) {
  let row = frame.rows.x + at.y;
  if (at.x >= frame.size.x || row >= frame.rows.y) { return; }
  let offset = (vec2f(f32(at.x), f32(row)) + 0.5 - frame.lens.zw) * frame.lens.xy;
  let towards = frame.camera_rotation * vec3f(offset, -1.0);
  let direction = towards * frame.near;
  let origin = frame.camera_position;
  let ray = Ray(origin, direction, length(direction) / frame.submodel_scale, find_exits(origin, direction));

  var walk = begin();
  var owners = Owners();
  let seen = march(&walk, ray, &owners);
  let view = normalize(towards);
  var shown = appearance(seen, view);
  if (OBJECTS == 1) { shown = mix(shown, HIGHLIGHT, seen.lit); }
  if (KNOWN_REGION == 1) { shown = mix(shown, calm_colour(view.y), seen.unknown); }

  let opacity = 1.0 - seen.visibility;
  let away = select(0.0, seen.depth / max(opacity, 1e-9), opacity > 0.05);
  owners.none += seen.visibility;
  // Textures have their first row above.
  let place = vec2u(at.x, frame.size.y - 1u - row);
  textureStore(o_pixel, place, vec4f(shown, 1.0));
#if COUNT
  textureStore(o_seen, place, walk.counts);
#else
  textureStore(o_seen, place, vec4f(away / (1.0 + away), owner_of(owners), 0.0, 0.0));
#endif
}
