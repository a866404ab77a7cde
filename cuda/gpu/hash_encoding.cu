// Hash encoding on GPUs: forward and back (hash_run.h), repeatable sums, and the points' own gradients.
#include "hash_run.h"

namespace {

using namespace smerf;

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
#define SMERF_CALL(F)                                                                                           \
  SMERF_LAUNCH(hash_kernel<F>, level_grid<F>(count, level_count), kThreads, 0, stream, levels, table, x, sigma, \
               all_rows(count), out)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// gradient: (entries, features), added to, in no fixed order.
SMERF_API int smerf_hash_encode_backward(const void* records, int level_count, int features, const float* x,
                                         const float* sigma, int64_t count, const float* upstream, float* gradient,
                                         void* stream) {
  const AtomicAdder adder = {gradient};
#define SMERF_CALL(F)                                                                                         \
  SMERF_LAUNCH((hash_backward_kernel<F, AtomicAdder>), level_grid<F>((count + kRun - 1) / kRun, level_count), \
               kThreads, 0, stream, levels, x, sigma, all_rows(count), upstream, adder)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// The same, repeating exactly. units: (entries, features) 64-bit whole numbers, zero before the call.
SMERF_API int smerf_hash_encode_backward_repeatable(const void* records, int level_count, int features, const float* x,
                                                    const float* sigma, int64_t count, const float* upstream,
                                                    int64_t* units, float* gradient, int64_t entries, void* stream) {
  const FixedPointAdder adder = {reinterpret_cast<long long*>(units)};
  const int64_t values = entries * features;
#define SMERF_CALL(F)                                                                                                 \
  SMERF_LAUNCH((hash_backward_kernel<F, FixedPointAdder>), level_grid<F>((count + kRun - 1) / kRun, level_count),     \
               kThreads, 0, stream, levels, x, sigma, all_rows(count), upstream, adder);                              \
  SMERF_LAUNCH(from_fixed_point_kernel, block_count(values, kThreads), kThreads, 0, stream, adder.gradient, gradient, \
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
