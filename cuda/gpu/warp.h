// Sums and products over the lanes of a warp.
#pragma once

#include "launch.h"

namespace smerf {

// Product over the lanes before this one; `total` is that over all lanes.
__device__ __forceinline__ float product_before(float value, float* total) {
  const int self = threadIdx.x % 32;
  float inclusive = value;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const float other = __shfl_up_sync(kWholeWarp, inclusive, delta);
    if (self >= delta) inclusive *= other;
  }
  *total = __shfl_sync(kWholeWarp, inclusive, 31);
  const float before = __shfl_up_sync(kWholeWarp, inclusive, 1);
  return self ? before : 1.0f;
}

// Sum over the lanes after this one; `total` is that over all lanes.
__device__ __forceinline__ float sum_after(float value, float* total) {
  const int self = threadIdx.x % 32;
  float inclusive = value;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const float other = __shfl_down_sync(kWholeWarp, inclusive, delta);
    if (self + delta < 32) inclusive += other;
  }
  *total = __shfl_sync(kWholeWarp, inclusive, 0);
  const float after = __shfl_down_sync(kWholeWarp, inclusive, 1);
  return self < 31 ? after : 0.0f;
}

__device__ __forceinline__ float sum_lanes(float value) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) value += __shfl_xor_sync(kWholeWarp, value, mask);
  return value;
}

}  // namespace smerf
