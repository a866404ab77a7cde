// Points of a conical frustum for multisampled encoding (Zip-NeRF, arXiv 2304.06706, section 3.1).
//
// Six points on a hexagonal pattern around the ray match the frustum's mean and variance. Each interval's pattern is
// turned and mirrored, by a hash of a seed and the interval's place, or by fixed alternation where there is no seed.
#pragma once

#include "smerf/contraction.h"

namespace smerf {

struct FrustumSpec {
  int64_t first_ray;  // number of the first ray: the pattern does not depend on how rays are split into batches
  float scale;        // factor from world units to the contraction's unit ball or cube
  int32_t points;     // 6, 3 (every other of the six, either half) or 1 (the interval's midpoint)
  int32_t is_ball;    // contraction of the unit ball (Zip-NeRF); otherwise of the unit cube (MERF)
  int32_t is_random;  // whether seed is used
  uint32_t seed;
  int32_t padding;
};

struct FrustumPattern {
  float turn;   // radians around the ray
  bool mirror;  // angles in reverse
  int half;     // which three of the six
};

SMERF_FN uint32_t mix_bits(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

SMERF_FN FrustumPattern frustum_pattern(const FrustumSpec& spec, int64_t ray, int sample) {
  if (!spec.is_random) return {(float)(sample & 1) * 0.52359878f, (sample & 1) != 0, (sample >> 1) & 1};
  const uint32_t bits = mix_bits(mix_bits(mix_bits(spec.seed) ^ (uint32_t)(spec.first_ray + ray)) ^ (uint32_t)sample);
  return {(float)(bits >> 8) * (6.28318531f / 16777216.0f), (bits & 1u) != 0, (int)(bits >> 1 & 1u)};
}

SMERF_FN Vec3 cross(const Vec3& a, const Vec3& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}

SMERF_FN Vec3 unit(const Vec3& a) {
  const float inv = 1.0f / sqrtf(fmaxf(a.x * a.x + a.y * a.y + a.z * a.z, 1e-30f));
  return {a.x * inv, a.y * inv, a.z * inv};
}

// Two axes across a direction of any length.
SMERF_FN void across(const float* direction, Vec3* u, Vec3* v) {
  const Vec3 d = unit({direction[0], direction[1], direction[2]});
  const bool is_vertical = d.x * d.x + d.y * d.y < 1e-6f;
  *u = unit(is_vertical ? cross(d, {1.0f, 1.0f, 1.0f}) : cross(d, {0.0f, 0.0f, 1.0f}));
  *v = cross(d, *u);
}

// Distance of point j of six in [t0, t1].
SMERF_FN float frustum_distance(float t0, float t1, int j) {
  const float m = 0.5f * (t0 + t1), h = 0.5f * (t1 - t0);
  const float mm = m * m, hh = h * h;
  const float root = sqrtf((hh - mm) * (hh - mm) + 4.0f * mm * mm);
  const float step = 1.13389342f * (0.4f * (float)j - 1.0f) * root;  // 3 / sqrt(7)
  return t0 + h / fmaxf(hh + 3.0f * mm, 1e-30f) * (t1 * t1 + 2.0f * mm + step);
}

SMERF_FN Vec3 contract_ball(const Vec3& p) {
  const float n2 = p.x * p.x + p.y * p.y + p.z * p.z;
  if (!(n2 > 1.0f)) return p;
  const float inv = 1.0f / sqrtf(n2), pull = (2.0f - inv) * inv;
  return {p.x * pull, p.y * pull, p.z * pull};
}

// Cube root of the ball contraction's Jacobian determinant.
SMERF_FN float ball_scale(const Vec3& p) {
  const float n2 = p.x * p.x + p.y * p.y + p.z * p.z;
  if (!(n2 > 1.0f)) return 1.0f;
  const float root = cbrtf(2.0f * sqrtf(n2) - 1.0f);
  return root * root / n2;
}

// Point `k` of spec.points of the interval [t0, t1] of a ray: x (3) in [0, 1]^3; returns the footprint, the standard
// deviation in the units of x. u, v: axes across the ray.
SMERF_FN float frustum_point(const FrustumSpec& spec, const FrustumPattern& pattern, const float* origin,
                             const float* direction, const Vec3& u, const Vec3& v, float t0, float t1, float radius,
                             int k, float* x) {
  float t = 0.5f * (t0 + t1), rho = radius * t, side_u = 0.0f, side_v = 0.0f;
  if (spec.points > 1) {
    const int j = spec.points == 6 ? k : 2 * k + pattern.half;
    t = frustum_distance(t0, t1, j);
    rho = 0.70710678f * radius * t;
    // Angles 0, 2, 4, 3, 5, 1 sixths of a turn; in reverse order they are mirrored.
    const int sixth = (0x153420 >> (4 * (pattern.mirror ? 5 - j : j))) & 15;
    const float angle = 1.04719755f * (float)sixth + pattern.turn;
    side_u = rho * cosf(angle);
    side_v = rho * sinf(angle);
  }
  const float s = spec.scale;
  const Vec3 p = {s * (origin[0] + t * direction[0] + side_u * u.x + side_v * v.x),
                  s * (origin[1] + t * direction[1] + side_u * u.y + side_v * v.y),
                  s * (origin[2] + t * direction[2] + side_u * u.z + side_v * v.z)};
  const Vec3 c = spec.is_ball ? contract_ball(p) : contract(p);
  x[0] = 0.25f * (c.x + 2.0f);
  x[1] = 0.25f * (c.y + 2.0f);
  x[2] = 0.25f * (c.z + 2.0f);
  return 0.125f * s * rho * (spec.is_ball ? ball_scale(p) : contraction_scale(p));
}

}  // namespace smerf
