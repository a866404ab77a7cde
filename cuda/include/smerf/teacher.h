// What callers of the teacher's fused passes fill in; the fields are listed again in smerf/kernels/abi.py.
#pragma once

#include "smerf/hash_encoding.h"
#include "smerf/spacing.h"

namespace smerf {

constexpr int kDirections = 16;          // spherical harmonics of degree 0 to 3
constexpr int kSlice = 8;                // samples of a ray that are evaluated together
constexpr int kMaxTeacherSamples = 128;  // intervals of one ray
constexpr int kTeacherLosses = 5;        // of a ray

struct RadianceWidths {
  int32_t features, density, geometry, colour;
};

struct TeacherField {
  const HashLevel* levels;
  const float* table;
  const uint16_t* half_table;  // the same in half floats, or null: half the memory to fetch
  const float* density_params;
  const float* colour_params;
  int32_t level_count, features;
  RadianceWidths widths;
  RaySpacing spacing;
  float scale;               // training units to the contraction's unit cube
  float min_light;           // a ray stops where less light is left
  float min_weight;          // samples of less weight have no colour
  const float* cache;        // (n^3) densities or null: samples whose cell says less depth than min_depth are empty,
  int32_t cache_resolution;  // except a fraction `recheck` of them, chosen by `step`
  float min_depth, recheck;
  uint32_t step;
};

struct TeacherRays {
  const float *origins, *directions, *radii;  // (R, 3), (R, 3), (R)
  const float* s_edges;                       // (R, S + 1)
  int64_t rays;
  int32_t samples;
};

// What training adds: the target and the losses. near_distance: samples closer than this have weaker gradients (0:
// none).
struct TeacherTarget {
  const float* truth;       // (R, 3), over the background
  const float* background;  // (R, 3)
  const float* distances;   // (R): where a ray is known to meet something, 0: not known; or null
  float charbonnier, distortion_weight, opacity_weight, distance_weight, near_distance, min_gradient;
};

// What a training pass leaves behind. Groups of 16 rays have room for 16 S samples each; on GPUs all rays are one
// group, and what is marked so is null.
struct TeacherTrace {
  float* losses;            // (R, 5): Charbonnier mean, distortion, squared error mean, sum of opacities, distance
  float* grad_density;      // flat, added to
  float* grad_colour;       // flat, added to
  float* points;            // (groups, 4, 16 S): x, y, z, footprint of the samples with a gradient; null on GPUs
  float* feature_gradient;  // (groups, 16 S, padded features); null on GPUs
  int32_t* counts;          // (groups, 2): samples with a gradient, samples evaluated
  int32_t* cells;           // (groups, 16 S) cache cells of the evaluated samples; null on GPUs
  float* densities;         // (groups, 16 S); null on GPUs
  float cache_keep;         // what a cell keeps of its density when it is seen again
};

}  // namespace smerf
