// Volume rendering along one ray, and its distortion, in one pass each way.
//
// Interval i spans edges[i] .. edges[i + 1] with constant density. w_i = T_i (1 - exp(-density_i dt_i)), T_i the light
// that survives the intervals before i. Distortion (mip-NeRF 360, arXiv 2111.12077, equation 15) is measured over its
// own ascending coordinates e: sum_ij w_i w_j |m_i - m_j| + 1/3 sum_i w_i^2 (e_{i+1} - e_i), m the midpoints.
#pragma once

#include "smerf/lanes.h"

namespace smerf {

// 1 - exp(-x) for x >= 0, relative error below 1e-6: the series where the difference would cancel.
SMERF_FN float absorbed(float x) {
  const float series = x * (1.0f - x * (0.5f - x * (0.16666667f - x * (0.041666668f - x * 0.008333334f))));
  return x < 0.0625f ? series : 1.0f - fast_exp(-x);
}

struct RayImage {
  float colour[3];   // composited over black
  float opacity;     // sum of the weights
  float depth;       // sum of weight times interval midpoint
  float distortion;  // 0 without coordinates
};

// density: (samples); edges, coordinates: (samples + 1), coordinates may be null; colour: (samples, 3) or null.
// Writes weights (samples).
SMERF_FN RayImage render_ray(const float* density, const float* edges, const float* colour, const float* coordinates,
                             int samples, float* weights) {
  RayImage image = {{0.0f, 0.0f, 0.0f}, 0.0f, 0.0f, 0.0f};
  float depth_so_far = 0.0f, mass = 0.0f, moment = 0.0f, between = 0.0f, within = 0.0f;
  for (int i = 0; i < samples; ++i) {
    const float optical = density[i] * (edges[i + 1] - edges[i]);
    const float w = fast_exp(-depth_so_far) * absorbed(optical);
    depth_so_far += optical;
    weights[i] = w;
    image.opacity += w;
    image.depth += w * 0.5f * (edges[i] + edges[i + 1]);
    if (colour)
      for (int c = 0; c < 3; ++c) image.colour[c] += w * colour[3 * i + c];
    if (coordinates) {
      const float middle = 0.5f * (coordinates[i] + coordinates[i + 1]);
      between += w * (middle * mass - moment);
      within += w * w * (coordinates[i + 1] - coordinates[i]);
      mass += w;
      moment += w * middle;
    }
  }
  image.distortion = 2.0f * between + within * 0.33333334f;
  return image;
}

// The gradient of a ray: up_weights (samples) or null; upstream holds the gradient of every member of RayImage.
// Writes grad_density (samples) and, unless null, grad_colour (samples, 3).
SMERF_FN void render_ray_backward(const float* density, const float* edges, const float* colour,
                                  const float* coordinates, int samples, const float* weights, const RayImage& upstream,
                                  const float* up_weights, float* grad_density, float* grad_colour) {
  // First pass: the light behind each interval. It is not found by subtracting on the way back, because a wall's depth
  // wipes out the small depths before it.
  float depth_so_far = 0.0f, mass = 0.0f, moment = 0.0f;
  for (int i = 0; i < samples; ++i) {
    depth_so_far += density[i] * (edges[i + 1] - edges[i]);
    grad_density[i] = fast_exp(-depth_so_far);
    mass += weights[i];
    if (coordinates) moment += weights[i] * 0.5f * (coordinates[i] + coordinates[i + 1]);
  }
  // Second pass, backward: the sums over the samples behind. dw_i/dx_i = T_{i+1} and dw_j/dx_i = -w_j for j > i.
  float mass_behind = 0.0f, moment_behind = 0.0f, behind = 0.0f;
  for (int i = samples - 1; i >= 0; --i) {
    const float w = weights[i], width = edges[i + 1] - edges[i];
    float slope =
        upstream.opacity + upstream.depth * 0.5f * (edges[i] + edges[i + 1]) + (up_weights ? up_weights[i] : 0.0f);
    for (int c = 0; colour && c < 3; ++c) slope += upstream.colour[c] * colour[3 * i + c];
    for (int c = 0; grad_colour && c < 3; ++c) grad_colour[3 * i + c] = w * upstream.colour[c];
    if (coordinates) {
      const float middle = 0.5f * (coordinates[i] + coordinates[i + 1]);
      mass -= w;
      moment -= w * middle;
      const float apart = middle * (mass - mass_behind) - (moment - moment_behind);
      slope += upstream.distortion * (2.0f * apart + 0.66666667f * w * (coordinates[i + 1] - coordinates[i]));
      mass_behind += w;
      moment_behind += w * middle;
    }
    grad_density[i] = width * (slope * grad_density[i] - behind);
    behind += slope * w;
  }
}

}  // namespace smerf
