// The anti-aliased proposal loss on GPUs: one thread a ray.
#include "launch.h"
#include "smerf/interlevel.h"

namespace {

using namespace smerf;

constexpr int kRayThreads = 64;

__global__ void __launch_bounds__(kRayThreads)
    interlevel_kernel(const float* __restrict__ edges, const float* __restrict__ weights,
                      const float* __restrict__ outer_edges, const float* __restrict__ outer_weights, float half_width,
                      int64_t rays, int samples, int bins, float* __restrict__ loss, float* __restrict__ gradient) {
  const int64_t r = thread_number();
  if (r >= rays) return;
  loss[r] =
      blurred_interlevel_ray(edges + r * (samples + 1), weights + r * samples, samples, outer_edges + r * (bins + 1),
                             outer_weights + r * bins, bins, half_width, gradient + r * bins);
}

}  // namespace

// Arguments as in cuda/cpu/interlevel.cpp.
SMERF_API int smerf_blurred_interlevel(const float* edges, const float* weights, const float* outer_edges,
                                       const float* outer_weights, float half_width, int64_t rays, int samples,
                                       int bins, float* loss, float* gradient, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(interlevel_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, edges, weights, outer_edges,
               outer_weights, half_width, rays, samples, bins, loss, gradient);
  return launch_result();
}
