// One ray of the teacher's training: which samples are evaluated, its losses, and the gradients of its optical depths.
#pragma once

#include "smerf/ray_losses.h"
#include "smerf/teacher.h"

namespace smerf {

// Optical depth behind which a ray has less light than min_light.
SMERF_FN float most_depth(const TeacherField& field) {
  return field.min_light > 0.0f ? -logf(field.min_light) : INFINITY;
}

// Whether a sample that the cache calls empty is evaluated all the same: a fixed function of the step and the sample.
SMERF_FN bool rechecks(const TeacherField& field, uint32_t sample) {
  uint32_t h = (sample ^ field.step * 0x9e3779b9u) * 0x85ebca6bu;
  h = (h ^ h >> 13) * 0xc2b2ae35u;
  return (float)((h ^ h >> 16) >> 8) * 5.9604645e-8f < field.recheck;
}

// Colour of a ray over black. colour_of(i): the colour (3) of sample i, or null where it has none.
template <class Colour>
SMERF_FN void composite_colour(const float* weights, int samples, const Colour& colour_of, float* colour) {
  colour[0] = colour[1] = colour[2] = 0.0f;
  for (int i = 0; i < samples; ++i) {
    const float* own = colour_of(i);
    if (!own) continue;
    for (int c = 0; c < 3; ++c) colour[c] += weights[i] * own[c];
  }
}

// Compares ray number `ray` with its target. t: edges (samples + 1); share: 1 / rays. Sets its losses, the gradient
// of its colour (3) and those of its optical depths (samples), all for the mean over rays.
template <class Colour>
SMERF_FN void compare_ray(const TeacherTarget& target, int64_t ray, int samples, float share, const float* t,
                          const float* weights, const float* depth, const Colour& colour_of, float* losses,
                          float* slope, float* grad_depth) {
  const float* background = target.background + 3 * ray;
  float colour[3], grad_weight[kMaxTeacherSamples], compressed[kMaxTeacherSamples + 1];
  composite_colour(weights, samples, colour_of, colour);
  float sum = 0.0f, loss = 0.0f, square = 0.0f;
  for (int i = 0; i < samples; ++i) sum += weights[i];
  for (int c = 0; c < 3; ++c) {
    const float error = colour[c] + (1.0f - sum) * background[c] - target.truth[3 * ray + c];
    const float size = sqrtf(error * error + target.charbonnier * target.charbonnier);
    slope[c] = error / size * share * 0.333333333f;
    loss += size;
    square += error * error;
  }
  // A target that is not a number teaches nothing.
  if (!(square < 1e30f)) slope[0] = slope[1] = slope[2] = 0.0f;
  for (int i = 0; i < samples; ++i) {
    const float* own = colour_of(i);
    grad_weight[i] = 0.0f;
    for (int c = 0; c < 3; ++c) grad_weight[i] += slope[c] * ((own ? own[c] : 0.0f) - background[c]);
  }
  const float known = target.distances ? target.distances[ray] : 0.0f;
  const float away =
      known > 0.0f ? distance_loss(known, t, weights, samples, target.distance_weight * share, grad_weight) : 0.0f;
  for (int i = 0; i <= samples; ++i) compressed[i] = ladder(t[i]);
  const float spread = distortion(compressed, weights, samples, target.distortion_weight * share, grad_weight);
  depth_gradient(depth, weights, grad_weight, samples, grad_depth);
  float opacity = 0.0f;
  for (int i = 0; i < samples; ++i) {
    const float clear = fast_exp(-depth[i]);
    opacity += 1.0f - clear;
    grad_depth[i] += target.opacity_weight * share * clear;
  }
  losses[0] = loss * 0.333333333f;
  losses[1] = spread;
  losses[2] = square * 0.333333333f;
  losses[3] = opacity;
  losses[4] = away;
}

// What is left of the gradients of a sample between s0 and s1: those close to the camera are weakened.
SMERF_FN float near_share(const TeacherTarget& target, const RaySpacing& spacing, float s0, float s1) {
  if (!(target.near_distance > 0.0f)) return 1.0f;
  const float ratio = t_from_s(spacing, 0.5f * (s0 + s1)) / target.near_distance;
  return smaller(1.0f, ratio * ratio);
}

}  // namespace smerf
