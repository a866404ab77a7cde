// The anti-aliased proposal loss on CPUs.
#include "smerf/interlevel.h"

// edges: (rays, samples + 1); weights: (rays, samples); outer_edges: (rays, bins + 1); outer_weights: (rays, bins).
// loss: (rays); gradient of the loss with respect to outer_weights: (rays, bins).
SMERF_API int smerf_blurred_interlevel(const float* edges, const float* weights, const float* outer_edges,
                                       const float* outer_weights, float half_width, int64_t rays, int samples,
                                       int bins, float* loss, float* gradient) {
#pragma omp parallel for schedule(static) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r)
    loss[r] = smerf::blurred_interlevel_ray(edges + r * (samples + 1), weights + r * samples, samples,
                                            outer_edges + r * (bins + 1), outer_weights + r * bins, bins, half_width,
                                            gradient + r * bins);
  return 0;
}
