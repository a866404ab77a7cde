// The deferred appearance network of one ray, forward and backward (SMERF, arXiv 2312.07541, section 4).
//
// 41 inputs (14 composited features, the direction and its four octaves) -> width -> width -> 3, ELU between and a
// sigmoid at the end. A vertex of the lattice has its parameters in one row: kernel (in, out) and bias of each layer.
#pragma once

#include "smerf/grid.h"

namespace smerf {

constexpr int kAppearanceFeatures = 14;
constexpr int kAppearanceInputs = kAppearanceFeatures + 27;
constexpr int kAppearanceColours = 3;

template <int W>
struct Appearance {
  static constexpr int kKernel0 = 0;
  static constexpr int kBias0 = kKernel0 + kAppearanceInputs * W;
  static constexpr int kKernel1 = kBias0 + W;
  static constexpr int kBias1 = kKernel1 + W * W;
  static constexpr int kKernel2 = kBias1 + W;
  static constexpr int kBias2 = kKernel2 + W * kAppearanceColours;
  static constexpr int kParams = kBias2 + kAppearanceColours;

  float input[kAppearanceInputs];
  float first[W], second[W];
  float colour[kAppearanceColours];

  // The first 14 inputs must be there.
  void set_direction(const float* d) {
    float* x = input + kAppearanceFeatures;
    for (int c = 0; c < 3; ++c) {
      x[c] = d[c];
      float sine = sinf(d[c]), cosine = cosf(d[c]);
      for (int k = 0; k < 4; ++k) {
        x[3 + 3 * k + c] = sine;
        x[15 + 3 * k + c] = cosine;
        const float doubled = 2.0f * sine * cosine;
        cosine = 1.0f - 2.0f * sine * sine;
        sine = doubled;
      }
    }
  }

  void forward(const float* p) {
    for (int j = 0; j < W; ++j) first[j] = p[kBias0 + j];
    for (int i = 0; i < kAppearanceInputs; ++i)
      for (int j = 0; j < W; ++j) first[j] += input[i] * p[kKernel0 + i * W + j];
    for (int j = 0; j < W; ++j) first[j] = first[j] > 0.0f ? first[j] : fast_exp(first[j]) - 1.0f;
    for (int j = 0; j < W; ++j) second[j] = p[kBias1 + j];
    for (int i = 0; i < W; ++i)
      for (int j = 0; j < W; ++j) second[j] += first[i] * p[kKernel1 + i * W + j];
    for (int j = 0; j < W; ++j) second[j] = second[j] > 0.0f ? second[j] : fast_exp(second[j]) - 1.0f;
    for (int c = 0; c < 3; ++c) {
      float z = p[kBias2 + c];
      for (int i = 0; i < W; ++i) z += second[i] * p[kKernel2 + 3 * i + c];
      colour[c] = 1.0f / (1.0f + fast_exp(-z));
    }
  }

  // up (3): gradient of the colour. Adds to gradient (kParams); writes that of the features (14).
  void backward(const float* p, const float* up, float* gradient, float* up_features) const {
    float z[3], b[W], a[W];
    for (int c = 0; c < 3; ++c) {
      z[c] = up[c] * colour[c] * (1.0f - colour[c]);
      gradient[kBias2 + c] += z[c];
    }
    for (int i = 0; i < W; ++i) {
      const float* k = p + kKernel2 + 3 * i;
      float* g = gradient + kKernel2 + 3 * i;
      b[i] = 0.0f;
      for (int c = 0; c < 3; ++c) {
        g[c] += second[i] * z[c];
        b[i] += k[c] * z[c];
      }
      b[i] *= second[i] > 0.0f ? 1.0f : second[i] + 1.0f;
    }
    for (int j = 0; j < W; ++j) gradient[kBias1 + j] += b[j];
    for (int i = 0; i < W; ++i) {
      float total = 0.0f;
      for (int j = 0; j < W; ++j) {
        gradient[kKernel1 + i * W + j] += first[i] * b[j];
        total += p[kKernel1 + i * W + j] * b[j];
      }
      a[i] = total * (first[i] > 0.0f ? 1.0f : first[i] + 1.0f);
    }
    for (int j = 0; j < W; ++j) gradient[kBias0 + j] += a[j];
    for (int i = 0; i < kAppearanceInputs; ++i) {
      float total = 0.0f;
      for (int j = 0; j < W; ++j) {
        gradient[kKernel0 + i * W + j] += input[i] * a[j];
        total += p[kKernel0 + i * W + j] * a[j];
      }
      if (i < kAppearanceFeatures) up_features[i] = total;
    }
  }
};

// Replaces the features by what an exposed network reads: logit(feature) + log E (SMERF, section 4.3), and gives the
// slope of each. Features outside (0, 1) are clipped and have none.
inline void expose(float log_exposure, float* features, float* slope) {
  constexpr float kLeast = 1e-7f, kMost = 1.0f - 1.1920929e-7f;
  for (int c = 0; c < kAppearanceFeatures; ++c) {
    const float x = features[c], inside = clampf(x, kLeast, kMost);
    slope[c] = x == inside ? 1.0f / (x * (1.0f - x)) : 0.0f;
    features[c] = logf(inside / (1.0f - inside)) + log_exposure;
  }
}

// The eight vertices of a P^3 lattice around a point of [-1, 1]^3 (axes z, y, x), and their weights.
struct LatticeCorners {
  int vertex[8];
  float weight[8];
};

inline LatticeCorners lattice_corners(const float* position, int lattice) {
  LatticeCorners corners;
  int low[3];
  float f[3];
  for (int c = 0; c < 3; ++c) {
    const float where = (position[c] + 1.0f) * 0.5f * (float)lattice - 0.5f;
    const float base = floorf(where);
    low[c] = (int)base;
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

}  // namespace smerf
