// Multisampled hash encoding on GPUs: one thread an interval and a level; blocks sweep all intervals for one level
// before the next, so that its table stays in the second-level cache. Points are found anew for every level: cheaper
// than memory.
#include "launch.h"
#include "smerf/hash_encoding.h"
#include "smerf/multisample.h"

namespace {

using namespace smerf;

constexpr int kMaxLevels = 32;
constexpr int kMaxPoints = 6;

struct Levels {
  HashLevel level[kMaxLevels];
  int count;
};

struct Rays {
  const float *origins, *directions, *edges, *radii;
  int64_t count;  // of intervals
  int samples;
};

// What the points of one interval share.
struct Interval {
  FrustumPattern pattern;
  Vec3 u, v;
  float origin[3], direction[3], t0, t1, radius;
};

__device__ __forceinline__ Interval read_interval(const FrustumSpec& spec, const Rays& rays, int64_t i) {
  const int64_t ray = i / rays.samples;
  const int sample = (int)(i - ray * rays.samples);
  Interval interval;
  for (int axis = 0; axis < 3; ++axis) {
    interval.origin[axis] = rays.origins[3 * ray + axis];
    interval.direction[axis] = rays.directions[3 * ray + axis];
  }
  interval.u = interval.v = {0.0f, 0.0f, 0.0f};
  if (spec.points > 1) across(interval.direction, &interval.u, &interval.v);
  interval.pattern = frustum_pattern(spec, ray, sample);
  interval.t0 = rays.edges[i + ray];
  interval.t1 = rays.edges[i + ray + 1];
  interval.radius = rays.radii[ray];
  return interval;
}

__device__ __forceinline__ float point_of(const FrustumSpec& spec, const Interval& interval, int k, float* x) {
  return frustum_point(spec, interval.pattern, interval.origin, interval.direction, interval.u, interval.v, interval.t0,
                       interval.t1, interval.radius, k, x);
}

template <int F>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ FrustumSpec spec, const __grid_constant__ Rays rays,
                   const __grid_constant__ Levels levels, const float* __restrict__ table,
                   const float* __restrict__ level_scales, float* __restrict__ out) {
  const int64_t i = thread_number();
  if (i >= rays.count) return;
  const int l = blockIdx.y, width = levels.count * F, stride = width + (level_scales ? levels.count : 0);
  const HashLevel level = levels.level[l];
  const Interval interval = read_interval(spec, rays, i);
  const float* values = table + level.offset * F;
  float sums[F] = {}, fades = 0.0f;
  for (int k = 0; k < spec.points; ++k) {
    float x[3], weights[8];
    uint32_t entries[8];
    const float fade = level_fade(point_of(spec, interval, k, x), level.resolution);
    level_corners(level, x, entries, weights);
    fades += fade;
#pragma unroll
    for (int corner = 0; corner < 8; ++corner)
#pragma unroll
      for (int f = 0; f < F; ++f) sums[f] += fade * weights[corner] * values[(int64_t)entries[corner] * F + f];
  }
  const float share = 1.0f / (float)spec.points;
#pragma unroll
  for (int f = 0; f < F; ++f) out[i * stride + l * F + f] = share * sums[f];
  if (level_scales) out[i * stride + width + l] = (2.0f * share * fades - 1.0f) * level_scales[l];
}

template <int F>
__device__ __forceinline__ void add_entry(float* to, const float* values) {
  if constexpr (F % 4 == 0) {
#pragma unroll
    for (int f = 0; f < F; f += 4) add_to4(to + f, make_float4(values[f], values[f + 1], values[f + 2], values[f + 3]));
  } else {
#pragma unroll
    for (int f = 0; f < F; ++f) add_to(to + f, values[f]);
  }
}

