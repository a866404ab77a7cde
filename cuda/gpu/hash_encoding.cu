// Hash encoding on GPUs.
//
// The lanes of a point handle as many levels as fill one 32-byte sector of its features; blocks sweep all points for
// these levels before the next ones, so that the tables in use stay in the second-level cache.
#include "launch.h"
#include "smerf/hash_encoding.h"

namespace {

using namespace smerf;

constexpr int kMaxLevels = 32;
constexpr int kRun = 8;  // consecutive points whose gradients one thread gathers before it adds them to a cell

struct Levels {
  HashLevel level[kMaxLevels];
  int count;
};

template <int F>
struct alignas(F == 1 ? 4 : (F == 2 ? 8 : 16)) Entry {
  float v[F];
};

template <int F>
constexpr int kLanesPerPoint = F >= 8 ? 1 : 8 / F;

template <int F>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ Levels levels, const float* __restrict__ table, const float* __restrict__ x,
                   const float* __restrict__ sigma, int64_t count, float* __restrict__ out) {
  constexpr int kLanes = kLanesPerPoint<F>;
  const int64_t point = thread_number() / kLanes;
  const int l = blockIdx.y * kLanes + threadIdx.x % kLanes;
  if (point >= count || l >= levels.count) return;
  const HashLevel level = levels.level[l];
  const float position[3] = {x[3 * point], x[3 * point + 1], x[3 * point + 2]};
  uint32_t entries[8];
  float weights[8];
  level_corners(level, position, entries, weights);
  const Entry<F>* rows = reinterpret_cast<const Entry<F>*>(table) + level.offset;
  Entry<F> values[8];
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) values[corner] = rows[entries[corner]];
  const float fade = sigma ? level_fade(sigma[point], level.resolution) : 1.0f;
  Entry<F> sum = {};
#pragma unroll
  for (int corner = 0; corner < 8; ++corner)
#pragma unroll
    for (int f = 0; f < F; ++f) sum.v[f] += weights[corner] * values[corner].v[f];
#pragma unroll
  for (int f = 0; f < F; ++f) sum.v[f] = is_point(position) ? fade * sum.v[f] : 0.0f;
  reinterpret_cast<Entry<F>*>(out)[point * levels.count + l] = sum;
}

// Adds a cell's gradient to the table with as few atomic operations as the device has.
struct AtomicAdder {
  float* gradient;
  template <int F>
  __device__ __forceinline__ void add(int64_t entry, const float* values) const {
    float* to = gradient + entry * F;
    if constexpr (F % 4 == 0) {
#pragma unroll
      for (int f = 0; f < F; f += 4)
        add_to4(to + f, make_float4(values[f], values[f + 1], values[f + 2], values[f + 3]));
    } else {
#pragma unroll
      for (int f = 0; f < F; ++f) add_to(to + f, values[f]);
    }
  }
};

// The same sums on every run: whole numbers add up in any order. Units of 2^-44, up to 5e5.
struct FixedPointAdder {
  static constexpr float kUnits = 17592186044416.0f;
  long long* gradient;
  template <int F>
  __device__ __forceinline__ void add(int64_t entry, const float* values) const {
    for (int f = 0; f < F; ++f) {
      const float bounded = clampf(values[f], -4e5f, 4e5f);
      const long long units = (long long)(bounded == bounded ? bounded * kUnits : 0.0f);
      atomicAdd(reinterpret_cast<unsigned long long*>(gradient + entry * F + f), (unsigned long long)units);
    }
  }
};

// Consecutive points, samples of one ray, often share a cell of the coarse levels: a thread adds up its run of points
// in registers and writes when the cell changes.
template <int F, class Adder>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ Levels levels, const float* __restrict__ x, const float* __restrict__ sigma,
                    int64_t count, const float* __restrict__ upstream, Adder adder) {
  constexpr int kLanes = kLanesPerPoint<F>;
  const int64_t first = thread_number() / kLanes * kRun;
  const int l = blockIdx.y * kLanes + threadIdx.x % kLanes;
  if (first >= count || l >= levels.count) return;
  const HashLevel level = levels.level[l];
  uint32_t cell[8] = {};
  float sums[8][F] = {};
  bool is_open = false;
  const int64_t end = first + kRun < count ? first + kRun : count;
  for (int64_t point = first; point < end; ++point) {
    const float position[3] = {x[3 * point], x[3 * point + 1], x[3 * point + 2]};
    if (!is_point(position)) continue;
    Entry<F> up = reinterpret_cast<const Entry<F>*>(upstream)[point * levels.count + l];
    const float fade = sigma ? level_fade(sigma[point], level.resolution) : 1.0f;
    uint32_t entries[8];
    float weights[8];
    level_corners(level, position, entries, weights);
    bool is_same = is_open;
#pragma unroll
    for (int corner = 0; corner < 8; ++corner) is_same = is_same && entries[corner] == cell[corner];
    if (!is_same) {
#pragma unroll
      for (int corner = 0; corner < 8; ++corner) {
        if (is_open) adder.template add<F>(level.offset + cell[corner], sums[corner]);
        cell[corner] = entries[corner];
#pragma unroll
        for (int f = 0; f < F; ++f) sums[corner][f] = 0.0f;
      }
      is_open = true;
    }
#pragma unroll
    for (int corner = 0; corner < 8; ++corner)
#pragma unroll
      for (int f = 0; f < F; ++f) sums[corner][f] += fade * weights[corner] * up.v[f];
  }
  if (!is_open) return;
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) adder.template add<F>(level.offset + cell[corner], sums[corner]);
}

