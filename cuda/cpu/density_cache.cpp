// Sample placement by the density cache, and the cache's own upkeep.
#include "smerf/density_cache.h"

// origins, directions: (rays, 3); shift, jitter: (rays) or null for none; s_edges: (rays, samples + 1).
// Returns 1 for more bins than fit.
SMERF_API int smerf_cache_sample(const smerf::CacheSampling* sampling, const float* origins, const float* directions,
                                 const float* shift, const float* jitter, int64_t rays, float* s_edges) {
  if (sampling->bins < 1 || sampling->bins > smerf::kMaxBins) return 1;
#pragma omp parallel for schedule(dynamic, 64) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r)
    smerf::sample_ray(*sampling, origins + 3 * r, directions + 3 * r, shift ? shift[r] : 0.0f,
                      jitter ? jitter[r] : 0.0f, s_edges + r * (sampling->samples + 1));
  return 0;
}

// Raises the cells (resolution^3) that hold points x (count, 3) of the unit cube to the densities seen there.
SMERF_API int smerf_cache_raise(float* cache, int resolution, const float* x, const float* density, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    if (!(density[i] < 3e38f)) continue;
    float& cell = cache[smerf::cache_cell(x[3 * i], x[3 * i + 1], x[3 * i + 2], resolution)];
    if (density[i] > cell) cell = density[i];
  }
  return 0;
}
