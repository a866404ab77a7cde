// The distance grid on CPUs: threads take rows of cells along z, and compare whole rows.
#include "smerf/distance_grid.h"

#include <vector>

namespace {

using namespace smerf;

// Distances along the row itself: once up, once down.
void start_row(const uint8_t* occupied, int n, uint16_t* row) {
  for (int i = 0; i < n; ++i) row[i] = start_distance(occupied[i]);
  for (int i = 1; i < n; ++i) row[i] = row[i - 1] < row[i] ? row[i - 1] + 1 : row[i];
  for (int i = n - 2; i >= 0; --i) row[i] = row[i + 1] < row[i] ? row[i + 1] + 1 : row[i];
}

void compare_rows(uint16_t* row, const uint16_t* neighbour, int k, int n) {
  for (int z = 0; z < n; ++z) row[z] = nearer(row[z], neighbour[z], (uint16_t)k);
}

// One more axis: row i of `count` rows that are `stride` cells apart. No row further away than the greatest distance
// matters.
void extend_row(const uint16_t* before, int64_t stride, int i, int count, int n, uint16_t* row) {
  for (int z = 0; z < n; ++z) row[z] = before[z];
  for (int k = 1; k <= i || i + k < count; ++k) {
    uint16_t most = 0;
    for (int z = 0; z < n; ++z) most = row[z] > most ? row[z] : most;
    if (k >= most) return;
    if (k <= i) compare_rows(row, before - k * stride, k, n);
    if (i + k < count) compare_rows(row, before + k * stride, k, n);
  }
}

}  // namespace

// occupied, out: [nx][ny][nz]; a cell of `out` holds max(0, chessboard distance to the nearest occupied cell - 1), at
// most `limit` (255 or less).
SMERF_API int smerf_distance_grid(const uint8_t* occupied, int nx, int ny, int nz, int limit, uint8_t* out) {
  const int64_t plane = (int64_t)ny * nz, rows = (int64_t)nx * ny;
  std::vector<uint16_t> first(rows * nz), second(rows * nz);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; ++r) start_row(occupied + r * nz, nz, &first[r * nz]);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; ++r) extend_row(&first[r * nz], nz, (int)(r % ny), ny, nz, &second[r * nz]);
#pragma omp for schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
      uint16_t* row = &first[r * nz];
      extend_row(&second[r * nz], plane, (int)(r / ny), nx, nz, row);
      for (int z = 0; z < nz; ++z) out[r * nz + z] = skipped_cells(row[z], limit);
    }
  }
  return 0;
}
