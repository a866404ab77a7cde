// Marches one ray per pixel through the baked submodel and writes the blended inputs of the appearance network.
//
// target 0: rgb, visibility    target 1: features 0-3
// target 2: coarse rgb, depth  target 3 (COARSE_SUM only): coarse features 0-3
// With KNOWN_REGION or OBJECTS there is a target behind the last: how much of the pixel no photo supports, how much of the
// highlight it gets, and a 255th of the id of the object that it shows.
// Depth is d / (1 + d) of the expected distance d from the camera in world units, 0 where nothing was hit.
//
// Textures hold two RGBA8 groups so that a sample costs two fetches per grid and plane:
//   *_density: density, feature 3 (the gate in the sparse grid), feature 0, feature 1
//   *_colour:  red, green, blue, feature 2

#include "chunks/contract.glsl"
#include "chunks/regions.glsl"

// For measurements a host may switch each optimisation off by defining its name as 0. COUNT = 1 writes iterations,
// samples, samples with colour and texture fetches of the ray to target 0. FUSED_APPEARANCE = 1 evaluates the
// network here and writes the display colour to target 0, the only one.
#ifndef DENSITY_FIRST
#define DENSITY_FIRST 1
#endif
#ifndef SKIP_BY_DISTANCE
#define SKIP_BY_DISTANCE 1
#endif
#ifndef SKIP_BY_OCCUPANCY
#define SKIP_BY_OCCUPANCY 1
#endif
#ifndef EARLY_TERMINATION
#define EARLY_TERMINATION 1
#endif
#ifndef SKIP_TO_CUBE
#define SKIP_TO_CUBE 1
#endif
#ifndef GROWING_STEPS
#define GROWING_STEPS 1
#endif
#ifndef SKIP_TOGETHER
#define SKIP_TOGETHER 1
#endif
#ifndef COUNT
#define COUNT 0
#endif
#ifndef FUSED_APPEARANCE
#define FUSED_APPEARANCE 0
#endif
#ifndef KNOWN_REGION
#define KNOWN_REGION 0
#endif
#ifndef OBJECTS
#define OBJECTS 0
#endif
#if COUNT
#define FETCHED(n) counts.w += float(n)
#else
#define FETCHED(n)
#endif

#if FUSED_APPEARANCE
#include "chunks/appearance.glsl"
#endif
#if KNOWN_REGION
#include "chunks/known.glsl"
#endif
#if FUSED_APPEARANCE && KNOWN_REGION
#include "chunks/calm.glsl"
#endif
#if OBJECTS
#include "chunks/objects.glsl"
#endif

uniform sampler3D u_atlas_density;
uniform sampler3D u_atlas_colour;
uniform sampler2DArray u_planes_density;
uniform sampler2DArray u_planes_colour;
uniform usampler3D u_blocks;     // atlas slot x, y, z of a macroblock; x = 255: empty
uniform usampler3D u_occupancy;  // distance to content in cells, then eight child bits

uniform vec3 u_atlas_size;       // voxels
uniform mat3 u_camera_rotation;  // viewer axes from camera axes
uniform vec3 u_camera_position;  // submodel space
uniform vec4 u_lens;             // 1/fx, 1/fy, cx, cy in pixels of the target, from its lower left corner
uniform float u_near;            // submodel units
uniform float u_submodel_scale;  // submodel units per world unit
uniform float u_occlusion_delay; // GROWING_STEPS: smoothing of the visibility that enlarges steps; 1 switches it off

layout(location = 0) out vec4 o_colour;
#if !FUSED_APPEARANCE
layout(location = 1) out vec4 o_features;
layout(location = 2) out vec4 o_coarse_colour;
#if COARSE_SUM
layout(location = 3) out vec4 o_coarse_features;
#endif
#if (KNOWN_REGION || OBJECTS) && COARSE_SUM
layout(location = 4) out vec4 o_unknown;
#elif KNOWN_REGION || OBJECTS
layout(location = 3) out vec4 o_unknown;
#endif
#endif

