// Intervals of rays that meet surfaces, on GPUs: one thread a ray.
#include "launch.h"
#include "smerf/surface_intervals.h"

namespace {

using namespace smerf;

constexpr int kRayThreads = 64;

__global__ void __launch_bounds__(kRayThreads)
    surface_kernel(NearCells grid, RaySpacing spacing, const float* __restrict__ origins,
                   const float* __restrict__ directions, const float* __restrict__ met,
                   const float* __restrict__ opacity, int64_t rays, int layers, int samples, float half_width,
                   float* __restrict__ edges, float* __restrict__ weights) {
  const int64_t r = thread_number();
  if (r >= rays) return;
  surface_intervals(grid, spacing, origins + 3 * r, directions + 3 * r, met + r * layers, opacity + r * layers, layers,
                    samples, half_width, edges + r * (samples + 1), weights + r * samples);
}

}  // namespace

// Arguments as in cuda/cpu/surface_intervals.cpp.
SMERF_API int smerf_surface_intervals(const smerf::NearCells* grid, const smerf::RaySpacing* spacing,
                                      const float* origins, const float* directions, const float* met,
                                      const float* opacity, int64_t rays, int layers, int samples, float half_width,
                                      float* edges, float* weights, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(surface_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, *grid, *spacing, origins,
               directions, met, opacity, rays, layers, samples, half_width, edges, weights);
  return launch_result();
}
