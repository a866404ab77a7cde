// Gaussian splats: the response of a splat along a ray, its colour, and the intervals that hits become.
//
// Response: Zwicker et al., EWA splatting (2001), as Kerbl et al. (arXiv 2308.04079) render it, taken to rays: the
// dilation of a fraction of a pixel is a cone around the ray. Colour: real spherical harmonics up to degree 3.
#pragma once

#include "smerf/lanes.h"
#include "smerf/spacing.h"

namespace smerf {

constexpr float kSplatAlphaMin = 1.0f / 255.0f, kSplatAlphaMax = 0.99f, kSplatStop = 1e-4f;
constexpr float kSplatMinFactor = 2.5e-5f;  // smallest ratio of determinants in antialiased mode
constexpr int kSplatRows = 11;              // floats of a splat in a leaf
constexpr int kSplatLevels = 12;            // int32 of a class: number of levels, first leaf, first node of each level
constexpr int kSplatBins = 256;

// Splats in leaves of eight, ordered into classes of similar size, each with an implicit tree of eight-wide nodes.
struct SplatTree {
  const float* leaves;    // [leaf][11][8]: mean, covariance xx xy xz yy yz zz, opacity, 2 ln(255 opacity)
  const float* nodes;     // [node][6][8]: low and high corners of eight children
  const int32_t* levels;  // [classes][12]
  const float* sh;        // [8 * leaves][coefficients][3]
  int32_t classes, coefficients, leaf_count, is_antialiased;
  float near;            // a splat counts where its centre is farther ahead of the eye than this
  float dilation;        // variance of the screen's low-pass filter at unit distance
  float sh_rotation[9];  // rows; the colours' axes from the splats' axes
};

// A pinhole that splats are rasterised with.
struct SplatCamera {
  float rotation[9];  // rows: right, down, forward
  float eye[3];
  float fx, fy, cx, cy;
  int32_t width, height, is_by_depth;
  float near;      // centres nearer than this along the axis are left out
  float dilation;  // variance of the screen's low-pass filter in square pixels
};

// One splat, or eight of them.
template <class F>
struct SplatShape {
  F x, y, z, xx, xy, xz, yy, yz, zz;
};

// A splat along a ray: exponent q = D^T A'^-1 D, its reach along the ray, the place and the deviation of its response.
template <class F>
struct SplatResponse {
  F q, tau, t, variance, factor;
};

template <class F>
SMERF_FN F splat_max(const F& a, const F& b) {
  return a > b ? a : b;
}

// o, d: eye and unit direction; u, v: unit vectors across it.
template <class F>
SMERF_FN SplatResponse<F> splat_response(const SplatShape<F>& s, const float* o, const float* d, const float* u,
                                         const float* v, float dilation) {
  const F zero = F{};
  const F x = s.x - o[0], y = s.y - o[1], z = s.z - o[2];
  const F tau = x * d[0] + y * d[1] + z * d[2], du = x * u[0] + y * u[1] + z * u[2],
          dv = x * v[0] + y * v[1] + z * v[2];
  const F ux = s.xx * u[0] + s.xy * u[1] + s.xz * u[2], uy = s.xy * u[0] + s.yy * u[1] + s.yz * u[2],
          uz = s.xz * u[0] + s.yz * u[1] + s.zz * u[2];
  const F vx = s.xx * v[0] + s.xy * v[1] + s.xz * v[2], vy = s.xy * v[0] + s.yy * v[1] + s.yz * v[2],
          vz = s.xz * v[0] + s.yz * v[1] + s.zz * v[2];
  const F dx = s.xx * d[0] + s.xy * d[1] + s.xz * d[2], dy = s.xy * d[0] + s.yy * d[1] + s.yz * d[2],
          dz = s.xz * d[0] + s.yz * d[1] + s.zz * d[2];
  const F wide = dilation * tau * tau;
  const F plain_uu = ux * u[0] + uy * u[1] + uz * u[2], plain_vv = vx * v[0] + vy * v[1] + vz * v[2];
  const F uv = ux * v[0] + uy * v[1] + uz * v[2], uu = plain_uu + wide, vv = plain_vv + wide;
  const F bu = dx * u[0] + dy * u[1] + dz * u[2], bv = dx * v[0] + dy * v[1] + dz * v[2],
          c = dx * d[0] + dy * d[1] + dz * d[2];
  // Edge-on splats without thickness have no area.
  const F floor = uu * vv * 1e-7f + (zero + 1e-30f), full = uu * vv - uv * uv, det = full > floor ? full : floor;
  const F inverse = 1.0f / det;
  const F su = (vv * du - uv * dv) * inverse, sv = (uu * dv - uv * du) * inverse;
  const F spread = (vv * bu * bu - 2.0f * uv * bu * bv + uu * bv * bv) * inverse;
  SplatResponse<F> r;
  r.q = splat_max<F>(du * su + dv * sv, zero);
  r.tau = tau;
  r.t = tau - (bu * su + bv * sv);
  r.variance = splat_max<F>(c - spread, zero);
  r.factor = splat_max<F>((plain_uu * plain_vv - uv * uv) * inverse, zero + kSplatMinFactor);
  return r;
}

// Colour of a splat seen along (x, y, z), which need not have unit length. sh: [coefficients][3].
SMERF_FN void splat_colour(const float* sh, int coefficients, const float* rotation, float x0, float y0, float z0,
                           float* rgb) {
  const float scale = 1.0f / sqrtf(larger(x0 * x0 + y0 * y0 + z0 * z0, 1e-30f));
  const float* m = rotation;
  const float x = (m[0] * x0 + m[1] * y0 + m[2] * z0) * scale, y = (m[3] * x0 + m[4] * y0 + m[5] * z0) * scale,
              z = (m[6] * x0 + m[7] * y0 + m[8] * z0) * scale;
  const float xx = x * x, yy = y * y, zz = z * z;
  float b[16] = {0.28209479177387814f};
  if (coefficients > 1) {
    b[1] = -0.4886025119029199f * y, b[2] = 0.4886025119029199f * z, b[3] = -0.4886025119029199f * x;
  }
  if (coefficients > 4) {
    b[4] = 1.0925484305920792f * x * y, b[5] = -1.0925484305920792f * y * z;
    b[6] = 0.31539156525252005f * (2.0f * zz - xx - yy);
    b[7] = -1.0925484305920792f * x * z, b[8] = 0.5462742152960396f * (xx - yy);
  }
  if (coefficients > 9) {
    b[9] = -0.5900435899266435f * y * (3.0f * xx - yy), b[10] = 2.890611442640554f * x * y * z;
    b[11] = -0.4570457994644658f * y * (4.0f * zz - xx - yy);
    b[12] = 0.3731763325901154f * z * (2.0f * zz - 3.0f * xx - 3.0f * yy);
    b[13] = -0.4570457994644658f * x * (4.0f * zz - xx - yy), b[14] = 1.445305721320277f * z * (xx - yy);
    b[15] = -0.5900435899266435f * x * (xx - 3.0f * yy);
  }
  for (int c = 0; c < 3; ++c) {
    float sum = 0.5f;
    for (int k = 0; k < coefficients; ++k) sum += b[k] * sh[3 * k + c];
    rgb[c] = larger(sum, 0.0f);
  }
}

// Two unit vectors across a unit vector (Duff et al., Building an orthonormal basis, revisited, 2017).
SMERF_FN void across(const float* d, float* u, float* v) {
  const float sign = d[2] < 0.0f ? -1.0f : 1.0f, a = -1.0f / (sign + d[2]), b = d[0] * d[1] * a;
  u[0] = 1.0f + sign * d[0] * d[0] * a, u[1] = sign * b, u[2] = -sign * d[0];
  v[0] = b, v[1] = sign + d[1] * d[1] * a, v[2] = -d[1];
}

SMERF_FN float s_from_t(const RaySpacing& spacing, float t) {
  t = clampf(t, spacing.near_t, spacing.far_t);
  if (spacing.linear) return (t - spacing.near_t) / (spacing.far_t - spacing.near_t);
  return clampf((ladder(t) - spacing.near_g) / (spacing.far_g - spacing.near_g), 0.0f, 1.0f);
}

// A weight spread evenly over [low, high] of s.
struct SplatBox {
  float low, high, weight;
};

// min_half: half of the smallest width, in s.
SMERF_FN SplatBox splat_box(const RaySpacing& spacing, float t, float deviation, float weight, float min_half) {
  const float half = 1.7320508f * deviation;
  float low = s_from_t(spacing, t - half), high = s_from_t(spacing, t + half);
  if (high - low < 2.0f * min_half) {
    const float middle = clampf(0.5f * (low + high), min_half, 1.0f - min_half);
    low = middle - min_half, high = middle + min_half;
  }
  return {low, high, weight};
}

// Sets ascending edges (samples + 1) in s at equal probability of the boxes, a fraction mix of it spread evenly, and
// the weight (samples) of the boxes in each interval. cumulative: scratch of kSplatBins + 1.
SMERF_FN void deposit(const SplatBox* boxes, int count, int samples, float mix, float* cumulative, float* edges,
                      float* weights) {
  float total = 0.0f;
  for (int k = 0; k <= kSplatBins; ++k) cumulative[k] = 0.0f;
  for (int i = 0; i < count; ++i) {
    const SplatBox box = boxes[i];
    const float slope = 1.0f / (box.high - box.low);
    const int first = clampi((int)(box.low * kSplatBins), 0, kSplatBins);
    total += box.weight;
    for (int k = first; k <= kSplatBins; ++k)
      cumulative[k] += box.weight * clampf(((float)k / kSplatBins - box.low) * slope, 0.0f, 1.0f);
  }
  const float scale = total > 0.0f ? (1.0f - mix) / total : 0.0f, even = total > 0.0f ? mix : 1.0f;
  int bin = 0;
  for (int j = 1; j < samples; ++j) {
    const float wanted = (float)j / samples;
    while (bin < kSplatBins - 1 && scale * cumulative[bin + 1] + even * (bin + 1) / kSplatBins < wanted) ++bin;
    const float low = scale * cumulative[bin] + even * bin / kSplatBins,
                high = scale * cumulative[bin + 1] + even * (bin + 1) / kSplatBins;
    edges[j] = (bin + clampf((wanted - low) / larger(high - low, 1e-12f), 0.0f, 1.0f)) / kSplatBins;
  }
  edges[0] = 0.0f, edges[samples] = 1.0f;
  for (int j = 0; j < samples; ++j) weights[j] = 0.0f;
  for (int i = 0; i < count; ++i) {
    const SplatBox box = boxes[i];
    const float slope = 1.0f / (box.high - box.low);
    for (int j = 0; j < samples; ++j)
      weights[j] += box.weight * (clampf((edges[j + 1] - box.low) * slope, 0.0f, 1.0f) -
                                  clampf((edges[j] - box.low) * slope, 0.0f, 1.0f));
  }
}

}  // namespace smerf
