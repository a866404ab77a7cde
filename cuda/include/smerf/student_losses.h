// What the student's network reads of a rendered ray, its losses against the teacher, and their gradients.
#pragma once

#include "smerf/appearance.h"
#include "smerf/patch_loss.h"
#include "smerf/ray_losses.h"
#include "smerf/student.h"

namespace smerf {

// Light that reaches what lies behind a ray of these weights.
SMERF_FN float light_left(const float* weights, int samples) {
  float opacity = 0.0f;
  for (int k = 0; k < samples; ++k) opacity += weights[k];
  return larger(1.0f - opacity, 0.0f);
}

// The network's inputs (14) of ray r: its features over the backdrop, to which these are set, or over its background;
// exposed where exposure conditions the network. rest: light_left; slope: of the exposure, where there is one.
SMERF_FN void network_input(const StudentRays& rays, const StudentLoss& loss, int64_t r, float rest, float* features,
                            float* input, float* slope) {
  if (loss.backdrop)
    for (int c = 0; c < kFeatures; ++c) features[c] += rest * loss.backdrop[c];
  for (int c = 0; c < kFeatures; ++c) input[c] = features[c];
  if (!loss.backdrop)
    for (int c = 0; c < 3; ++c) input[c] += rest * rays.background[3 * r + c];
  if (rays.log_exposure) expose(rays.log_exposure[r], input, slope);
}

// The teacher's colour of ray r, over its background.
SMERF_FN void teacher_colour(const StudentRays& rays, int64_t r, float rest, float* colour) {
  for (int c = 0; c < 3; ++c) colour[c] = rays.colour[3 * r + c] + rest * rays.background[3 * r + c];
}

// Compares a patch of rays with the teacher's: colours (pixels, 3). Sets losses (pixels) and the colours' gradient.
SMERF_FN void compare_colours(const StudentLoss& loss, int pixels, const float* colour, const float* truth,
                              RayLosses* losses, float* slope) {
  for (int i = 0; i < pixels; ++i) {
    losses[i] = RayLosses{};
    for (int k = 3 * i; k < 3 * i + 3; ++k) {
      const float error = colour[k] - truth[k];
      const float length = sqrtf(error * error + loss.charbonnier * loss.charbonnier);
      losses[i].colour += length * (1.0f / 3.0f);
      losses[i].square += error * error * (1.0f / 3.0f);
      slope[k] = error / length * (1.0f / 3.0f);
    }
  }
  if (pixels == 1) return;
  // A mean over patches: in a sum over rays, each counts as often as it has rays.
  const float dssim = loss.dssim * patch_dissimilarity(colour, truth, pixels, loss.dssim * (float)pixels, slope);
  for (int i = 0; i < pixels; ++i) losses[i].dssim = dssim;
}

// Turns the gradient of the network's inputs of ray r (14), in place, into that of its features; `slope` (3) is that of
// its colour. Returns the opacity's.
SMERF_FN float input_gradient(const StudentRays& rays, const StudentLoss& loss, int64_t r, float rest,
                              const float* slope, const float* slope_exposed, float* up) {
  if (rays.log_exposure)
    for (int c = 0; c < kFeatures; ++c) up[c] *= slope_exposed[c];
  float up_rest = 0.0f;
  if (!loss.backdrop)
    for (int c = 0; c < 3; ++c) up_rest += up[c] * rays.background[3 * r + c];
  for (int c = 0; c < 3; ++c) up[c] += slope[c];
  if (loss.backdrop)
    for (int c = 0; c < kFeatures; ++c) up_rest += up[c] * loss.backdrop[c];
  return rest > 0.0f ? -up_rest : 0.0f;
}

// Compares the weights of ray r with the teacher's and each other. Sets their losses and their gradient `up`.
SMERF_FN void compare_weights(const StudentRays& rays, const StudentLoss& loss, int64_t r, const float* weights,
                              float up_opacity, RayLosses& losses, float* up) {
  const int samples = rays.samples;
  const float* teacher = rays.weights + r * samples;
  float total = 0.0f;
  for (int k = 0; k < samples; ++k) {
    const float difference = weights[k] - teacher[k];
    total += fabsf(difference);
    up[k] = up_opacity + loss.geometry * (difference > 0.0f ? 1.0f : difference < 0.0f ? -1.0f : 0.0f);
  }
  losses.geometry = loss.geometry * total;
  if (rays.s_edges)
    losses.distortion =
        loss.distortion * distortion(rays.s_edges + r * (samples + 1), weights, samples, loss.distortion, up);
}

// Whether a sample's gradient counts: some channel is above `least`.
SMERF_FN bool counts(const Lanes8& gradient, float least) {
  float most = 0.0f;
  for (int c = 0; c < 8; ++c) most = larger(most, fabsf(lane(gradient, c)));
  return most > least;
}

}  // namespace smerf
