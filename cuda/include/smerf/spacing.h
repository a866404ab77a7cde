// The map between distance t in [near, far] and normalised distance s in [0, 1] along a ray.
//
// Bounded scenes are spaced linearly. Unbounded ones follow the power ladder g(t) = 5/3 (1 - (0.8 t + 1)^-1.5)
// (Zip-NeRF, arXiv 2304.06706): nearly linear close by, and infinity at a finite g.
#pragma once

#include "smerf/lanes.h"

namespace smerf {

struct RaySpacing {
  float near_t, far_t;  // ends of every ray; far_t is what infinity is cut at
  float near_g, far_g;  // their ladder values (unused when linear)
  int32_t linear;
};

// y^(-1/3) for y in (0, 1e30): a guess from the exponent, then Newton; relative error below 1e-6.
SMERF_FN float inverse_cube_root(float y) {
  int32_t bits;
  memcpy(&bits, &y, sizeof(bits));
  bits = 0x54a21d2a - (int32_t)((float)bits * 0.333333343f);
  float r;
  memcpy(&r, &bits, sizeof(r));
  for (int i = 0; i < 3; ++i) r = r * (4.0f - y * r * r * r) * 0.333333343f;
  return r;
}

SMERF_FN float t_from_s(const RaySpacing& spacing, float s) {
  if (spacing.linear) return spacing.near_t + s * (spacing.far_t - spacing.near_t);
  const float g = smaller(spacing.near_g + s * (spacing.far_g - spacing.near_g), 1.66666498f);
  const float r = inverse_cube_root(1.0f - 0.6f * g);
  return clampf((r * r - 1.0f) * 1.25f, spacing.near_t, spacing.far_t);
}

// The distance in which distortion is measured, so that haze far away costs little.
SMERF_FN float ladder(float t) {
  const float y = 0.8f * t + 1.0f, r = inverse_cube_root(y);
  // y^-1.5 = (y^-1/3)^4.5
  const float r2 = r * r;
  return 1.66666667f * (1.0f - r2 * r2 * sqrtf(r));
}

SMERF_FN float s_from_t(const RaySpacing& spacing, float t) {
  t = clampf(t, spacing.near_t, spacing.far_t);
  if (spacing.linear) return (t - spacing.near_t) / (spacing.far_t - spacing.near_t);
  return clampf((ladder(t) - spacing.near_g) / (spacing.far_g - spacing.near_g), 0.0f, 1.0f);
}

}  // namespace smerf
