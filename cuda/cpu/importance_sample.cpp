// Importance sampling on CPUs.
#include "smerf/importance_sample.h"

// edges: (rays, bins + 1); weights: (rays, bins); jitter: (rays) in units of a sample, or null; drawn: (rays, samples +
// 1).
SMERF_API int smerf_importance_sample(const float* edges, const float* weights, const float* jitter, float mix,
                                      int64_t rays, int bins, int samples, float* drawn) {
#pragma omp parallel for schedule(static) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r)
    smerf::draw_intervals(edges + r * (bins + 1), weights + r * bins, bins, samples, jitter ? jitter[r] : 0.0f, mix,
                          drawn + r * (samples + 1));
  return 0;
}
