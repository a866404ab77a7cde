// One submodel of the student: a block-sparse voxel grid and three planes of 8-bit values, and how they are read.
//
// A value is eight bytes: density, red, green, blue, four view features; the last feature of the voxel grid is also
// the gate (SMERF, arXiv 2312.07541). Bytes are dequantised to a range and interpolated before any activation. Grid
// axes are the viewer's: (x, y, z) of training space become (-x, z, y).
#pragma once

#include "smerf/contraction.h"
#include "smerf/lanes.h"

namespace smerf {

constexpr int kChannels = 8;
constexpr int kBlockEdge = 8;
constexpr int kBlockVoxels = kBlockEdge * kBlockEdge * kBlockEdge;
constexpr int kGate = 7;

struct GridView {
  const uint8_t* voxels;            // (blocks * 512, 8), voxel order inside a block: first axis slowest
  const int32_t* block_index;       // (R_v / 8)^3, number of the block or -1 where there is none
  const uint8_t* planes;            // (3, R_t, R_t, 8), plane i is indexed by the two other axes in order
  int32_t voxel_resolution;         // R_v, a multiple of 8
  int32_t plane_resolution;         // R_t
  float centre[3];                  // submodel centre in training space
  float scale;                      // training units to submodel units
  float density_low, density_high;  // range of channel 0
  float feature_low, feature_high;  // range of channels 1 to 7
};

// Where a sample reads: eight voxels (-1: outside every block) and twelve texels, with their weights.
struct Stencil {
  int64_t voxel[8];
  float voxel_weight[8];
  int64_t texel[12];
  float texel_weight[12];
};

SMERF_FN Vec3 viewer_axes(float x, float y, float z) { return {-x, z, y}; }

SMERF_FN Vec3 to_submodel(const GridView& grid, float x, float y, float z) {
  return viewer_axes((x - grid.centre[0]) * grid.scale, (y - grid.centre[1]) * grid.scale,
                     (z - grid.centre[2]) * grid.scale);
}

SMERF_FN void split(float s, int resolution, int* low, int* high, float* fraction) {
  const float g = (s + 2.0f) * (0.25f * (float)resolution) - 0.5f;
  const float base = floorf(g);
  *fraction = g - base;
  *low = clamp_whole(base, 0, resolution - 1);
  *high = clamp_whole(base + 1.0f, 0, resolution - 1);
}

SMERF_FN int64_t voxel_address(const GridView& grid, int a, int b, int c) {
  const int blocks = grid.voxel_resolution / kBlockEdge;
  const int32_t block = grid.block_index[((int64_t)(a >> 3) * blocks + (b >> 3)) * blocks + (c >> 3)];
  if (block < 0) return -1;
  return (int64_t)block * kBlockVoxels + ((a & 7) * kBlockEdge + (b & 7)) * kBlockEdge + (c & 7);
}

// Finds what the contracted point s reads. Returns false where the block that holds the lowest corner is missing: the
// baked scene has no data there, so the sample is empty. A point that is not a number is nowhere.
SMERF_FN bool find_stencil(const GridView& grid, const Vec3& s, Stencil* stencil) {
  if (!(s.x == s.x && s.y == s.y && s.z == s.z)) return false;
  int low[3], high[3];
  float f[3];
  split(s.x, grid.voxel_resolution, &low[0], &high[0], &f[0]);
  split(s.y, grid.voxel_resolution, &low[1], &high[1], &f[1]);
  split(s.z, grid.voxel_resolution, &low[2], &high[2], &f[2]);
  if (voxel_address(grid, low[0], low[1], low[2]) < 0) return false;
  for (int corner = 0; corner < 8; ++corner) {
    const int a = corner & 4 ? high[0] : low[0], b = corner & 2 ? high[1] : low[1], c = corner & 1 ? high[2] : low[2];
    stencil->voxel[corner] = voxel_address(grid, a, b, c);
    stencil->voxel_weight[corner] =
        (corner & 4 ? f[0] : 1.0f - f[0]) * (corner & 2 ? f[1] : 1.0f - f[1]) * (corner & 1 ? f[2] : 1.0f - f[2]);
  }
  split(s.x, grid.plane_resolution, &low[0], &high[0], &f[0]);
  split(s.y, grid.plane_resolution, &low[1], &high[1], &f[1]);
  split(s.z, grid.plane_resolution, &low[2], &high[2], &f[2]);
  const int64_t r = grid.plane_resolution;
  for (int plane = 0; plane < 3; ++plane) {
    const int first = plane == 0 ? 1 : 0, second = plane == 2 ? 1 : 2;
    for (int corner = 0; corner < 4; ++corner) {
      const int a = corner & 2 ? high[first] : low[first], b = corner & 1 ? high[second] : low[second];
      stencil->texel[4 * plane + corner] = (plane * r + a) * r + b;
      stencil->texel_weight[4 * plane + corner] =
          (corner & 2 ? f[first] : 1.0f - f[first]) * (corner & 1 ? f[second] : 1.0f - f[second]);
    }
  }
  return true;
}

// Bytes of an absent voxel: no density, and the byte next to zero for every feature.
SMERF_FN Lanes8 absent_bytes() { return first_and_rest(0.0f, 128.0f); }

// Interpolates the voxel grid (v) and the sum of the three planes (t), both dequantised, eight channels each.
SMERF_FN void read_grid(const GridView& grid, const Stencil& stencil, Lanes8* v, Lanes8* t) {
  Lanes8 voxel = zero_lanes(), plane = zero_lanes();
  for (int corner = 0; corner < 8; ++corner) {
    if (stencil.voxel[corner] < 0)
      voxel += stencil.voxel_weight[corner] * absent_bytes();
    else
      add_bytes(voxel, grid.voxels + stencil.voxel[corner] * kChannels, stencil.voxel_weight[corner]);
  }
  for (int corner = 0; corner < 12; ++corner)
    add_bytes(plane, grid.planes + stencil.texel[corner] * kChannels, stencil.texel_weight[corner]);
  const Lanes8 low = first_and_rest(grid.density_low, grid.feature_low);
  const Lanes8 range = first_and_rest((grid.density_high - grid.density_low) * (1.0f / 255.0f),
                                      (grid.feature_high - grid.feature_low) * (1.0f / 255.0f));
  *v = low + range * voxel;
  *t = 3.0f * low + range * plane;
}

// Distance inside [t0, t1] of a conical frustum's centre of mass (mip-NeRF, arXiv 2103.13415).
SMERF_FN float frustum_mean(float t0, float t1) {
  const float sum = t0 + t1, width = t1 - t0;
  return sum * (0.5f + width * width / fmaxf(1e-20f, 3.0f * sum * sum + width * width));
}

constexpr float kOpaque = 1e-4f;  // light below which the rest of a ray is skipped
constexpr float kMaxExponent = 15.0f;

// One interval of a ray as the grids see it. merged: voxel values plus gated plane values, before activation.
struct GridSample {
  Vec3 s;               // contracted position
  Lanes8 v, t, merged;  // voxel values, the sum of the planes, and both together
  float depth, alpha;
};

// Optical depth per marching step below which a sample is culled: tau is the alpha of such a step.
SMERF_FN float least_depth(float tau) { return tau > 0.0f ? -logf(1.0f - tau) : 0.0f; }

// Where an interval reads the grids, before anything is read.
struct GridInterval {
  Stencil stencil;
  Vec3 s;                    // contracted position
  float length, march_step;  // metric: of the interval, and of one marching step there
};

// Places the interval [t0, t1] of a ray. step: marching step in contracted space. False where there is nothing: no
// length, or no voxel block.
SMERF_FN bool place_interval(const GridView& grid, const float* o, const float* d, float t0, float t1, float step,
                             GridInterval* interval) {
  interval->length = t1 - t0;
  if (!(interval->length > 0.0f)) return false;
  const float t = frustum_mean(t0, t1);
  const Vec3 p = to_submodel(grid, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]);
  interval->s = contract(p);
  if (!find_stencil(grid, interval->s, &interval->stencil)) return false;
  interval->march_step = step / (grid.scale * fmaxf(contraction_speed(p, viewer_axes(d[0], d[1], d[2])), 1e-12f));
  return true;
}

