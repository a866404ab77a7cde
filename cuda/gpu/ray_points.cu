// Interval midpoints of rays on GPUs: one thread a sample.
#include "launch.h"
#include "smerf/ray_points.h"

namespace {

using namespace smerf;

__global__ void __launch_bounds__(kThreads)
    ray_points_kernel(const float* __restrict__ origins, const float* __restrict__ directions,
                      const float* __restrict__ edges, const float* __restrict__ radii, float scale, int64_t count,
                      int samples, float* __restrict__ x, float* __restrict__ sigma) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const int64_t ray = i / samples;
  const float* edge = edges + i + ray;
  sigma[i] =
      ray_point(origins + 3 * ray, directions + 3 * ray, 0.5f * (edge[0] + edge[1]), radii[ray], scale, x + 3 * i);
}

}  // namespace

// Arguments as in cuda/cpu/ray_points.cpp.
SMERF_API int smerf_ray_points(const float* origins, const float* directions, const float* edges, const float* radii,
                               float scale, int64_t rays, int samples, float* x, float* sigma, void* stream) {
  const int64_t count = rays * samples;
  if (count == 0) return 0;
  SMERF_LAUNCH(ray_points_kernel, block_count(count, kThreads), kThreads, 0, stream, origins, directions, edges, radii,
               scale, count, samples, x, sigma);
  return launch_result();
}
