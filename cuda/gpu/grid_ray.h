// One ray of the student on GPUs: a warp a ray, a lane an interval.
//
// Light is a running product over the lanes. The backward pass evaluates the samples anew and lays their gradients out
// in shared memory, so that neighbouring lanes add to neighbouring floats of one vertex.
#pragma once

#include "smerf/grid.h"
#include "smerf/student_losses.h"
#include "warp.h"

namespace {

using namespace smerf;

constexpr int kHalf = kFeatures / 2;
constexpr int kRayWarps = 4;    // of a block
constexpr int kReads = 20;      // vertices of a sample: eight voxels, then twelve texels
constexpr int kGradients = 18;  // floats of a sample's gradients in shared memory: voxel 8, plane 8, padding

struct RayView {
  const float *origins, *directions, *edges;
  int64_t rays;
  int samples;
  float least, step;
};

// Evaluates interval `index` of a ray; samples that do not exist are empty.
__device__ __forceinline__ bool evaluate(const GridView& grid, const RayView& view, int64_t ray, int index,
                                         Stencil* stencil, GridSample* sample) {
  sample->depth = sample->alpha = 0.0f;
  if (index >= view.samples) return false;
  const float* edge = view.edges + ray * (view.samples + 1) + index;
  const bool is_alive = sample_interval(grid, view.origins + 3 * ray, view.directions + 3 * ray, edge[0], edge[1],
                                        view.least, view.step, stencil, sample);
  if (!is_alive) sample->depth = sample->alpha = 0.0f;
  return is_alive;
}

__global__ void __launch_bounds__(32 * kRayWarps)
    render_kernel(const __grid_constant__ GridView grid, const __grid_constant__ RayView view,
                  float* __restrict__ features, float* __restrict__ weights) {
  const int64_t ray = (int64_t)blockIdx.x * kRayWarps + threadIdx.x / 32;
  const int self = threadIdx.x % 32;
  if (ray >= view.rays) return;
  float light = 1.0f, sums[kFeatures] = {};
  for (int start = 0; start < view.samples; start += 32) {
    float weight = 0.0f;
    if (light > kOpaque) {
      Stencil stencil;
      GridSample sample;
      bool is_kept = evaluate(grid, view, ray, start + self, &stencil, &sample);
      float through;
      const float here = light * product_before(1.0f - sample.alpha, &through);
      light *= through;
      is_kept = is_kept && here > kOpaque;
      weight = is_kept ? here * sample.alpha : 0.0f;
      if (is_kept) {
        const Lanes8 fine = sigmoid(sample.merged), coarse = sigmoid(sample.v);
#pragma unroll
        for (int c = 0; c < kHalf; ++c) {
          sums[c] += weight * lane(fine, c + 1);
          sums[c + kHalf] += weight * lane(coarse, c + 1);
        }
      }
    }
    if (start + self < view.samples) weights[ray * view.samples + start + self] = weight;
  }
#pragma unroll
  for (int c = 0; c < kFeatures; ++c) {
    const float total = sum_lanes(sums[c]);
    if (self == c) features[ray * kFeatures + c] = total;
  }
}

// Where the lanes of a warp leave their samples' gradients for each other.
struct Staging {
  float gradient[32][kGradients];
  float weight[32][kReads + 1];
  int32_t vertex[32][kReads + 1];
};

// Where gradients go: the eight of a vertex begin `width` floats after those of the one before.
struct Records {
  float* voxels;
  uint8_t* voxel_touched;
  float* planes;
  uint8_t* plane_touched;
  int width;
  float least;  // samples whose values all have a smaller gradient, or the same, are left out; negative: none
};

// Two lanes add the eight channels of one vertex.
__device__ __forceinline__ void add_staged(const Staging& staging, int count, const Records& records) {
  for (int item = threadIdx.x % 32; item < count * kReads * 2; item += 32) {
    const int sample = item / (2 * kReads), read = item / 2 % kReads, half = item & 1;
    const int32_t vertex = staging.vertex[sample][read];
    if (vertex < 0) continue;
    const bool is_voxel = read < 8;
    const float weight = staging.weight[sample][read];
    const float* g = staging.gradient[sample] + (is_voxel ? 0 : 8) + 4 * half;
    float* record = (is_voxel ? records.voxels : records.planes) + (int64_t)vertex * records.width + 4 * half;
    add_to4(record, make_float4(weight * g[0], weight * g[1], weight * g[2], weight * g[3]));
    if (half == 0) (is_voxel ? records.voxel_touched : records.plane_touched)[vertex] = 1;
  }
}

__global__ void __launch_bounds__(32 * kRayWarps)
    render_backward_kernel(const __grid_constant__ GridView grid, const __grid_constant__ RayView view,
                           const float* __restrict__ up_features, const float* __restrict__ up_weights,
                           const __grid_constant__ Records records) {
  __shared__ Staging shared[kRayWarps];
  Staging& staging = shared[threadIdx.x / 32];
  const int64_t ray = (int64_t)blockIdx.x * kRayWarps + threadIdx.x / 32;
  const int self = threadIdx.x % 32;
  if (ray >= view.rays) return;
  const int rounds = (view.samples + 31) / 32;
  // Light at the start of each round of 32 intervals, kept by the lane of the round's number.
  float light = 1.0f, light_of_round = 1.0f;
  for (int round = 0; round + 1 < rounds && light > kOpaque; ++round) {
    Stencil stencil;
    GridSample sample;
    evaluate(grid, view, ray, 32 * round + self, &stencil, &sample);
    float through;
    product_before(1.0f - sample.alpha, &through);
    light *= through;
    if (self > round) light_of_round = light;
  }
  Lanes8 up_fine = zero_lanes(), up_coarse = zero_lanes();
#pragma unroll
  for (int c = 0; c < kHalf; ++c) {
    set_lane(up_fine, c + 1, up_features[ray * kFeatures + c]);
    set_lane(up_coarse, c + 1, up_features[ray * kFeatures + kHalf + c]);
  }
  float after = 0.0f;  // sum of gradient times weight over later rounds
  for (int round = rounds - 1; round >= 0; --round) {
    const float start = __shfl_sync(kWholeWarp, light_of_round, round);
    if (!(start > kOpaque)) continue;
    Stencil stencil;
    GridSample sample;
    bool is_kept = evaluate(grid, view, ray, 32 * round + self, &stencil, &sample);
    float through, total;
    const float here = start * product_before(1.0f - sample.alpha, &through);
    is_kept = is_kept && here > kOpaque;
    const float weight = is_kept ? here * sample.alpha : 0.0f;
    Lanes8 fine = zero_lanes(), coarse = zero_lanes();
    float up = 0.0f;
    if (is_kept) {
      fine = sigmoid(sample.merged);
      coarse = sigmoid(sample.v);
      up = up_weights[ray * view.samples + 32 * round + self] + sum_features(up_fine * fine + up_coarse * coarse);
    }
    const float later = after + sum_after(up * weight, &total);
    after += total;
    Lanes8 grad_v = zero_lanes(), grad_t = zero_lanes();
    if (is_kept) {
      const float density = (up * here * (1.0f - sample.alpha) - later) * sample.depth;
      differentiate_values(sample.v, sample.t, fine, coarse, weight, up_fine, up_coarse, density, &grad_v, &grad_t);
      is_kept = records.least < 0.0f || counts(grad_v, records.least);
    }
    const unsigned kept = __ballot_sync(kWholeWarp, is_kept);
    if (is_kept) {
      const int place = __popc(kept & ((1u << self) - 1u));
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        staging.gradient[place][c] = lane(grad_v, c);
        staging.gradient[place][c + 8] = lane(grad_t, c);
      }
#pragma unroll
      for (int corner = 0; corner < 8; ++corner) {
        staging.vertex[place][corner] = (int32_t)stencil.voxel[corner];
        staging.weight[place][corner] = stencil.voxel_weight[corner];
      }
#pragma unroll
      for (int corner = 0; corner < 12; ++corner) {
        staging.vertex[place][8 + corner] = (int32_t)stencil.texel[corner];
        staging.weight[place][8 + corner] = stencil.texel_weight[corner];
      }
    }
    __syncwarp();
    add_staged(staging, __popc(kept), records);
    __syncwarp();
  }
}

inline int launch_render(const GridView& grid, const RayView& view, float* features, float* weights, void* stream) {
  SMERF_LAUNCH(render_kernel, block_count(view.rays, kRayWarps), 32 * kRayWarps, 0, stream, grid, view, features,
               weights);
  return launch_result();
}

inline int launch_render_backward(const GridView& grid, const RayView& view, const float* up_features,
                                  const float* up_weights, const Records& records, void* stream) {
  SMERF_LAUNCH(render_backward_kernel, block_count(view.rays, kRayWarps), 32 * kRayWarps, 0, stream, grid, view,
               up_features, up_weights, records);
  return launch_result();
}

}  // namespace
