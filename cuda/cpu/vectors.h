// Vectors as wide as a register of the instruction set that is compiled for.
//
// g++ takes wider ones as well, but keeps them in memory between any two operations.
#pragma once

#include <math.h>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "smerf/common.h"

namespace smerf {

#if defined(__AVX512F__)
constexpr int kVec = 16;
#elif defined(__AVX2__)
constexpr int kVec = 8;
#else
constexpr int kVec = 4;
#endif

typedef float Vec __attribute__((vector_size(4 * kVec), aligned(4)));
typedef int32_t IntVec __attribute__((vector_size(4 * kVec), aligned(4)));
typedef uint32_t WordVec __attribute__((vector_size(4 * kVec), aligned(4)));

static inline __attribute__((always_inline)) Vec square_root(const Vec& a) {
#if defined(__AVX512F__)
  return (Vec)_mm512_sqrt_ps((__m512)a);
#elif defined(__AVX2__)
  return (Vec)_mm256_sqrt_ps((__m256)a);
#else
  Vec root;
  for (int i = 0; i < kVec; ++i) root[i] = sqrtf(a[i]);
  return root;
#endif
}

static inline __attribute__((always_inline)) bool is_any_bit_set(const IntVec& a) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)a, (__m512i)a) != 0;
#elif defined(__AVX2__)
  return !_mm256_testz_si256((__m256i)a, (__m256i)a);
#else
  int32_t bits = 0;
  for (int i = 0; i < kVec; ++i) bits |= a[i];
  return bits != 0;
#endif
}

}  // namespace smerf
