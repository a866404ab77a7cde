// How far rays may skip: the chessboard distance of every cell to the nearest occupied one.
//
// The distance is separable. Along one axis after the other, a cell takes the least of max(steps along the axis,
// distance so far) over its line; after three axes that is exact. Mirrors smerf/kernels/reference/distance_grid.py.
#pragma once

#include "smerf/common.h"

namespace smerf {

constexpr uint16_t kFar = 65535;

SMERF_FN uint16_t start_distance(uint8_t occupied) { return occupied ? 0 : kFar; }

// The distance of a cell, given that of the cell k steps along the axis.
SMERF_FN uint16_t nearer(uint16_t distance, uint16_t neighbour, uint16_t k) {
  const uint16_t over = neighbour > k ? neighbour : k;
  return over < distance ? over : distance;
}

// Distance after one more axis of cell i of a line of n; neighbours on the line are `stride` apart.
SMERF_FN uint16_t line_distance(const uint16_t* cell, int64_t stride, int i, int n) {
  uint16_t best = *cell;
  for (int k = 1; k < best && (k <= i || i + k < n); ++k) {
    if (k <= i) best = nearer(best, cell[-k * stride], (uint16_t)k);
    if (i + k < n) best = nearer(best, cell[k * stride], (uint16_t)k);
  }
  return best;
}

// Cells that a ray may skip: occupied cells and their neighbours none.
SMERF_FN uint8_t skipped_cells(uint16_t distance, int limit) { return (uint8_t)clampi((int)distance - 1, 0, limit); }

}  // namespace smerf
