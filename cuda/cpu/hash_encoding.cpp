// Hash encoding on CPUs: points in blocks, level by level inside a block, so that a level's table stays in cache.
#include <string.h>

#include "smerf/hash_encoding.h"

namespace {

using smerf::HashLevel;

constexpr int kBlock = 2048;  // points of one block: features of a block fit in the second-level cache
constexpr int kGroup = 16;    // points whose corners are computed, and prefetched, together

// Corners of a group of points, laid out so that the index arithmetic vectorises over the points.
struct Group {
  uint32_t entries[8][kGroup];
  float weights[8][kGroup];
  float fade[kGroup];
};

template <bool kDense>
void find_corners(const HashLevel& level, const float* x, const float* sigma, int count, Group& group) {
  const int n = level.resolution;
  const float scale = (float)n;
  uint32_t lo[3][kGroup], hi[3][kGroup];
  float frac[3][kGroup];
  for (int axis = 0; axis < 3; ++axis) {
    const uint32_t factor = kDense ? (axis == 0 ? 1u : (axis == 1 ? (uint32_t)n : (uint32_t)n * (uint32_t)n))
                                   : (axis == 0 ? 1u : (axis == 1 ? 19349663u : 83492791u));
    for (int i = 0; i < kGroup; ++i) {
      const float value = i < count ? x[3 * i + axis] : 0.0f;
      // Written so that what is not a number becomes 0; its weight is cleared below.
      const float g = (value > 0.0f ? (value < 1.0f ? value : 1.0f) : 0.0f) * scale - 0.5f;
      const float base = floorf(g);
      frac[axis][i] = g - base;
      lo[axis][i] = (uint32_t)smerf::clampi((int)base, 0, n - 1) * factor;
      hi[axis][i] = (uint32_t)smerf::clampi((int)base + 1, 0, n - 1) * factor;
    }
  }
  for (int corner = 0; corner < 8; ++corner) {
    const uint32_t* cx = corner & 1 ? hi[0] : lo[0];
    const uint32_t* cy = corner & 2 ? hi[1] : lo[1];
    const uint32_t* cz = corner & 4 ? hi[2] : lo[2];
    for (int i = 0; i < kGroup; ++i) {
      const float wx = corner & 1 ? frac[0][i] : 1.0f - frac[0][i];
      const float wy = corner & 2 ? frac[1][i] : 1.0f - frac[1][i];
      const float wz = corner & 4 ? frac[2][i] : 1.0f - frac[2][i];
      group.weights[corner][i] = wx * wy * wz;
      group.entries[corner][i] = kDense ? cx[i] + cy[i] + cz[i] : (cx[i] ^ cy[i] ^ cz[i]) & level.mask;
    }
  }
  for (int i = 0; i < kGroup; ++i) {
    const float fade = sigma && i < count ? smerf::level_fade(sigma[i], n) : 1.0f;
    group.fade[i] = i < count && smerf::is_point(x + 3 * i) ? fade : 0.0f;
  }
}

void find_corners(const HashLevel& level, const float* x, const float* sigma, int count, Group& group) {
  if (level.mask)
    find_corners<false>(level, x, sigma, count, group);
  else
    find_corners<true>(level, x, sigma, count, group);
}

template <int F>
void prefetch(const float* table, const Group& group, int count) {
  for (int corner = 0; corner < 8; ++corner)
    for (int i = 0; i < count; ++i) __builtin_prefetch(table + (size_t)group.entries[corner][i] * F);
}

template <int F>
void forward_level(const HashLevel& level, const float* table, const float* x, const float* sigma, int64_t count,
                   float* out, int64_t stride) {
  typedef float Feature __attribute__((vector_size(F * 4), aligned(4)));
  Group groups[2];
  int current = 0;
  const int first = (int)(count < kGroup ? count : kGroup);
  find_corners(level, x, sigma, first, groups[0]);
  prefetch<F>(table, groups[0], first);
  for (int64_t start = 0; start < count; start += kGroup) {
    const int here = (int)(count - start < kGroup ? count - start : kGroup);
    const int64_t next = start + kGroup;
    if (next < count) {
      const int after = (int)(count - next < kGroup ? count - next : kGroup);
      find_corners(level, x + 3 * next, sigma ? sigma + next : nullptr, after, groups[1 - current]);
      prefetch<F>(table, groups[1 - current], after);
    }
    const Group& group = groups[current];
    for (int i = 0; i < here; ++i) {
      Feature sum = {};
      for (int corner = 0; corner < 8; ++corner)
        sum += *(const Feature*)(table + (size_t)group.entries[corner][i] * F) * group.weights[corner][i];
      *(Feature*)(out + (start + i) * stride) = sum * group.fade[i];
    }
    current = 1 - current;
  }
}

template <int F>
void backward_level(const HashLevel& level, float* gradient, const float* x, const float* sigma, int64_t count,
                    const float* upstream, int64_t stride) {
  typedef float Feature __attribute__((vector_size(F * 4), aligned(4)));
  Group groups[2];
  int current = 0;
  const int first = (int)(count < kGroup ? count : kGroup);
  find_corners(level, x, sigma, first, groups[0]);
  prefetch<F>(gradient, groups[0], first);
  for (int64_t start = 0; start < count; start += kGroup) {
    const int here = (int)(count - start < kGroup ? count - start : kGroup);
    const int64_t next = start + kGroup;
    if (next < count) {
      const int after = (int)(count - next < kGroup ? count - next : kGroup);
      find_corners(level, x + 3 * next, sigma ? sigma + next : nullptr, after, groups[1 - current]);
      prefetch<F>(gradient, groups[1 - current], after);
    }
    const Group& group = groups[current];
    for (int i = 0; i < here; ++i) {
      const Feature up = *(const Feature*)(upstream + (start + i) * stride) * group.fade[i];
      for (int corner = 0; corner < 8; ++corner)
        *(Feature*)(gradient + (size_t)group.entries[corner][i] * F) += up * group.weights[corner][i];
    }
    current = 1 - current;
  }
}

template <int F>
void forward(const HashLevel* levels, int level_count, const float* table, const float* x, const float* sigma,
             int64_t count, float* out) {
  const int64_t stride = (int64_t)level_count * F;
  const int64_t blocks = (count + kBlock - 1) / kBlock;
#pragma omp parallel for schedule(dynamic) if (count > 4096)
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t start = block * kBlock, size = count - start < kBlock ? count - start : kBlock;
    for (int l = 0; l < level_count; ++l)
      forward_level<F>(levels[l], table + levels[l].offset * F, x + 3 * start, sigma ? sigma + start : nullptr, size,
                       out + start * stride + l * F, stride);
  }
}

// One thread owns a level: no atomics, and the same sums on every run.
template <int F>
void backward(const HashLevel* levels, int level_count, const float* x, const float* sigma, int64_t count,
              const float* upstream, float* gradient) {
  const int64_t stride = (int64_t)level_count * F;
#pragma omp parallel for schedule(dynamic, 1) if (count > 1024)
  for (int reverse = 0; reverse < level_count; ++reverse) {
    const int l = level_count - 1 - reverse;
    backward_level<F>(levels[l], gradient + levels[l].offset * F, x, sigma, count, upstream + l * F, stride);
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

#define SMERF_BY_FEATURES(call)           \
  switch (features) {                     \
    case 1: call(1); return 0;            \
    case 2: call(2); return 0;            \
    case 4: call(4); return 0;            \
    case 8: call(8); return 0;            \
    default: return 1;                    \
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
                                               const float* x, const float* sigma, int64_t count,
                                               const float* upstream, float* gradient) {
#define SMERF_CALL(F) \
  backward_input<F>((const HashLevel*)levels, level_count, table, x, sigma, count, upstream, gradient)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}
