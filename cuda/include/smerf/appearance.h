// The deferred appearance network of one ray, forward and backward (SMERF, arXiv 2312.07541, section 4).
//
// 41 inputs (14 composited features, the direction and its four octaves) -> width -> width -> 3, ELU between and a
// sigmoid at the end. A vertex of the lattice has its parameters in one row: kernel (in, out) and bias of each layer.
#pragma once

#include "smerf/lanes.h"

namespace smerf {

constexpr int kViewInputs = 27;
constexpr int kAppearanceFeatures = 14;
constexpr int kAppearanceInputs = kAppearanceFeatures + kViewInputs;
constexpr int kAppearanceColours = 3;

// Where a network's parameters lie in their row.
template <int W>
struct AppearanceLayout {
  static constexpr int kKernel0 = 0;
  static constexpr int kBias0 = kKernel0 + kAppearanceInputs * W;
  static constexpr int kKernel1 = kBias0 + W;
  static constexpr int kBias1 = kKernel1 + W * W;
  static constexpr int kKernel2 = kBias1 + W;
  static constexpr int kBias2 = kKernel2 + W * kAppearanceColours;
  static constexpr int kParams = kBias2 + kAppearanceColours;
};

struct AppearanceRays {
  const float* features;    // (rays, 14) as the network reads them
  const float* directions;  // (rays, 3) unit
  const float* positions;   // (rays, 3) in [-1, 1]^3
  int64_t rays;
};

struct AppearanceNetworks {
  const float* params;  // (lattice^3, n), z slowest
  int32_t lattice;
  int32_t width;
};

// Sine and cosine of x in [-1, 1]; error below 3e-8.
SMERF_FN void sine_cosine(float x, float& sine, float& cosine) {
  const float q = x * x;
  sine = x * (1.0f - q * (1.6666667e-1f - q * (8.3333333e-3f - q * (1.9841270e-4f - q * 2.7557319e-6f))));
  cosine = 1.0f - q * (0.5f - q * (4.1666667e-2f - q * (1.3888889e-3f - q * (2.4801587e-5f - q * 2.7557319e-7f))));
}

// From the sine and cosine of an angle to those of twice the angle.
SMERF_FN void double_angle(float& sine, float& cosine) {
  const float doubled = 2.0f * sine * cosine;
  cosine = 1.0f - 2.0f * sine * sine;
  sine = doubled;
}

// Axis c of a unit direction among the 27 inputs: itself, then sin and cos of its first four octaves.
SMERF_FN void encode_axis(float v, int c, float* x) {
  float sine, cosine;
  sine_cosine(v, sine, cosine);
  x[c] = v;
  for (int k = 0; k < 4; ++k) {
    x[3 + 3 * k + c] = sine;
    x[15 + 3 * k + c] = cosine;
    double_angle(sine, cosine);
  }
}

SMERF_FN float elu(float x) { return x > 0.0f ? x : fast_exp(x) - 1.0f; }
// The slope of elu, from what it gave.
SMERF_FN float elu_slope(float y) { return y > 0.0f ? 1.0f : y + 1.0f; }
SMERF_FN float sigmoid_of(float x) { return 1.0f / (1.0f + fast_exp(-x)); }

// A composited feature as the network sees it where exposure conditions it: logit(feature) + log E (SMERF,
// section 4.3).
SMERF_FN float expose(float x, float log_exposure) {
  const float inside = clampf(x, 1e-7f, 1.0f - 1.1920929e-7f);
  return logf(inside / (1.0f - inside)) + log_exposure;
}

// Exposes all features, and gives the slope of each. Features outside (0, 1) are clipped and have none.
SMERF_FN void expose(float log_exposure, float* features, float* slope) {
  for (int c = 0; c < kAppearanceFeatures; ++c) {
    const float x = features[c];
    slope[c] = x == clampf(x, 1e-7f, 1.0f - 1.1920929e-7f) ? 1.0f / (x * (1.0f - x)) : 0.0f;
    features[c] = expose(x, log_exposure);
  }
}

// The eight vertices of a P^3 lattice around a point of [-1, 1]^3 (axes z, y, x), and their weights.
struct LatticeCorners {
  int vertex[8];
  float weight[8];
};

// A coordinate of [-1, 1] in steps of the lattice from its first vertex, at most one step beyond the outermost. In a
// lattice of one vertex all places are the same.
SMERF_FN float lattice_place(float position, int lattice) {
  if (lattice == 1) return 0.0f;
  return clampf((position + 1.0f) * 0.5f * (float)lattice - 0.5f, -1.0f, (float)lattice);
}

SMERF_FN LatticeCorners lattice_corners(const float* position, int lattice) {
  LatticeCorners corners;
  int low[3];
  float f[3];
  for (int c = 0; c < 3; ++c) {
    const float where = lattice_place(position[c], lattice);
    const float base = floorf(where);
    low[c] = clamp_whole(base, -1, lattice);
    f[c] = where - base;
  }
  for (int i = 0; i < 8; ++i) {
    const int bits[3] = {i >> 2 & 1, i >> 1 & 1, i & 1};
    float weight = 1.0f;
    int at[3];
    for (int c = 0; c < 3; ++c) {
      at[c] = clampi(low[c] + bits[c], 0, lattice - 1);
      weight *= bits[c] ? f[c] : 1.0f - f[c];
    }
    corners.vertex[i] = (at[2] * lattice + at[1]) * lattice + at[0];
    corners.weight[i] = weight;
  }
  return corners;
}

#if !defined(__CUDACC__)

// Loops over outputs: g++ unrolls short ones before it looks for vectors in them.
#define SMERF_SIMD _Pragma("omp simd")
#define SMERF_SIMD_TOTAL _Pragma("omp simd reduction(+ : total)")

// Outputs whose sums one vector register holds.
#if defined(__AVX512F__)
constexpr int kSimdWidth = 16;
#elif defined(__AVX2__)
constexpr int kSimdWidth = 8;
#else
constexpr int kSimdWidth = 4;
#endif

// One layer: y (W) = x (in) kernel + bias.
template <int W>
inline void dense(const float* x, int in, const float* kernel, const float* bias, float* y) {
  constexpr int kBlock = W < kSimdWidth ? W : kSimdWidth;
  typedef float Block __attribute__((vector_size(4 * kBlock), aligned(4)));
  for (int j = 0; j < W; j += kBlock) {
    // Two sums: each waits for itself alone.
    Block even = *(const Block*)(bias + j), odd = {};
    for (int i = 0; i + 1 < in; i += 2) {
      even += x[i] * *(const Block*)(kernel + i * W + j);
      odd += x[i + 1] * *(const Block*)(kernel + (i + 1) * W + j);
    }
    if (in % 2) even += x[in - 1] * *(const Block*)(kernel + (in - 1) * W + j);
    *(Block*)(y + j) = even + odd;
  }
}

template <int W>
struct Appearance {
  using At = AppearanceLayout<W>;
  static constexpr int kParams = At::kParams;

