// Sample placement by the density cache on GPUs, one thread a ray, and the cache's own upkeep.
#include "cache_cells.h"
#include "launch.h"
#include "smerf/density_cache.h"

namespace {

using namespace smerf;

constexpr int kRays = 64;  // of a block: a thread holds the bins of its ray

__global__ void __launch_bounds__(kRays)
    sample_kernel(const __grid_constant__ CacheSampling sampling, const float* __restrict__ origins,
                  const float* __restrict__ directions, const float* __restrict__ shift,
                  const float* __restrict__ jitter, int64_t rays, float* __restrict__ s_edges) {
  const int64_t r = thread_number();
  if (r >= rays) return;
  sample_ray(sampling, origins + 3 * r, directions + 3 * r, shift ? shift[r] : 0.0f, jitter ? jitter[r] : 0.0f,
             s_edges + r * (sampling.samples + 1));
}

__global__ void __launch_bounds__(kThreads)
    raise_kernel(float* __restrict__ cache, int resolution, const float* __restrict__ x,
                 const float* __restrict__ density, int64_t count) {
  const int64_t i = thread_number();
  if (i >= count || !(density[i] < 3e38f)) return;
  raise_cell(cache + cache_cell(x[3 * i], x[3 * i + 1], x[3 * i + 2], resolution), density[i]);
}

}  // namespace

// Arguments as in cuda/cpu/density_cache.cpp; `sampling` is in host memory.
SMERF_API int smerf_cache_sample(const CacheSampling* sampling, const float* origins, const float* directions,
                                 const float* shift, const float* jitter, int64_t rays, float* s_edges, void* stream) {
  if (sampling->bins < 1 || sampling->bins > kMaxBins) return kUnsupported;
  if (rays == 0) return 0;
  SMERF_LAUNCH(sample_kernel, block_count(rays, kRays), kRays, 0, stream, *sampling, origins, directions, shift, jitter,
               rays, s_edges);
  return launch_result();
}

SMERF_API int smerf_cache_raise(float* cache, int resolution, const float* x, const float* density, int64_t count,
                                void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(raise_kernel, block_count(count, kThreads), kThreads, 0, stream, cache, resolution, x, density, count);
  return launch_result();
}
