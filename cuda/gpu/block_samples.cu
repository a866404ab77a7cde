// Gathering the samples of macroblocks on GPUs: one thread a sample.
#include "launch.h"
#include "smerf/block_samples.h"

namespace {

using namespace smerf;

__global__ void __launch_bounds__(kThreads)
    gather_kernel(const __grid_constant__ GridView grid, const int32_t* __restrict__ coords, int64_t samples,
                  uint8_t* __restrict__ out) {
  const int64_t n = thread_number();
  if (n >= samples) return;
  const int32_t* at = coords + 3 * (n / kBlockSamples);
  copy_sample(grid, at[0], at[1], at[2], (int)(n % kBlockSamples), out + n * kChannels);
}

}  // namespace

// As in cuda/cpu/block_samples.cpp; `view` is in host memory and holds device pointers.
SMERF_API int smerf_block_samples(const void* view, const int32_t* coords, int64_t count, uint8_t* out, void* stream) {
  if (count == 0) return 0;
  const int64_t samples = count * kBlockSamples;
  SMERF_LAUNCH(gather_kernel, block_count(samples, kThreads), kThreads, 0, stream, *(const GridView*)view, coords,
               samples, out);
  return launch_result();
}
