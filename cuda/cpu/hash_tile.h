// Groups of points in one level of a hash grid: corners found together, read or written with the memory fetched ahead.
//
// Points are stored by axis (x, y, z arrays), are numbers, and lie in [0, 1]; arrays may be read up to a whole group
// beyond the count. Source of the formulas: smerf/hash_encoding.h.
#pragma once

#include "smerf/hash_encoding.h"
#include "vectors.h"

namespace smerf {

constexpr int kGroup = 16;

struct PointArrays {
  const float* axis[3];
  const float* sigma;  // footprints, or null; a negative one silences the point
  PointArrays from(int64_t start) const {
    return {{axis[0] + start, axis[1] + start, axis[2] + start}, sigma ? sigma + start : nullptr};
  }
};

// Corners of a group: offsets are in floats (entry * features), and weights include the fade.
struct Group {
  uint32_t offsets[8][kGroup];
  float weights[8][kGroup];
};

static inline __attribute__((always_inline)) Vec level_fades(const Vec& sigma, float n) {
  Vec z = 8.0f * n * n * sigma * sigma;
  z = z > 1e-12f ? z : 1e-12f - Vec{};
  Vec fade;
  for (int i = 0; i < kVec; ++i) fade[i] = fast_exp(-1.27323954f / z[i]);
  fade = square_root(1.0f - fade);
  return sigma >= 0.0f ? fade : Vec{};
}

// Vectors are spelled out: left to itself the compiler unrolls these loops into single steps.
template <int F, bool kDense>
static inline void find_corners(const HashLevel& level, const PointArrays& x, int at, Group& group) {
  const int n = level.resolution;
  WordVec index[3][2];
  Vec part[3][2];
  for (int axis = 0; axis < 3; ++axis) {
    const uint32_t factor = kDense ? (axis == 0 ? 1u : (axis == 1 ? (uint32_t)n : (uint32_t)n * (uint32_t)n))
                                   : (axis == 0 ? 1u : (axis == 1 ? 19349663u : 83492791u));
    const Vec g = *(const Vec*)(x.axis[axis] + at) * (float)n - 0.5f;
    const IntVec low = __builtin_convertvector(g, IntVec) + (g < 0.0f);  // floor: a true comparison is -1
    part[axis][1] = g - __builtin_convertvector(low, Vec);
    part[axis][0] = 1.0f - part[axis][1];
    const IntVec high = low + 1;
    index[axis][0] = (WordVec)(low < 0 ? IntVec{} : low) * factor;
    index[axis][1] = (WordVec)(high > n - 1 ? n - 1 - IntVec{} : high) * factor;
  }
  if (x.sigma) {
    const Vec fade = level_fades(*(const Vec*)(x.sigma + at), (float)n);
    part[2][0] *= fade;
    part[2][1] *= fade;
  }
  for (int c = 0; c < 2; ++c)
    for (int b = 0; b < 2; ++b) {
      const Vec weight = part[1][b] * part[2][c];
      const WordVec base = kDense ? index[1][b] + index[2][c] : index[1][b] ^ index[2][c];
      for (int a = 0; a < 2; ++a) {
        const int corner = 4 * c + 2 * b + a;
        *(Vec*)(group.weights[corner] + at) = weight * part[0][a];
        const WordVec entry = kDense ? base + index[0][a] : (base ^ index[0][a]) & level.mask;
        *(WordVec*)(group.offsets[corner] + at) = entry * F;
      }
    }
}

template <int F>
static inline void find_corners(const HashLevel& level, const PointArrays& x, Group& group) {
  for (int at = 0; at < kGroup; at += kVec)
    if (level.mask)
      find_corners<F, false>(level, x, at, group);
    else
      find_corners<F, true>(level, x, at, group);
}

template <int F, typename Value>
static inline void prefetch_group(const Value* table, const Group& group) {
  for (int corner = 0; corner < 8; ++corner)
    for (int i = 0; i < kGroup; ++i) __builtin_prefetch(table + group.offsets[corner][i]);
}

#if defined(__F16C__)
template <int F>
struct HalfFeature;
template <>
struct HalfFeature<1> {
  typedef float Feature __attribute__((vector_size(4), aligned(4)));
  static inline __attribute__((always_inline)) Feature read(const uint16_t* p) { return Feature{_cvtsh_ss(p[0])}; }
};
template <>
struct HalfFeature<2> {
  typedef float Feature __attribute__((vector_size(8), aligned(4)));
  static inline __attribute__((always_inline)) Feature read(const uint16_t* p) {
    return Feature{_cvtsh_ss(p[0]), _cvtsh_ss(p[1])};
  }
};
template <>
struct HalfFeature<4> {
  typedef float Feature __attribute__((vector_size(16), aligned(4)));
  static inline __attribute__((always_inline)) Feature read(const uint16_t* p) {
    return (Feature)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)p));
  }
};
template <>
struct HalfFeature<8> {
  typedef float Feature __attribute__((vector_size(32), aligned(4)));
  static inline __attribute__((always_inline)) Feature read(const uint16_t* p) {
    return (Feature)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
  }
};
#endif

