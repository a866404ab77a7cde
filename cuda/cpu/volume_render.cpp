// Volume rendering on CPUs: one ray after the other, rays shared out over threads.
#include "smerf/volume_render.h"

// density: (rays, samples); edges, coordinates: (rays, samples + 1); colour: (rays, samples, 3). colour and coordinates
// may be null. weights: (rays, samples); image: (rays, 6) = colour over black, opacity, depth, distortion.
SMERF_API int smerf_volume_render_forward(const float* density, const float* edges, const float* colour,
                                          const float* coordinates, int64_t rays, int samples, float* weights,
                                          float* image) {
#pragma omp parallel for schedule(static) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r) {
    const int64_t at = r * samples;
    *(smerf::RayImage*)(image + 6 * r) =
        smerf::render_ray(density + at, edges + at + r, colour ? colour + 3 * at : nullptr,
                          coordinates ? coordinates + at + r : nullptr, samples, weights + at);
  }
  return 0;
}

// up_image: (rays, 6); up_weights: (rays, samples) or null. Writes grad_density and, unless null, grad_colour.
SMERF_API int smerf_volume_render_backward(const float* density, const float* edges, const float* colour,
                                           const float* coordinates, int64_t rays, int samples, const float* weights,
                                           const float* up_image, const float* up_weights, float* grad_density,
                                           float* grad_colour) {
#pragma omp parallel for schedule(static) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r) {
    const int64_t at = r * samples;
    smerf::render_ray_backward(density + at, edges + at + r, colour ? colour + 3 * at : nullptr,
                               coordinates ? coordinates + at + r : nullptr, samples, weights + at,
                               *(const smerf::RayImage*)(up_image + 6 * r), up_weights ? up_weights + at : nullptr,
                               grad_density + at, grad_colour ? grad_colour + 3 * at : nullptr);
  }
  return 0;
}
