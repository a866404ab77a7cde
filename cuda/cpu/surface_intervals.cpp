// Intervals of rays that meet surfaces, on CPUs.
#include "smerf/surface_intervals.h"

// origins, directions: (rays, 3); met, opacity: (rays, layers); edges: (rays, samples + 1); weights: (rays, samples).
SMERF_API int smerf_surface_intervals(const smerf::NearCells* grid, const smerf::RaySpacing* spacing,
                                      const float* origins, const float* directions, const float* met,
                                      const float* opacity, int64_t rays, int layers, int samples, float half_width,
                                      float* edges, float* weights) {
#pragma omp parallel for schedule(dynamic, 256) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r)
    smerf::surface_intervals(*grid, *spacing, origins + 3 * r, directions + 3 * r, met + r * layers,
                             opacity + r * layers, layers, samples, half_width, edges + r * (samples + 1),
                             weights + r * samples);
  return 0;
}
