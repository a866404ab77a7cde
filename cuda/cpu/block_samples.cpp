// Gathering the samples of macroblocks on CPUs: threads take blocks.
#include "smerf/block_samples.h"

// coords: [count][3], macroblocks on viewer axes; out: [count][9][9][9][8].
SMERF_API int smerf_block_samples(const void* view, const int32_t* coords, int64_t count, uint8_t* out) {
  const smerf::GridView grid = *(const smerf::GridView*)view;
#pragma omp parallel for schedule(static)
  for (int64_t n = 0; n < count; ++n) {
    const int32_t* at = coords + 3 * n;
    uint8_t* block = out + n * smerf::kBlockSamples * smerf::kChannels;
    for (int i = 0; i < smerf::kBlockSamples; ++i)
      smerf::copy_sample(grid, at[0], at[1], at[2], i, block + i * smerf::kChannels);
  }
  return 0;
}