const float STEP = 4.0 / (float(TRIPLANE_RESOLUTION) * float(STEP_MULTIPLIER));
const float CELL = 32.0 / float(TRIPLANE_RESOLUTION);
const float SPARSE_VOXEL = 4.0 / float(SPARSE_RESOLUTION);
const float BLOCK = SPARSE_VOXEL * float(BLOCK_SIZE);
#if SKIP_TOGETHER
const int SKIPS_TOGETHER = MAX_STEPS;
#else
const int SKIPS_TOGETHER = 1;
#endif
const float OCCLUSION_STEP = 10.0;
// Sixteen in official scenes, 2048 texels wide; as long a piece in smaller ones is fewer steps.
const float LEAST_STEPS = clamp(float(TRIPLANE_RESOLUTION) / 128.0, 4.0, 16.0);
const float COLOUR_THRESHOLD = 0.25 / 255.0;
const float VISIBILITY_END = 1.0 / 255.0;

// `count` says how many textures were summed.
vec4 to_features(vec4 bytes, float count) {
  return count * RANGE_FEATURES_MIN + bytes * (RANGE_FEATURES_MAX - RANGE_FEATURES_MIN);
}

float to_density(float bytes, float count) {
  return count * RANGE_DENSITY_MIN + bytes * (RANGE_DENSITY_MAX - RANGE_DENSITY_MIN);
}

vec3 sigmoid(vec3 x) {
  return 1.0 / (1.0 + exp(-x));
}

vec4 sigmoid(vec4 x) {
  return 1.0 / (1.0 + exp(-x));
}

// Distance along the ray from g to the far faces of the cell [low, low + size] that holds it; `upper` is 1 on the axes
// on which the ray climbs.
float distance_to_exit(vec3 g, vec3 low, float size, vec3 upper, vec3 inverse_direction) {
  vec3 t = (low + size * upper - g) * inverse_direction;
  return max(0.0, min(t.x, min(t.y, t.z)));
}

