// Alive cells on CPUs: threads take runs of rays.
#include "smerf/mark_alive.h"

// origins, directions: (rays, 3) training space; edges: (rays, samples + 1); weights: (rays, samples). seen, solid:
// [cells]^3 bytes, set to one where a sample weighs more than grid->seen, and grid->solid.
SMERF_API int smerf_mark_alive(const smerf::AliveGrid* grid, const float* origins, const float* directions,
                               const float* edges, const float* weights, int64_t rays, int samples, uint8_t* seen,
                               uint8_t* solid) {
  const smerf::AliveGrid g = *grid;
#pragma omp parallel for schedule(static)
  for (int64_t r = 0; r < rays; ++r)
    smerf::mark_ray(g, origins + 3 * r, directions + 3 * r, edges + r * (samples + 1), weights + r * samples, samples,
                    seen, solid);
  return 0;
}
