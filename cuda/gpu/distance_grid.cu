// The distance grid on GPUs: one thread a cell, one launch an axis.
#include "launch.h"
#include "smerf/distance_grid.h"

namespace {

using namespace smerf;

__global__ void __launch_bounds__(kThreads)
    start_kernel(const uint8_t* __restrict__ occupied, int64_t count, uint16_t* __restrict__ distance) {
  const int64_t i = thread_number();
  if (i < count) distance[i] = start_distance(occupied[i]);
}

__global__ void __launch_bounds__(kThreads) line_kernel(const uint16_t* __restrict__ before, int64_t count,
                                                        int64_t stride, int n, uint16_t* __restrict__ after) {
  const int64_t i = thread_number();
  if (i < count) after[i] = line_distance(before + i, stride, (int)(i / stride % n), n);
}

__global__ void __launch_bounds__(kThreads)
    finish_kernel(const uint16_t* __restrict__ distance, int64_t count, int limit, uint8_t* __restrict__ out) {
  const int64_t i = thread_number();
  if (i < count) out[i] = skipped_cells(distance[i], limit);
}

}  // namespace

// As in cuda/cpu/distance_grid.cpp; work: [2][nx][ny][nz] 16-bit numbers.
SMERF_API int smerf_distance_grid(const uint8_t* occupied, int nx, int ny, int nz, int limit, uint8_t* out, void* work,
                                  void* stream) {
  const int64_t plane = (int64_t)ny * nz, count = nx * plane;
  if (count == 0) return 0;
  uint16_t *first = (uint16_t*)work, *second = first + count;
  const unsigned blocks = block_count(count, kThreads);
  SMERF_LAUNCH(start_kernel, blocks, kThreads, 0, stream, occupied, count, first);
  SMERF_LAUNCH(line_kernel, blocks, kThreads, 0, stream, first, count, 1, nz, second);
  SMERF_LAUNCH(line_kernel, blocks, kThreads, 0, stream, second, count, nz, ny, first);
  SMERF_LAUNCH(line_kernel, blocks, kThreads, 0, stream, first, count, plane, nx, second);
  SMERF_LAUNCH(finish_kernel, blocks, kThreads, 0, stream, second, count, limit, out);
  return launch_result();
}
