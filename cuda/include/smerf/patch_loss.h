// Structural dissimilarity (1 - SSIM) / 2 of a small patch: one box window, channels averaged (SMERF, arXiv 2312.07541,
// section 6.4), and its gradient.
#pragma once

#include "smerf/common.h"

namespace smerf {

// One channel of a patch of two pictures.
struct PatchMoments {
  float mean_a, mean_b;
  float variance_a, variance_b, covariance;
};

// Values lie `stride` apart. Squares about the mean are never negative, so the variances need no clamp.
SMERF_FN PatchMoments patch_moments(const float* a, const float* b, int pixels, int stride) {
  const float share = 1.0f / (float)pixels;
  PatchMoments m = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  for (int i = 0; i < pixels; ++i) {
    m.mean_a += share * a[i * stride];
    m.mean_b += share * b[i * stride];
  }
  for (int i = 0; i < pixels; ++i) {
    const float x = a[i * stride] - m.mean_a, y = b[i * stride] - m.mean_b;
    m.variance_a += share * x * x;
    m.variance_b += share * y * y;
    m.covariance += share * x * y;
  }
  return m;
}

// ours, theirs: (pixels, 3). grad_ours is added to, scaled by `scale`. Returns the dissimilarity.
SMERF_FN float patch_dissimilarity(const float* ours, const float* theirs, int pixels, float scale, float* grad_ours) {
  constexpr float kLight = 0.01f * 0.01f, kStructure = 0.03f * 0.03f;
  float similarity = 0.0f;
  for (int c = 0; c < 3; ++c) {
    const PatchMoments m = patch_moments(ours + c, theirs + c, pixels, 3);
    // Rounding may break Cauchy's inequality.
    const float limit = sqrtf(m.variance_a * m.variance_b + 1e-12f);
    const float covariance = clampf(m.covariance, -limit, limit);
    const float bright = m.mean_a * m.mean_a + m.mean_b * m.mean_b + kLight;
    const float varied = m.variance_a + m.variance_b + kStructure;
    const float light = (2.0f * m.mean_a * m.mean_b + kLight) / bright;
    const float structure = (2.0f * covariance + kStructure) / varied;
    similarity += light * structure * 0.333333333f;

    const float up_mean = structure * 2.0f * (m.mean_b - light * m.mean_a) / bright;
    float up_covariance = 2.0f * light / varied, up_variance = -light * structure / varied;
    if (covariance != m.covariance) {
      up_variance += up_covariance * 0.5f * m.variance_b / covariance;
      up_covariance = 0.0f;
    }
    const float share = -0.5f * 0.333333333f * scale / (float)pixels;
    for (int i = 0; i < pixels; ++i) {
      const float x = ours[3 * i + c] - m.mean_a, y = theirs[3 * i + c] - m.mean_b;
      grad_ours[3 * i + c] += share * (up_mean + up_covariance * y + 2.0f * up_variance * x);
    }
  }
  return 0.5f * (1.0f - similarity);
}

}  // namespace smerf
