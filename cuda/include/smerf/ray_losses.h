// One ray of the teacher's training: compositing, its losses, and their gradients.
//
// weights w_i = T_i (1 - exp(-sigma_i dt_i)), colour sum_i w_i c_i + (1 - sum_i w_i) background. The colour loss is the
// Charbonnier sqrt(e^2 + eps^2) (Zip-NeRF, arXiv 2304.06706), the distortion that of mip-NeRF 360 (arXiv 2111.12077,
// equation 15) over the compressed distances of spacing.h.
#pragma once

#include "smerf/spacing.h"

namespace smerf {

constexpr float kDistanceReach = 0.3f;  // smerf.fields.rendering: _REACH

// Raw density to density exp(raw - 1), whose gradient is bounded.
SMERF_FN float density_of(float raw) { return fast_exp(smaller(raw - 1.0f, 15.0f)); }
SMERF_FN float density_slope(float density) { return smaller(density, 3e3f); }

// 1 - exp(-depth) without cancellation for small depths.
SMERF_FN float opacity_of(float depth) {
  return depth < 1e-2f ? depth * (1.0f - depth * (0.5f - depth * 0.166666667f)) : 1.0f - fast_exp(-depth);
}

// Weights of `count` intervals of optical depths; returns the light that is left.
SMERF_FN float composite_weights(const float* depth, int count, float* weights) {
  float before = 0.0f;
  for (int i = 0; i < count; ++i) {
    weights[i] = fast_exp(-before) * opacity_of(depth[i]);
    before += depth[i];
  }
  return fast_exp(-before);
}

// edges: (count + 1) compressed distances. grad_weights is added to, scaled by `scale`. Returns the distortion.
SMERF_FN float distortion(const float* edges, const float* weights, int count, float scale, float* grad_weights) {
  float mass = 0.0f, moment = 0.0f, loss = 0.0f, total_mass = 0.0f, total_moment = 0.0f;
  for (int i = 0; i < count; ++i) {
    total_mass += weights[i];
    total_moment += weights[i] * 0.5f * (edges[i] + edges[i + 1]);
  }
  for (int i = 0; i < count; ++i) {
    const float w = weights[i], middle = 0.5f * (edges[i] + edges[i + 1]), width = edges[i + 1] - edges[i];
    const float below = middle * mass - moment;
    mass += w;
    moment += w * middle;
    const float above = (total_moment - moment) - middle * (total_mass - mass);
    loss += 2.0f * w * below + w * w * width * 0.333333333f;
    grad_weights[i] += scale * (2.0f * (below + above) + 0.666666667f * w * width);
  }
  return loss;
}

// What weights in intervals t (count + 1) cost where the ray is known to meet something at `known`: how far they are
// away, relative to it, up to kDistanceReach. grad_weights is added to, scaled by `scale`.
SMERF_FN float distance_loss(float known, const float* t, const float* weights, int count, float scale,
                             float* grad_weights) {
  float loss = 0.0f;
  for (int i = 0; i < count; ++i) {
    const float away = larger(larger(t[i] - known, known - t[i + 1]), 0.0f) / (kDistanceReach * known);
    loss += weights[i] * smaller(away, 1.0f);
    grad_weights[i] += scale * smaller(away, 1.0f);
  }
  return loss;
}

// Loss gradient with respect to the optical depths, from that with respect to the weights.
SMERF_FN void depth_gradient(const float* depth, const float* weights, const float* grad_weights, int count,
                             float* grad_depth) {
  float after = 0.0f, before = 0.0f;
  for (int i = 0; i < count; ++i) {
    before += depth[i];
    grad_depth[i] = fast_exp(-before) * grad_weights[i];
  }
  for (int i = count - 1; i >= 0; --i) {
    grad_depth[i] -= after;
    after += weights[i] * grad_weights[i];
  }
}

}  // namespace smerf