template <int F>
static inline __attribute__((always_inline)) auto read_entry(const float* p) {
  typedef float Feature __attribute__((vector_size(F * 4), aligned(4)));
  return *(const Feature*)p;
}
#if defined(__F16C__)
template <int F>
static inline __attribute__((always_inline)) auto read_entry(const uint16_t* p) {
  return HalfFeature<F>::read(p);
}
#endif

// out: features of this level, (count) rows of `stride` floats. table: first entry of the
// level, as floats or as half floats.
template <int F, typename Value>
static void read_level(const HashLevel& level, const Value* table, const PointArrays& x, int64_t count, float* out,
                       int64_t stride) {
  typedef float Feature __attribute__((vector_size(F * 4), aligned(4)));
  if (count <= 0) return;
  Group groups[2];
  int current = 0;
  find_corners<F>(level, x, groups[0]);
  prefetch_group<F>(table, groups[0]);
  for (int64_t start = 0; start < count; start += kGroup) {
    const int here = (int)(count - start < kGroup ? count - start : kGroup);
    if (start + kGroup < count) {
      find_corners<F>(level, x.from(start + kGroup), groups[1 - current]);
      prefetch_group<F>(table, groups[1 - current]);
    }
    const Group& group = groups[current];
    for (int i = 0; i < here; ++i) {
      Feature even = {}, odd = {};
      for (int corner = 0; corner < 8; corner += 2) {
        even += read_entry<F>(table + group.offsets[corner][i]) * group.weights[corner][i];
        odd += read_entry<F>(table + group.offsets[corner + 1][i]) * group.weights[corner + 1][i];
      }
      *(Feature*)(out + (start + i) * stride) = even + odd;
    }
    current = 1 - current;
  }
}

// Adds the gradients `upstream` (count rows of `stride` floats) to those of the level's entries.
template <int F>
static void write_level(const HashLevel& level, float* gradient, const PointArrays& x, int64_t count,
                        const float* upstream, int64_t stride) {
  typedef float Feature __attribute__((vector_size(F * 4), aligned(4)));
  if (count <= 0) return;
  Group groups[2];
  int current = 0;
  find_corners<F>(level, x, groups[0]);
  prefetch_group<F>(gradient, groups[0]);
  for (int64_t start = 0; start < count; start += kGroup) {
    const int here = (int)(count - start < kGroup ? count - start : kGroup);
    if (start + kGroup < count) {
      find_corners<F>(level, x.from(start + kGroup), groups[1 - current]);
      prefetch_group<F>(gradient, groups[1 - current]);
    }
    const Group& group = groups[current];
    for (int i = 0; i < here; ++i) {
      const Feature up = *(const Feature*)(upstream + (start + i) * stride);
      for (int corner = 0; corner < 8; ++corner)
        *(Feature*)(gradient + group.offsets[corner][i]) += up * group.weights[corner][i];
    }
    current = 1 - current;
  }
}

}  // namespace smerf