  float input[kAppearanceInputs];
  float first[W], second[W];
  float colour[kAppearanceColours];

  // Fills the inputs behind the features.
  void set_direction(const float* d) {
    for (int c = 0; c < 3; ++c) encode_axis(d[c], c, input + kAppearanceFeatures);
  }

  void forward(const float* p) {
    dense<W>(input, kAppearanceInputs, p + At::kKernel0, p + At::kBias0, first);
    SMERF_SIMD
    for (int j = 0; j < W; ++j) first[j] = elu(first[j]);
    dense<W>(first, W, p + At::kKernel1, p + At::kBias1, second);
    SMERF_SIMD
    for (int j = 0; j < W; ++j) second[j] = elu(second[j]);
    for (int c = 0; c < 3; ++c) {
      float z = p[At::kBias2 + c];
      for (int i = 0; i < W; ++i) z += second[i] * p[At::kKernel2 + 3 * i + c];
      colour[c] = sigmoid_of(z);
    }
  }

  // up (3): gradient of the colour. Adds to gradient (kParams); writes that of the features (14).
  void backward(const float* p, const float* up, float* gradient, float* up_features) const {
    float z[3], b[W], a[W];
    for (int c = 0; c < 3; ++c) {
      z[c] = up[c] * colour[c] * (1.0f - colour[c]);
      gradient[At::kBias2 + c] += z[c];
    }
    for (int i = 0; i < W; ++i) {
      const float* k = p + At::kKernel2 + 3 * i;
      float* g = gradient + At::kKernel2 + 3 * i;
      b[i] = 0.0f;
      for (int c = 0; c < 3; ++c) {
        g[c] += second[i] * z[c];
        b[i] += k[c] * z[c];
      }
      b[i] *= elu_slope(second[i]);
    }
    SMERF_SIMD
    for (int j = 0; j < W; ++j) gradient[At::kBias1 + j] += b[j];
    for (int i = 0; i < W; ++i) {
      float total = 0.0f;
      SMERF_SIMD_TOTAL
      for (int j = 0; j < W; ++j) {
        gradient[At::kKernel1 + i * W + j] += first[i] * b[j];
        total += p[At::kKernel1 + i * W + j] * b[j];
      }
      a[i] = total * elu_slope(first[i]);
    }
    SMERF_SIMD
    for (int j = 0; j < W; ++j) gradient[At::kBias0 + j] += a[j];
    for (int i = 0; i < kAppearanceInputs; ++i) {
      SMERF_SIMD
      for (int j = 0; j < W; ++j) gradient[At::kKernel0 + i * W + j] += input[i] * a[j];
    }
    for (int i = 0; i < kAppearanceFeatures; ++i) {
      float total = 0.0f;
      SMERF_SIMD_TOTAL
      for (int j = 0; j < W; ++j) total += p[At::kKernel0 + i * W + j] * a[j];
      up_features[i] = total;
    }
  }
};

#endif

}  // namespace smerf
