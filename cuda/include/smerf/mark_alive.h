// Which cells of a submodel a sample is seen in: what baking keeps (SMERF, arXiv 2312.07541, section 7.1).
#pragma once

#include "smerf/grid.h"

namespace smerf {

// Cells divide contracted space evenly. Field order and types are mirrored by smerf/kernels/mark_alive.py.
struct AliveGrid {
  float centre[3];    // of the submodel, training space
  float scale;        // training units to submodel units
  int32_t cells;      // per axis
  float seen, solid;  // weights above which a sample counts, and belongs to a surface
};

SMERF_FN int alive_index(float s, int cells) { return clamp_whole((s + 2.0f) * (0.25f * (float)cells), 0, cells - 1); }

// The cell in which the interval [t0, t1] of a ray reads the grids; -1 for what is not a number.
SMERF_FN int64_t alive_cell(const AliveGrid& grid, const float* o, const float* d, float t0, float t1) {
  const float t = frustum_mean(t0, t1);
  const Vec3 p =
      viewer_axes((o[0] + t * d[0] - grid.centre[0]) * grid.scale, (o[1] + t * d[1] - grid.centre[1]) * grid.scale,
                  (o[2] + t * d[2] - grid.centre[2]) * grid.scale);
  const Vec3 s = contract(p);
  if (!(s.x == s.x && s.y == s.y && s.z == s.z)) return -1;
  const int n = grid.cells;
  return ((int64_t)alive_index(s.x, n) * n + alive_index(s.y, n)) * n + alive_index(s.z, n);
}

// Many threads may set the same byte, always to one.
SMERF_FN void set_byte(uint8_t* byte) {
#if defined(__CUDA_ARCH__)
  *byte = 1;
#else
  __atomic_store_n(byte, (uint8_t)1, __ATOMIC_RELAXED);
#endif
}

// Marks the cells of one ray's samples. edges: (samples + 1), weights: (samples).
SMERF_FN void mark_ray(const AliveGrid& grid, const float* o, const float* d, const float* edges, const float* weights,
                       int samples, uint8_t* seen, uint8_t* solid) {
  for (int i = 0; i < samples; ++i) {
    if (!(weights[i] > grid.seen)) continue;
    const int64_t cell = alive_cell(grid, o, d, edges[i], edges[i + 1]);
    if (cell < 0) continue;
    set_byte(seen + cell);
    if (weights[i] > grid.solid) set_byte(solid + cell);
  }
}

}  // namespace smerf
