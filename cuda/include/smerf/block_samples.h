// The samples of a macroblock of the atlas: its own voxels, and the first layer of the next blocks for interpolation.
//
// Absent blocks read as the simulation reads them: no density, features next to zero. Beyond the last block the grid
// repeats its last layer. Mirrors smerf/kernels/reference/block_samples.py.
#pragma once

#include "smerf/grid.h"

namespace smerf {

constexpr int kSampleEdge = kBlockEdge + 1;
constexpr int kBlockSamples = kSampleEdge * kSampleEdge * kSampleEdge;

// Writes the eight bytes of sample i, axis z fastest, of the macroblock at (x, y, z).
SMERF_FN void copy_sample(const GridView& grid, int x, int y, int z, int i, uint8_t* out) {
  const int last = grid.voxel_resolution - 1;
  const int a = clampi(x * kBlockEdge + i / (kSampleEdge * kSampleEdge), 0, last);
  const int b = clampi(y * kBlockEdge + i / kSampleEdge % kSampleEdge, 0, last);
  const int c = clampi(z * kBlockEdge + i % kSampleEdge, 0, last);
  const int64_t voxel = voxel_address(grid, a, b, c);
  for (int k = 0; k < kChannels; ++k) out[k] = voxel < 0 ? (k ? 128 : 0) : grid.voxels[voxel * kChannels + k];
}

}  // namespace smerf