void main() {
  vec2 offset = (gl_FragCoord.xy - u_lens.zw) * u_lens.xy;
  vec3 origin = u_camera_position;
  vec3 ray = u_camera_rotation * vec3(offset, -1.0) * u_near;

  vec3 colour = vec3(0.0), coarse_colour = vec3(0.0);
  vec4 features = vec4(0.0), coarse_features = vec4(0.0);
  float visibility = 1.0, average_visibility = 1.0, depth = 0.0;
  float unknown = 0.0, lit = 0.0;
#if KNOWN_REGION
  vec3 view = normalize(ray);
#endif
#if OBJECTS
  Owners owners = Owners(vec4(0.0), vec4(0.0), 0.0);
#endif

  Exits exits = find_exits(origin, ray);
  // The current piece: g = start + s * direction for s in [0, piece_end], in contracted space with its corner at 0.
  float t_exit = 1.0, s = 0.0, piece_end = 0.0;
  vec3 start = vec3(2.0), direction = vec3(0.0), inverse_direction = vec3(1.0), upper = vec3(1.0);
  bool first_piece = true;
  // Contraction is projective on a piece: with u falling linearly from 1 to m(enter) / m(exit), where m is the largest
  // component in space, the ray has gone reach * s / u behind the piece's beginning.
  float piece_depth = 0.0, reach = 0.0, fall = 0.0;
  float ray_length = length(ray) / u_submodel_scale;
  // Answers of the grids hold until the ray leaves the cell they came from.
  float cell_end = 0.0, block_end = 0.0;
  ivec3 found_cell = ivec3(-1);
  uvec2 found = uvec2(0u);
  vec3 slot_low = vec3(0.0), slot_offset = vec3(0.0), atlas_texel = 1.0 / u_atlas_size;
  bool block_empty = true;
#if COUNT
  vec4 counts = vec4(0.0);
#endif

  // One iteration is one skip or one sample. Skips have a loop of their own, so that rays that run side by side also
  // sample side by side.
  bool is_over = false;
  int i = 0;
  while (i < MAX_STEPS && !is_over) {
#if EARLY_TERMINATION
    if (visibility <= VISIBILITY_END) break;
#endif
    float stride = STEP;
    vec3 g = start;
    bool is_found = false;
    for (int skips = 0; skips < SKIPS_TOGETHER && i < MAX_STEPS; ++skips, ++i) {
#if COUNT
      counts.x += 1.0;
#endif
#if GROWING_STEPS
      average_visibility = mix(visibility, average_visibility, u_occlusion_delay);
      stride = STEP * mix(OCCLUSION_STEP, 1.0, sqrt(min(1.0, average_visibility / 0.8)));
#endif

      if (s >= piece_end) {
        is_over = max_component(abs(start + piece_end * direction - 2.0)) >= 2.0 - 0.001;
        if (is_over) break;
        float t_enter = t_exit;
        t_exit = next_exit(exits, t_enter);
        // Pieces behind the first that are too short (in t) are passed over.
        for (int skipped = 0; skipped < 5 && !first_piece && t_exit - t_enter <= LEAST_STEPS * stride; ++skipped) {
          t_enter = t_exit;
          t_exit = next_exit(exits, t_enter);
        }
        is_over = t_exit >= NO_EXIT;
        if (is_over) break;
        vec3 axis = slab_axis(origin + 0.5 * (t_enter + t_exit) * ray);
        vec3 enter = origin + t_enter * ray, leave = origin + t_exit * ray;
        start = contract(enter, axis);
        vec3 piece = contract(leave, axis) - start;
        start += 2.0;
        piece_end = max(length(piece), 1e-9);
        direction = piece / piece_end;
        inverse_direction = 1.0 / mix(direction, vec3(1e-9), lessThan(abs(direction), vec3(1e-9)));
        upper = step(0.0, inverse_direction);
        float ratio = axis == vec3(0.0) ? 1.0 : dot(abs(enter), axis) / dot(abs(leave), axis);
        fall = (1.0 - ratio) / piece_end;
        reach = ray_length * (t_exit - t_enter) * ratio / piece_end;
        piece_depth = ray_length * t_enter;
        s = first_piece ? 0.0 : 0.5 * stride;
        first_piece = false;
        cell_end = 0.0;
        block_end = 0.0;
        continue;
      }

      g = start + s * direction;
      if (s >= cell_end) {
        ivec3 cell = clamp(ivec3(floor(g / CELL)), ivec3(0), ivec3(GRID_RESOLUTION - 1));
        // The children of a cell share its bits.
        if (cell != found_cell) {
          found_cell = cell;
          found = texelFetch(u_occupancy, cell, 0).rg;
          FETCHED(1);
        }
#if SKIP_BY_DISTANCE
        if (found.r > 0u) {
#if SKIP_TO_CUBE
          // All cells up to that distance are empty: leave the cube that they form.
          float around = float(found.r) * CELL;
          vec3 low = vec3(cell) * CELL - around;
          s += distance_to_exit(g, low, 2.0 * around + CELL, upper, inverse_direction) + 0.5 * stride;
#else
          s += float(found.r) * CELL;
#endif
          continue;
        }
#endif
        vec3 child = floor(g / (0.5 * CELL));
        ivec3 half_of_cell = clamp(ivec3(child) - 2 * cell, ivec3(0), ivec3(1));
        uint bit = uint(4 * half_of_cell.x + 2 * half_of_cell.y + half_of_cell.z);
        float child_end = s + distance_to_exit(g, child * 0.5 * CELL, 0.5 * CELL, upper, inverse_direction);
#if SKIP_BY_OCCUPANCY
        if (((found.g >> bit) & 1u) == 0u) {
          s = child_end + 0.5 * stride;
          continue;
        }
#endif
        cell_end = child_end;
      }

      if (s >= block_end) {
        vec3 shifted = g - 0.5 * SPARSE_VOXEL;
        ivec3 block = clamp(ivec3(floor(shifted / BLOCK)), ivec3(0), ivec3(SPARSE_RESOLUTION / BLOCK_SIZE - 1));
        uvec3 slot = texelFetch(u_blocks, block, 0).rgb;
        FETCHED(1);
        block_empty = slot.r == 255u;
        slot_low = vec3(slot) * float(BLOCK_SIZE + 1) + 0.5;
        slot_offset = slot_low - vec3(block * BLOCK_SIZE) - 0.5;
        block_end = s + distance_to_exit(shifted, vec3(block) * BLOCK, BLOCK, upper, inverse_direction);
      }
      if (block_empty) {
        s += stride;
        continue;
      }
      is_found = true;
      ++i;
      break;
    }
    if (!is_found) continue;

    vec3 voxel = clamp(g / SPARSE_VOXEL + slot_offset, slot_low, slot_low + float(BLOCK_SIZE));
#if OBJECTS
    uint id = texelFetch(u_atlas_ids, ivec3(voxel), 0).r;
    FETCHED(1);
    if (is_among(u_hidden[0], u_hidden[1], id)) {
      s += stride;
      continue;
    }
#endif
    vec3 atlas = voxel * atlas_texel;
    vec3 uvw = g * 0.25;
    vec4 sparse_density = textureLod(u_atlas_density, atlas, 0.0);
    // Dequantisation is affine, so the bytes of the three planes are summed first.
    vec4 plane_density = textureLod(u_planes_density, vec3(uvw.yz, 0.0), 0.0) +
                         textureLod(u_planes_density, vec3(uvw.xz, 1.0), 0.0) +
                         textureLod(u_planes_density, vec3(uvw.xy, 2.0), 0.0);
#if COUNT
    counts.yw += vec2(1.0, 4.0);
#endif
    float gate_feature = to_features(sparse_density.yyyy, 1.0).x;
#if FEATURE_GATING
    float gate = gate_feature;
#else
    float gate = 1.0;
#endif
    float rho = to_density(sparse_density.x, 1.0) + gate * to_density(plane_density.x, 3.0);
    float sigma = exp(rho - 1.0);

    float s_next = min(s + stride, piece_end);
    float u = 1.0 - s * fall, u_next = 1.0 - s_next * fall;
    float alpha = 1.0 - exp(-sigma * reach * (s_next - s) / (u * u_next));

#if DENSITY_FIRST
    if (alpha > COLOUR_THRESHOLD) {
#else
    {
#endif
#if COUNT
      counts.zw += vec2(1.0, 4.0);
#endif
      float weight = visibility * alpha;
      vec4 sparse_colour = to_features(textureLod(u_atlas_colour, atlas, 0.0), 1.0);
      vec4 plane_colour = to_features(textureLod(u_planes_colour, vec3(uvw.yz, 0.0), 0.0) +
                                      textureLod(u_planes_colour, vec3(uvw.xz, 1.0), 0.0) +
                                      textureLod(u_planes_colour, vec3(uvw.xy, 2.0), 0.0), 3.0);
      sparse_density = to_features(sparse_density, 1.0);
      plane_density = to_features(plane_density, 3.0);
      vec4 sparse_features = vec4(sparse_density.zw, sparse_colour.w, gate_feature);
      vec4 plane_features = vec4(plane_density.zw, plane_colour.w, plane_density.y);
      colour += weight * sigmoid(sparse_colour.rgb + gate * plane_colour.rgb);
      features += weight * sigmoid(sparse_features + gate * plane_features);
#if COARSE_SUM
      coarse_colour += weight * sigmoid(sparse_colour.rgb);
      coarse_features += weight * sigmoid(sparse_features);
#endif
      depth += weight * (piece_depth + reach * s / u);
#if KNOWN_REGION
      unknown += weight * (1.0 - support_at(uvw, view));
#endif
#if OBJECTS
      add_owner(owners, id, weight);
      if (is_among(u_lit[0], u_lit[1], id)) lit += HIGHLIGHT_SHARE * weight;
#endif
    }
    visibility *= 1.0 - alpha;
    s += stride;
  }

#if KNOWN_REGION
  // What is left of a ray shows what lies behind everything.
  unknown += visibility * (1.0 - support_at(0.25 * (start + piece_end * direction), view));
#endif
#if FUSED_APPEARANCE
  vec3 d = normalize(u_camera_rotation * vec3(offset, -1.0));
  vec3 shown = appearance(vec4(colour, visibility), features, coarse_colour, coarse_features, d);
#if OBJECTS
  shown = mix(shown, HIGHLIGHT, lit);
#endif
#if KNOWN_REGION
  shown = mix(shown, calm_colour(d.y), unknown);
#endif
  o_colour = vec4(shown, 1.0);
#else
  float opacity = 1.0 - visibility;
  float distance_seen = opacity > 0.05 ? depth / opacity : 0.0;
  o_colour = vec4(colour, visibility);
#if OBJECTS
  owners.none += visibility;
  o_unknown = vec4(unknown, lit, owner_of(owners) / 255.0, 1.0);
#elif KNOWN_REGION
  o_unknown = vec4(unknown);
#endif
  o_features = features;
  o_coarse_colour = vec4(coarse_colour, distance_seen / (1.0 + distance_seen));
#if COARSE_SUM
  o_coarse_features = coarse_features;
#endif
#endif
#if COUNT
  o_colour = counts;
#endif
}
