// Hash encoding on CPUs: points in blocks, level by level inside a block, so that a level's table stays in cache.
#include <vector>

#include "hash_tile.h"

namespace {

using smerf::HashLevel;
using smerf::PointArrays;

constexpr int kBlock = 2048;  // points of one block: features of a block fit in the second-level cache

// Points by axis, and footprints: negative ones silence what is not a number, zero fades nothing.
class Columns {
 public:
  explicit Columns(int64_t room) : values_(4 * (room + smerf::kGroup), 0.5f), room_(room + smerf::kGroup) {}

  // Without footprints and with numbers alone, no footprint is needed.
  PointArrays fill(const float* x, const float* sigma, int64_t count) {
    bool plain = sigma == nullptr;
    for (int64_t i = 0; i < count; ++i) {
      const bool valid = smerf::is_point(x + 3 * i);
      plain = plain && valid;
      for (int axis = 0; axis < 3; ++axis)
        values_[axis * room_ + i] = valid ? smerf::clampf(x[3 * i + axis], 0.0f, 1.0f) : 0.5f;
      values_[3 * room_ + i] = valid ? (sigma ? sigma[i] : 0.0f) : -1.0f;
    }
    const float* first = values_.data();
    return {{first, first + room_, first + 2 * room_}, plain ? nullptr : first + 3 * room_};
  }

 private:
  std::vector<float> values_;
  int64_t room_;
};

template <int F>
void forward(const HashLevel* levels, int level_count, const float* table, const float* x, const float* sigma,
             int64_t count, float* out) {
  const int64_t stride = (int64_t)level_count * F;
  const int64_t blocks = (count + kBlock - 1) / kBlock;
#pragma omp parallel if (count > 4096)
  {
    Columns columns(kBlock);
#pragma omp for schedule(dynamic)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t start = block * kBlock, size = count - start < kBlock ? count - start : kBlock;
      const PointArrays points = columns.fill(x + 3 * start, sigma ? sigma + start : nullptr, size);
      for (int l = 0; l < level_count; ++l)
        smerf::read_level<F>(levels[l], table + levels[l].offset * F, points, size, out + start * stride + l * F,
                             stride);
    }
  }
}

// One thread owns a level: no atomics, and the same sums on every run.
template <int F>
void backward(const HashLevel* levels, int level_count, const float* x, const float* sigma, int64_t count,
              const float* upstream, float* gradient) {
  const int64_t stride = (int64_t)level_count * F;
  Columns columns(count);
  const PointArrays points = columns.fill(x, sigma, count);
#pragma omp parallel for schedule(dynamic, 1) if (count > 1024)
  for (int reverse = 0; reverse < level_count; ++reverse) {
    const int l = level_count - 1 - reverse;
    smerf::write_level<F>(levels[l], gradient + levels[l].offset * F, points, count, upstream + l * F, stride);
  }
}

template <int F>
void backward_input(const HashLevel* levels, int level_count, const float* table, const float* x, const float* sigma,
                    int64_t count, const float* upstream, float* gradient) {
#pragma omp parallel for schedule(static) if (count > 1024)
  for (int64_t i = 0; i < count; ++i) {
    float total[3] = {0.0f, 0.0f, 0.0f};
    for (int l = 0; smerf::is_point(x + 3 * i) && l < level_count; ++l) {
      uint32_t entries[8];
      float weights[8], slope[3];
      smerf::level_corners(levels[l], x + 3 * i, entries, weights);
      const float fade = sigma ? smerf::level_fade(sigma[i], levels[l].resolution) : 1.0f;
      const float* up = upstream + i * level_count * F + l * F;
      for (int corner = 0; corner < 8; ++corner) {
        const float* value = table + ((size_t)levels[l].offset + entries[corner]) * F;
        float dot = 0.0f;
        for (int f = 0; f < F; ++f) dot += up[f] * value[f];
        smerf::corner_gradient(levels[l], x + 3 * i, corner, slope);
        for (int axis = 0; axis < 3; ++axis) total[axis] += fade * dot * slope[axis];
      }
    }
    for (int axis = 0; axis < 3; ++axis) {
      const bool inside = x[3 * i + axis] > 0.0f && x[3 * i + axis] < 1.0f;
      gradient[3 * i + axis] = inside ? total[axis] : 0.0f;
    }
  }
}

}  // namespace

#define SMERF_BY_FEATURES(call) \
  switch (features) {           \
    case 1: call(1); return 0;  \
    case 2: call(2); return 0;  \
    case 4: call(4); return 0;  \
    case 8: call(8); return 0;  \
    default: return 1;          \
  }

// levels: array of HashLevel. table: (entries, features). x: (count, 3). sigma: (count) or null.
// out: (count, level_count * features). Returns 1 for an unsupported number of features.
SMERF_API int smerf_hash_encode_forward(const void* levels, int level_count, int features, const float* table,
                                        const float* x, const float* sigma, int64_t count, float* out) {
#define SMERF_CALL(F) forward<F>((const HashLevel*)levels, level_count, table, x, sigma, count, out)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// gradient: (entries, features), added to.
SMERF_API int smerf_hash_encode_backward(const void* levels, int level_count, int features, const float* x,
                                         const float* sigma, int64_t count, const float* upstream, float* gradient) {
#define SMERF_CALL(F) backward<F>((const HashLevel*)levels, level_count, x, sigma, count, upstream, gradient)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// gradient: (count, 3), written.
SMERF_API int smerf_hash_encode_backward_input(const void* levels, int level_count, int features, const float* table,
                                               const float* x, const float* sigma, int64_t count, const float* upstream,
                                               float* gradient) {
#define SMERF_CALL(F) \
  backward_input<F>((const HashLevel*)levels, level_count, table, x, sigma, count, upstream, gradient)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}
