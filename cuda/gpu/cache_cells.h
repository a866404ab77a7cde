// Cells of the density cache, which many threads see at once.
#pragma once

#include "launch.h"

namespace smerf {

// Raises a cell, which is not negative, to a density: floats that are not negative have the order of their bits.
__device__ __forceinline__ void raise_cell(float* cell, float density) {
  if (density > 0.0f) atomicMax(reinterpret_cast<int*>(cell), __float_as_int(density));
}

}  // namespace smerf
