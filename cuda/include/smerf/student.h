// What callers of the student's fused step fill in; the fields are listed again in smerf/kernels/abi.py.
#pragma once

#include "smerf/grid.h"

namespace smerf {

struct SampleGradient;

constexpr int kFeatures = 14;            // seven gated ("fine") and seven voxel ("coarse") channels
constexpr int kMaxStudentSamples = 256;  // intervals of one ray

struct Vertex {
  float z[kChannels];
  uint16_t first[kChannels], root[kChannels];
};
static_assert(sizeof(Vertex) == 64, "a vertex is one cache line");

struct StudentGrids {
  Vertex* voxels;
  uint8_t* voxel_bytes;
  int64_t blocks;
  Vertex* planes;
  uint8_t* plane_bytes;
};

struct AdamStep {
  float lr, beta1, beta2, eps;
  float correction1, correction2;  // 1 - beta^step
};

struct StudentRays {
  const float* origins;       // (rays, 3) training space
  const float* directions;    // (rays, 3) unit
  const float* edges;         // (rays, samples + 1) metric
  const float* weights;       // (rays, samples) of the teacher
  const float* colour;        // (rays, 3) of the teacher, over black
  const float* background;    // (rays, 3)
  const float* log_exposure;  // (rays), or null: the network reads logit(feature) + log_exposure
  const float* s_edges;       // (rays, samples + 1) normalised, or null: no distortion loss
  int64_t rays;
  int32_t samples;
  int32_t pixels;  // rays of a patch, which follow each other
};

struct StudentNetwork {
  const float* params;  // (lattice^3, params)
  float* gradient;      // the same, added to
  int32_t lattice;
  int32_t width;
  float lattice_scale;  // training units about the submodel's centre to [-1, 1]
};

struct StudentLoss {
  float tau, step;  // culling threshold, marching step in contracted space
  float charbonnier;
  float geometry;         // weight of sum |w - w_teacher|
  float min_gradient;     // of a sample's values: smaller ones are dropped
  const float* backdrop;  // (14) composited features of what lies behind everything, or null
  float dssim;            // weight of the dissimilarity of patches of more than one ray
  float distortion;       // weight of the distortion
};

struct RayLosses {
  float colour, geometry, square, dssim, distortion;  // weighted, but for the mean squared error
};

struct StudentTrace {
  RayLosses* losses;        // (rays)
  float* weights;           // (rays, samples) of the student
  SampleGradient* samples;  // (rays * samples), or null: on GPUs
};

}  // namespace smerf
