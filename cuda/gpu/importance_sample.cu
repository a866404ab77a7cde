// Importance sampling on GPUs: one thread a ray.
#include "launch.h"
#include "smerf/importance_sample.h"

namespace {

using namespace smerf;

constexpr int kRayThreads = 64;

__global__ void __launch_bounds__(kRayThreads)
    draw_kernel(const float* __restrict__ edges, const float* __restrict__ weights, const float* __restrict__ jitter,
                float mix, int64_t rays, int bins, int samples, float* __restrict__ drawn) {
  const int64_t r = thread_number();
  if (r >= rays) return;
  draw_intervals(edges + r * (bins + 1), weights + r * bins, bins, samples, jitter ? jitter[r] : 0.0f, mix,
                 drawn + r * (samples + 1));
}

}  // namespace

// Arguments as in cuda/cpu/importance_sample.cpp.
SMERF_API int smerf_importance_sample(const float* edges, const float* weights, const float* jitter, float mix,
                                      int64_t rays, int bins, int samples, float* drawn, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(draw_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, edges, weights, jitter, mix, rays,
               bins, samples, drawn);
  return launch_result();
}
