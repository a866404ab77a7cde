// MERF's piecewise-projective contraction of space into (-2, 2)^3 (arXiv 2302.12249, section 4.3).
//
// The largest component m of a point outside the unit cube becomes sign * (2 - 1/m), the others are divided by m.
// Straight lines stay straight inside each of the seven regions. Ties go to the first of x, y, z.
#pragma once

#include "smerf/common.h"

namespace smerf {

struct Vec3 {
  float x, y, z;
};

SMERF_FN int largest_axis(const Vec3& p) {
  const float ax = fabsf(p.x), ay = fabsf(p.y), az = fabsf(p.z);
  if (ax >= ay && ax >= az) return 0;
  return ay >= az ? 1 : 2;
}

SMERF_FN float max_abs(const Vec3& p) { return larger(fabsf(p.x), larger(fabsf(p.y), fabsf(p.z))); }

SMERF_FN Vec3 contract(const Vec3& p) {
  const float m = max_abs(p);
  if (!(m > 1.0f)) return p;
  const float inv = 1.0f / m;
  const int axis = largest_axis(p);
  const float pull = 2.0f - inv;
  Vec3 s = {p.x * inv, p.y * inv, p.z * inv};
  if (axis == 0) s.x *= pull;
  if (axis == 1) s.y *= pull;
  if (axis == 2) s.z *= pull;
  return s;
}

// The same without branches, for loops that vectorise over points. m: max(1, max_abs(p)).
SMERF_FN Vec3 contract_flat(const Vec3& p, float m) {
  const float ax = fabsf(p.x), ay = fabsf(p.y), az = fabsf(p.z), inv = 1.0f / m, pull = m > 1.0f ? 2.0f - inv : 1.0f;
  const bool is_x = ax >= ay && ax >= az, is_y = !is_x && ay >= az;
  return {p.x * inv * (is_x ? pull : 1.0f), p.y * inv * (is_y ? pull : 1.0f), p.z * inv * (is_x || is_y ? 1.0f : pull)};
}

// Cube root of the contraction's Jacobian determinant: how much a small ball shrinks.
SMERF_FN float contraction_scale(const Vec3& p) {
  const float m = max_abs(p);
  return m > 1.0f ? 1.0f / (m * cbrtf(m)) : 1.0f;
}

// Length of J(p) d: contracted distance per unit step along d.
SMERF_FN float contraction_speed(const Vec3& p, const Vec3& d) {
  const float m = max_abs(p);
  if (!(m > 1.0f)) return sqrtf(d.x * d.x + d.y * d.y + d.z * d.z);
  const int axis = largest_axis(p);
  const float pa = axis == 0 ? p.x : (axis == 1 ? p.y : p.z);
  const float da = axis == 0 ? d.x : (axis == 1 ? d.y : d.z);
  const float pb = axis == 0 ? p.y : p.x, db = axis == 0 ? d.y : d.x;
  const float pc = axis == 2 ? p.y : p.z, dc = axis == 2 ? d.y : d.z;
  const float inv = 1.0f / m, inv2 = inv * inv, s = pa < 0.0f ? -1.0f : 1.0f;
  const float ja = da * inv2;
  const float jb = db * inv - s * da * pb * inv2;
  const float jc = dc * inv - s * da * pc * inv2;
  return sqrtf(ja * ja + jb * jb + jc * jc);
}

}  // namespace smerf
