// Which rows of an array a kernel works on: all that the host knows of, or as many as earlier kernels have counted.
#pragma once

#include "launch.h"

namespace smerf {

// Rows come in rounds, one round's behind those of the one before.
struct RowRange {
  int64_t most;           // that a launch has to make room for
  const int32_t* counts;  // (rounds) rows of each, on the device; null: all `most` rows
  int before, rounds;     // rounds before the range, and in it

  __device__ __forceinline__ int64_t begin() const {
    int64_t total = 0;
    for (int i = 0; i < before; ++i) total += counts[i];
    return total;
  }
  __device__ __forceinline__ int64_t end() const {
    if (!counts) return most;
    int64_t total = 0;
    for (int i = 0; i < before + rounds; ++i) total += counts[i];
    return total;
  }
};

inline RowRange all_rows(int64_t count) { return {count, nullptr, 0, 0}; }

}  // namespace smerf