// Reads a placed interval. least: least_depth(tau). False where it is culled.
SMERF_FN bool read_interval(const GridView& grid, const GridInterval& interval, float least, GridSample* sample) {
  sample->s = interval.s;
  read_grid(grid, interval.stencil, &sample->v, &sample->t);
  sample->merged = sample->v + lane(sample->v, kGate) * sample->t;
  const float sigma = fast_exp(fminf(lane(sample->merged, 0) - 1.0f, kMaxExponent));
  if (least > 0.0f && sigma * interval.march_step < least) return false;
  sample->depth = sigma * interval.length;
  // 1 - exp(-x) cancels for small x.
  sample->alpha =
      sample->depth < 1e-3f ? sample->depth * (1.0f - 0.5f * sample->depth) : 1.0f - fast_exp(-sample->depth);
  return true;
}

// Both at once; stencil is where the grids were read.
SMERF_FN bool sample_interval(const GridView& grid, const float* o, const float* d, float t0, float t1, float least,
                              float step, Stencil* stencil, GridSample* sample) {
  GridInterval interval;
  if (!place_interval(grid, o, d, t0, t1, step, &interval)) return false;
  *stencil = interval.stencil;
  return read_interval(grid, interval, least, sample);
}

SMERF_FN float sum_features(const Lanes8& a) {
  float total = 0.0f;
  for (int c = 1; c < kChannels; ++c) total += lane(a, c);
  return total;
}

// Gradients of a sample's voxel and plane values. fine, coarse: activated channels; up_fine, up_coarse: gradients of
// the composited channels; density: gradient of the merged density before activation.
SMERF_FN void differentiate_values(const Lanes8& v, const Lanes8& t, const Lanes8& fine, const Lanes8& coarse,
                                   float weight, const Lanes8& up_fine, const Lanes8& up_coarse, float density,
                                   Lanes8* grad_v, Lanes8* grad_t) {
  Lanes8 merged = weight * (up_fine * fine * (1.0f - fine));
  Lanes8 alone = weight * (up_coarse * coarse * (1.0f - coarse));
  set_lane(merged, 0, density);
  set_lane(alone, 0, 0.0f);
  const Lanes8 by_gate = merged * t;
  *grad_t = lane(v, kGate) * merged;
  *grad_v = merged + alone;
  set_lane(*grad_v, kGate, lane(*grad_v, kGate) + sum_features(by_gate) + lane(by_gate, 0));
}

}  // namespace smerf