// The points of an interval often share a cell of the coarse levels: their gradients are summed before they are added.
template <int F>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ FrustumSpec spec, const __grid_constant__ Rays rays,
                    const __grid_constant__ Levels levels, const float* __restrict__ upstream, int stride,
                    float* __restrict__ gradient) {
  const int64_t i = thread_number();
  if (i >= rays.count) return;
  const int l = blockIdx.y;
  const HashLevel level = levels.level[l];
  const Interval interval = read_interval(spec, rays, i);
  float* base = gradient + level.offset * F;
  float up[F], sums[8][F];
  const float share = 1.0f / (float)spec.points;
#pragma unroll
  for (int f = 0; f < F; ++f) up[f] = share * upstream[i * stride + l * F + f];
  uint32_t cell[8];
  bool is_open = false;
  for (int k = 0; k < spec.points; ++k) {
    float x[3], weights[8];
    uint32_t entries[8];
    const float fade = level_fade(point_of(spec, interval, k, x), level.resolution);
    if (!is_point(x)) continue;
    level_corners(level, x, entries, weights);
    bool is_same = is_open;
#pragma unroll
    for (int corner = 0; corner < 8; ++corner) is_same = is_same && entries[corner] == cell[corner];
    if (!is_same) {
#pragma unroll
      for (int corner = 0; corner < 8; ++corner) {
        if (is_open) add_entry<F>(base + (int64_t)cell[corner] * F, sums[corner]);
        cell[corner] = entries[corner];
#pragma unroll
        for (int f = 0; f < F; ++f) sums[corner][f] = 0.0f;
      }
      is_open = true;
    }
#pragma unroll
    for (int corner = 0; corner < 8; ++corner)
#pragma unroll
      for (int f = 0; f < F; ++f) sums[corner][f] += fade * weights[corner] * up[f];
  }
  if (!is_open) return;
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) add_entry<F>(base + (int64_t)cell[corner] * F, sums[corner]);
}

bool read_levels(const void* records, int count, Levels* levels) {
  if (count > kMaxLevels) return false;
  levels->count = count;
  for (int l = 0; l < count; ++l) levels->level[l] = static_cast<const HashLevel*>(records)[l];
  return true;
}

}  // namespace

#define SMERF_BY_FEATURES(call)                                                                     \
  const FrustumSpec spec = *static_cast<const FrustumSpec*>(spec_bytes);                            \
  const Rays source = {origins, directions, edges, radii, rays * samples, samples};                 \
  Levels levels = {};                                                                               \
  if (!read_levels(records, level_count, &levels) || spec.points > kMaxPoints) return kUnsupported; \
  if (source.count == 0) return 0;                                                                  \
  const dim3 blocks(block_count(source.count, kThreads), level_count);                              \
  switch (features) {                                                                               \
    case 1: call(1); break;                                                                         \
    case 2: call(2); break;                                                                         \
    case 4: call(4); break;                                                                         \
    case 8: call(8); break;                                                                         \
    default: return kUnsupported;                                                                   \
  }                                                                                                 \
  return launch_result();

// Arguments as in cuda/cpu/multisample.cpp; spec and levels lie in host memory.
SMERF_API int smerf_multisample_forward(const void* spec_bytes, const float* origins, const float* directions,
                                        const float* edges, const float* radii, int64_t rays, int samples,
                                        const void* records, int level_count, int features, const float* table,
                                        const float* level_scales, float* out, void* stream) {
#define SMERF_CALL(F) \
  SMERF_LAUNCH(forward_kernel<F>, blocks, kThreads, 0, stream, spec, source, levels, table, level_scales, out)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

SMERF_API int smerf_multisample_backward(const void* spec_bytes, const float* origins, const float* directions,
                                         const float* edges, const float* radii, int64_t rays, int samples,
                                         const void* records, int level_count, int features, const float* upstream,
                                         int stride, float* gradient, void* stream) {
#define SMERF_CALL(F) \
  SMERF_LAUNCH(backward_kernel<F>, blocks, kThreads, 0, stream, spec, source, levels, upstream, stride, gradient)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}
