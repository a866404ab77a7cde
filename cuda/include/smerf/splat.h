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
  const void* sh;         // [8 * leaves][coefficients][3]: float, or half floats
  int32_t classes, coefficients, leaf_count, is_antialiased;
  int64_t is_half;
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

// A half float that is finite.
SMERF_FN float from_half(uint16_t half) {
  const uint32_t shifted = (uint32_t)(half & 0x7fff) << 13;
  float value;
  memcpy(&value, &shifted, sizeof(value));
  value *= 5.192296858534828e33f;  // 2^112
  return half & 0x8000 ? -value : value;
}

// Colour of splat number n seen along (x, y, z), which need not have unit length.
SMERF_FN void splat_colour(const SplatTree& tree, int32_t n, float x0, float y0, float z0, float* rgb) {
  const int coefficients = tree.coefficients, count = 3 * coefficients;
  float sh[48];
  if (tree.is_half) {
    const uint16_t* from = (const uint16_t*)tree.sh + (int64_t)n * count;
    for (int i = 0; i < count; ++i) sh[i] = from_half(from[i]);
  } else {
    const float* from = (const float*)tree.sh + (int64_t)n * count;
    for (int i = 0; i < count; ++i) sh[i] = from[i];
  }
  const float scale = 1.0f / sqrtf(larger(x0 * x0 + y0 * y0 + z0 * z0, 1e-30f));
  const float* m = tree.sh_rotation;
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

template <class F>
SMERF_FN F splat_abs(const F& a) {
  return a < 0.0f ? -a : a;
}

// A ray, with unit vectors across it.
struct SplatRay {
  float o[3], d[3], u[3], v[3];
};

SMERF_FN SplatRay splat_ray(const float* origin, const float* direction) {
  SplatRay ray;
  for (int a = 0; a < 3; ++a) ray.o[a] = origin[a], ray.d[a] = direction[a];
  across(ray.d, ray.u, ray.v);
  return ray;
}

// How far boxes of splats are widened by the cone of the dilation, per unit of distance: 2 ln(255) bounds the squared
// deviations at which a splat counts.
SMERF_FN float splat_widening(const SplatTree& tree) { return 3.3291f * sqrtf(tree.dilation); }

// Whether the line of a ray meets boxes with these corners ahead of the eye. A mask where F has lanes.
template <class F>
SMERF_FN auto splat_box_hit(const F* low, const F* high, const SplatRay& ray, float near, float widening) {
  F rel[3], half[3];
  for (int a = 0; a < 3; ++a) rel[a] = 0.5f * (low[a] + high[a]) - ray.o[a], half[a] = 0.5f * (high[a] - low[a]);
  const float dx = fabsf(ray.d[0]), dy = fabsf(ray.d[1]), dz = fabsf(ray.d[2]);
  const F far = rel[0] * ray.d[0] + rel[1] * ray.d[1] + rel[2] * ray.d[2] + half[0] * dx + half[1] * dy + half[2] * dz;
  const F wide = widening * splat_max<F>(far, F{});
  const F hx = half[0] + wide, hy = half[1] + wide, hz = half[2] + wide;
  return (far > near) & (splat_abs<F>(ray.d[1] * rel[2] - ray.d[2] * rel[1]) <= hy * dz + hz * dy) &
         (splat_abs<F>(ray.d[2] * rel[0] - ray.d[0] * rel[2]) <= hz * dx + hx * dz) &
         (splat_abs<F>(ray.d[0] * rel[1] - ray.d[1] * rel[0]) <= hx * dy + hy * dx);
}

// A splat that a ray meets; hits are composited in the order of their centres' distance, equal ones by number.
struct SplatHit {
  float key, alpha, t, variance;
  int32_t splat;
};

SMERF_FN bool splat_before(const SplatHit& a, const SplatHit& b) {
  return a.key < b.key || (a.key == b.key && a.splat < b.splat);
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

// Composites sorted hits over black into colour, and sets their weights as boxes; returns how many.
SMERF_FN int splat_composite(const SplatTree& tree, const RaySpacing& spacing, float min_half, const float* eye,
                             const SplatHit* hits, int count, float* colour, SplatBox* boxes) {
  float light = 1.0f;
  int used = 0;
  for (int c = 0; c < 3; ++c) colour[c] = 0.0f;
  for (; used < count; ++used) {
    const SplatHit hit = hits[used];
    const float rest = light * (1.0f - hit.alpha), weight = light * hit.alpha;
    if (rest < kSplatStop) break;
    const float* rows = tree.leaves + (int64_t)(hit.splat >> 3) * kSplatRows * 8 + (hit.splat & 7);
    float rgb[3];
    splat_colour(tree, hit.splat, rows[0] - eye[0], rows[8] - eye[1], rows[16] - eye[2], rgb);
    for (int c = 0; c < 3; ++c) colour[c] += weight * rgb[c];
    boxes[used] = splat_box(spacing, hit.t, sqrtf(hit.variance), weight, min_half);
    light = rest;
  }
  return used;
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
    const int first = clamp_whole(box.low * kSplatBins, 0, kSplatBins);
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

// Sets the intervals of a ray: metric ends (samples + 1) and weights (samples). cumulative: as in deposit.
SMERF_FN void splat_intervals(const RaySpacing& spacing, const SplatBox* boxes, int count, int samples, float mix,
                              float* cumulative, float* edges, float* weights) {
  deposit(boxes, count, samples, mix, cumulative, edges, weights);
  for (int j = 0; j <= samples; ++j) edges[j] = t_from_s(spacing, edges[j]);
  edges[0] = spacing.near_t, edges[samples] = spacing.far_t;
}

}  // namespace smerf