__global__ void from_fixed_point_kernel(const long long* __restrict__ units, float* __restrict__ gradient,
                                        int64_t count) {
  const int64_t i = thread_number();
  if (i < count && units[i] != 0) gradient[i] += (float)((double)units[i] / (double)FixedPointAdder::kUnits);
}

template <int F>
__global__ void __launch_bounds__(kThreads)
    backward_input_kernel(const __grid_constant__ Levels levels, const float* __restrict__ table,
                          const float* __restrict__ x, const float* __restrict__ sigma, int64_t count,
                          const float* __restrict__ upstream, float* __restrict__ gradient) {
  const int64_t point = thread_number();
  if (point >= count) return;
  const float position[3] = {x[3 * point], x[3 * point + 1], x[3 * point + 2]};
  float total[3] = {0.0f, 0.0f, 0.0f};
  for (int l = 0; is_point(position) && l < levels.count; ++l) {
    const HashLevel level = levels.level[l];
    uint32_t entries[8];
    float weights[8];
    level_corners(level, position, entries, weights);
    const float fade = sigma ? level_fade(sigma[point], level.resolution) : 1.0f;
    const Entry<F> up = reinterpret_cast<const Entry<F>*>(upstream)[point * levels.count + l];
    const Entry<F>* rows = reinterpret_cast<const Entry<F>*>(table) + level.offset;
#pragma unroll
    for (int corner = 0; corner < 8; ++corner) {
      const Entry<F> value = rows[entries[corner]];
      float dot = 0.0f, slope[3];
#pragma unroll
      for (int f = 0; f < F; ++f) dot += up.v[f] * value.v[f];
      corner_gradient(level, position, corner, slope);
#pragma unroll
      for (int axis = 0; axis < 3; ++axis) total[axis] += fade * dot * slope[axis];
    }
  }
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    const bool inside = position[axis] > 0.0f && position[axis] < 1.0f;
    gradient[3 * point + axis] = inside ? total[axis] : 0.0f;
  }
}

Levels read_levels(const void* records, int count) {
  Levels levels = {};
  levels.count = count;
  for (int l = 0; l < count; ++l) levels.level[l] = static_cast<const HashLevel*>(records)[l];
  return levels;
}

template <int F>
dim3 level_grid(int64_t points, int levels) {
  constexpr int kLanes = kLanesPerPoint<F>;
  return dim3(block_count(points * kLanes, kThreads), (levels + kLanes - 1) / kLanes);
}

}  // namespace

#define SMERF_BY_FEATURES(call)                            \
  if (level_count > kMaxLevels) return kUnsupported;       \
  if (count == 0) return 0;                                \
  const Levels levels = read_levels(records, level_count); \
  switch (features) {                                      \
    case 1: call(1); break;                                \
    case 2: call(2); break;                                \
    case 4: call(4); break;                                \
    case 8: call(8); break;                                \
    default: return kUnsupported;                          \
  }                                                        \
  return launch_result();

// records: array of HashLevel in host memory; everything else as in cuda/cpu/hash_encoding.cpp, on the device. table,
// out and upstream are aligned to an entry.
SMERF_API int smerf_hash_encode_forward(const void* records, int level_count, int features, const float* table,
                                        const float* x, const float* sigma, int64_t count, float* out, void* stream) {
#define SMERF_CALL(F)                                                                                              \
  SMERF_LAUNCH(forward_kernel<F>, level_grid<F>(count, level_count), kThreads, 0, stream, levels, table, x, sigma, \
               count, out)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// gradient: (entries, features), added to, in no fixed order.
SMERF_API int smerf_hash_encode_backward(const void* records, int level_count, int features, const float* x,
                                         const float* sigma, int64_t count, const float* upstream, float* gradient,
                                         void* stream) {
  const AtomicAdder adder = {gradient};
#define SMERF_CALL(F)                                                                                                 \
  SMERF_LAUNCH((backward_kernel<F, AtomicAdder>), level_grid<F>((count + kRun - 1) / kRun, level_count), kThreads, 0, \
               stream, levels, x, sigma, count, upstream, adder)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// The same, repeating exactly. units: (entries, features) 64-bit whole numbers, zero before the call.
SMERF_API int smerf_hash_encode_backward_repeatable(const void* records, int level_count, int features, const float* x,
                                                    const float* sigma, int64_t count, const float* upstream,
                                                    int64_t* units, float* gradient, int64_t entries, void* stream) {
  const FixedPointAdder adder = {reinterpret_cast<long long*>(units)};
  const int64_t values = entries * features;
#define SMERF_CALL(F)                                                                                                  \
  SMERF_LAUNCH((backward_kernel<F, FixedPointAdder>), level_grid<F>((count + kRun - 1) / kRun, level_count), kThreads, \
               0, stream, levels, x, sigma, count, upstream, adder);                                                   \
  SMERF_LAUNCH(from_fixed_point_kernel, block_count(values, kThreads), kThreads, 0, stream, adder.gradient, gradient,  \
               values)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// gradient: (count, 3), written.
SMERF_API int smerf_hash_encode_backward_input(const void* records, int level_count, int features, const float* table,
                                               const float* x, const float* sigma, int64_t count, const float* upstream,
                                               float* gradient, void* stream) {
#define SMERF_CALL(F)                                                                                                \
  SMERF_LAUNCH(backward_input_kernel<F>, block_count(count, kThreads), kThreads, 0, stream, levels, table, x, sigma, \
               count, upstream, gradient)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}
