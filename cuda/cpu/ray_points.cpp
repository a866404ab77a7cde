#include "smerf/ray_points.h"

// origins, directions: (rays, 3); edges: (rays, samples + 1); radii: (rays); x: (rays * samples, 3);
// sigma: (rays * samples). The point of an interval is its midpoint.
SMERF_API int smerf_ray_points(const float* origins, const float* directions, const float* edges, const float* radii,
                               float scale, int64_t rays, int samples, float* x, float* sigma) {
#pragma omp parallel for schedule(dynamic, 256) if (rays > 64)
  for (int64_t r = 0; r < rays; ++r)
    for (int s = 0; s < samples; ++s) {
      const float* edge = edges + r * (samples + 1) + s;
      const int64_t i = r * samples + s;
      sigma[i] =
          smerf::ray_point(origins + 3 * r, directions + 3 * r, 0.5f * (edge[0] + edge[1]), radii[r], scale, x + 3 * i);
    }
  return 0;
}
