// Alive cells on GPUs: one thread a ray.
#include "launch.h"
#include "smerf/mark_alive.h"

namespace {

__global__ void __launch_bounds__(smerf::kThreads)
    mark_kernel(smerf::AliveGrid grid, const float* __restrict__ origins, const float* __restrict__ directions,
                const float* __restrict__ edges, const float* __restrict__ weights, int64_t rays, int samples,
                uint8_t* seen, uint8_t* solid) {
  const int64_t r = smerf::thread_number();
  if (r < rays)
    smerf::mark_ray(grid, origins + 3 * r, directions + 3 * r, edges + r * (samples + 1), weights + r * samples,
                    samples, seen, solid);
}

}  // namespace

// As in cuda/cpu/mark_alive.cpp.
SMERF_API int smerf_mark_alive(const smerf::AliveGrid* grid, const float* origins, const float* directions,
                               const float* edges, const float* weights, int64_t rays, int samples, uint8_t* seen,
                               uint8_t* solid, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(mark_kernel, smerf::block_count(rays, smerf::kThreads), smerf::kThreads, 0, stream, *grid, origins,
               directions, edges, weights, rays, samples, seen, solid);
  return smerf::launch_result();
}
