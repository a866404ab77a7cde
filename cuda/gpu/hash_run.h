// Hash encoding on GPUs.
//
// The lanes of a point handle as many levels as fill one 32-byte sector of its features; blocks sweep all points for
// these levels before the next ones, so that the tables in use stay in the second-level cache.
#pragma once

#include "rows.h"
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
    hash_kernel(const __grid_constant__ Levels levels, const float* __restrict__ table, const float* __restrict__ x,
                const float* __restrict__ sigma, const __grid_constant__ RowRange rows, float* __restrict__ out) {
  constexpr int kLanes = kLanesPerPoint<F>;
  const int64_t point = rows.begin() + thread_number() / kLanes;
  const int l = blockIdx.y * kLanes + threadIdx.x % kLanes;
  if (point >= rows.end() || l >= levels.count) return;
  const HashLevel level = levels.level[l];
  const float position[3] = {x[3 * point], x[3 * point + 1], x[3 * point + 2]};
  uint32_t entries[8];
  float weights[8];
  level_corners(level, position, entries, weights);
  const Entry<F>* entry = reinterpret_cast<const Entry<F>*>(table) + level.offset;
  Entry<F> values[8];
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) values[corner] = entry[entries[corner]];
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

// Consecutive points, samples of one ray, often share a cell of the coarse levels: a thread adds up its run of points
// in registers and writes when the cell changes.
template <int F, class Adder>
__global__ void __launch_bounds__(kThreads)
    hash_backward_kernel(const __grid_constant__ Levels levels, const float* __restrict__ x,
                         const float* __restrict__ sigma, const __grid_constant__ RowRange rows,
                         const float* __restrict__ upstream, Adder adder) {
  constexpr int kLanes = kLanesPerPoint<F>;
  const int64_t first = rows.begin() + thread_number() / kLanes * kRun, count = rows.end();
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
