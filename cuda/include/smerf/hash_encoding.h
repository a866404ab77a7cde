// Multi-resolution hash encoding (arXiv 2201.05989) with Zip-NeRF's conventions (arXiv 2304.06706).
//
// Level values sit at cell centres: a point X in [0,1]^3 reads level n at X*n - 0.5, indices clamped to [0, n-1].
// A level with n^3 <= T is a dense array, otherwise it is hashed into T (a power of two) entries. With a footprint
// sigma (standard deviation in the units of X) a level is faded by omega = erf(1 / (sqrt(8) sigma n)).
#pragma once

#include "smerf/lanes.h"

namespace smerf {

struct HashLevel {
  int64_t offset;      // first entry of this level, in entries
  int32_t resolution;  // n, cells per axis
  uint32_t mask;       // T - 1 when hashed, 0 when dense
};

// A point with a coordinate that is not a number has no features and no gradient.
SMERF_FN bool is_point(const float* x) { return x[0] == x[0] && x[1] == x[1] && x[2] == x[2]; }

SMERF_FN uint32_t hash_bucket(uint32_t x, uint32_t y, uint32_t z, uint32_t mask) {
  return (x ^ (y * 19349663u) ^ (z * 83492791u)) & mask;
}

SMERF_FN uint32_t level_entry(const HashLevel& level, uint32_t x, uint32_t y, uint32_t z) {
  const uint32_t n = (uint32_t)level.resolution;
  return level.mask ? hash_bucket(x, y, z, level.mask) : (z * n + y) * n + x;
}

// erf(z) for z >= 0, within 0.007 (Zip-NeRF's form).
SMERF_FN float level_fade(float sigma, int resolution) {
  const float denominator = 8.0f * sigma * sigma * (float)resolution * (float)resolution;
  const float z2 = 1.0f / larger(denominator, 1e-12f);
  return sqrtf(1.0f - fast_exp(-1.27323954f * z2));
}

// The eight corners of a point in a level: entries (within the level) and trilinear weights.
SMERF_FN void level_corners(const HashLevel& level, const float* x, uint32_t* entries, float* weights) {
  const int n = level.resolution;
  uint32_t lo[3], hi[3];
  float f[3];
  const bool valid = is_point(x);
  for (int axis = 0; axis < 3; ++axis) {
    const float g = (valid ? clampf(x[axis], 0.0f, 1.0f) : 0.0f) * (float)n - 0.5f;
    const float base = floorf(g);
    f[axis] = g - base;
    lo[axis] = (uint32_t)clamp_whole(base, 0, n - 1);
    hi[axis] = (uint32_t)clamp_whole(base + 1.0f, 0, n - 1);
  }
  for (int corner = 0; corner < 8; ++corner) {
    const uint32_t cx = corner & 1 ? hi[0] : lo[0], cy = corner & 2 ? hi[1] : lo[1], cz = corner & 4 ? hi[2] : lo[2];
    const float wx = corner & 1 ? f[0] : 1.0f - f[0], wy = corner & 2 ? f[1] : 1.0f - f[1];
    entries[corner] = level_entry(level, cx, cy, cz);
    weights[corner] = valid ? wx * wy * (corner & 4 ? f[2] : 1.0f - f[2]) : 0.0f;
  }
}

// Gradient of the trilinear weights with respect to x (a point), for one corner: (dw/dx, dw/dy, dw/dz).
SMERF_FN void corner_gradient(const HashLevel& level, const float* x, int corner, float* gradient) {
  float w[3];
  for (int axis = 0; axis < 3; ++axis) {
    const float g = clampf(x[axis], 0.0f, 1.0f) * (float)level.resolution - 0.5f;
    const float f = g - floorf(g);
    w[axis] = (corner >> axis) & 1 ? f : 1.0f - f;
  }
  const float n = (float)level.resolution;
  gradient[0] = (corner & 1 ? n : -n) * w[1] * w[2];
  gradient[1] = (corner & 2 ? n : -n) * w[0] * w[2];
  gradient[2] = (corner & 4 ? n : -n) * w[0] * w[1];
}

}  // namespace smerf
