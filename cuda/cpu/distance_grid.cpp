// The distance grid on CPUs: threads take planes of cells.
#include "smerf/distance_grid.h"

#include <vector>

// occupied, out: [nx][ny][nz]; a cell of `out` holds max(0, chessboard distance to the nearest occupied cell - 1), at most
// `limit` (255 or less).
SMERF_API int smerf_distance_grid(const uint8_t* occupied, int nx, int ny, int nz, int limit, uint8_t* out) {
  const int64_t plane = (int64_t)ny * nz, count = nx * plane;
  std::vector<uint16_t> first(count), second(count);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < count; ++i) first[i] = smerf::start_distance(occupied[i]);
#pragma omp for schedule(static)
    for (int x = 0; x < nx; ++x)
      for (int64_t i = x * plane; i < (x + 1) * plane; ++i)
        second[i] = smerf::line_distance(&first[i], 1, (int)(i % nz), nz);
#pragma omp for schedule(static)
    for (int x = 0; x < nx; ++x)
      for (int64_t i = x * plane; i < (x + 1) * plane; ++i)
        first[i] = smerf::line_distance(&second[i], nz, (int)(i / nz % ny), ny);
#pragma omp for schedule(static)
    for (int x = 0; x < nx; ++x)
      for (int64_t i = x * plane; i < (x + 1) * plane; ++i)
        out[i] = smerf::skipped_cells(smerf::line_distance(&first[i], plane, x, nx), limit);
  }
  return 0;
}
