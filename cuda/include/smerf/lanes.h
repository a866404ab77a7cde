// Eight channels at once: one vector register on CPUs, eight registers on GPUs. And an exponential that vectorises.
// A pair holds the sums of two records of bytes that lie one after the other.
#pragma once

#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "smerf/common.h"

namespace smerf {

// exp(x) for x in [-87, 87], clamped outside; relative error below 3e-7.
SMERF_FN float fast_exp(float x) {
#if defined(__CUDA_ARCH__)
  return expf(clampf(x, -87.0f, 87.0f));
#else
  const float y = clampf(x, -87.0f, 87.0f) * 1.44269504089f;
  const float whole = floorf(y + 0.5f);
  const float f = (y - whole) * 0.69314718056f;
  const float p =
      1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666668f + f * (0.008333334f + f * 0.0013888889f)))));
  // NaN stays NaN in p; larger() gives it an exponent that an integer can hold.
  const uint32_t bits = (uint32_t)((int32_t)larger(whole, -126.0f) + 127) << 23;
  float scale;
  memcpy(&scale, &bits, sizeof(scale));
  return p * scale;
#endif
}

#if defined(__CUDACC__)

struct Lanes8 {
  float v[8];
};

SMERF_FN Lanes8 zero_lanes() { return {{0, 0, 0, 0, 0, 0, 0, 0}}; }
SMERF_FN float lane(const Lanes8& a, int i) { return a.v[i]; }
SMERF_FN void set_lane(Lanes8& a, int i, float value) { a.v[i] = value; }
SMERF_FN Lanes8 first_and_rest(float first, float rest) { return {{first, rest, rest, rest, rest, rest, rest, rest}}; }
SMERF_FN Lanes8 operator+(const Lanes8& a, const Lanes8& b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a.v[i] + b.v[i];
  return r;
}
SMERF_FN Lanes8 operator*(const Lanes8& a, const Lanes8& b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a.v[i] * b.v[i];
  return r;
}
SMERF_FN Lanes8 operator*(float a, const Lanes8& b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a * b.v[i];
  return r;
}
SMERF_FN Lanes8 operator-(float a, const Lanes8& b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a - b.v[i];
  return r;
}
SMERF_FN Lanes8 operator-(const Lanes8& a, const Lanes8& b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a.v[i] - b.v[i];
  return r;
}
SMERF_FN Lanes8 operator/(const Lanes8& a, const Lanes8& b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a.v[i] / b.v[i];
  return r;
}
SMERF_FN Lanes8 operator*(const Lanes8& a, float b) { return b * a; }
SMERF_FN Lanes8 operator+(const Lanes8& a, float b) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = a.v[i] + b;
  return r;
}
SMERF_FN Lanes8& operator+=(Lanes8& a, const Lanes8& b) {
  for (int i = 0; i < 8; ++i) a.v[i] += b.v[i];
  return a;
}
SMERF_FN Lanes8 load_lanes(const float* values) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = values[i];
  return r;
}
SMERF_FN void store_lanes(const Lanes8& a, float* values) {
  for (int i = 0; i < 8; ++i) values[i] = a.v[i];
}
SMERF_FN Lanes8 root_of(const Lanes8& a) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = sqrtf(a.v[i]);
  return r;
}
SMERF_FN void add_bytes(Lanes8& total, const uint8_t* bytes, float weight) {
  const uint2 packed = *reinterpret_cast<const uint2*>(bytes);
  for (int i = 0; i < 4; ++i) {
    total.v[i] += weight * (float)((packed.x >> (8 * i)) & 255u);
    total.v[i + 4] += weight * (float)((packed.y >> (8 * i)) & 255u);
  }
}

struct LanePair {
  Lanes8 low, high;
};

SMERF_FN LanePair zero_pair() { return {zero_lanes(), zero_lanes()}; }
SMERF_FN void add_pair(LanePair& total, const uint8_t* bytes, float weight) {
  add_bytes(total.low, bytes, weight);
  add_bytes(total.high, bytes + 8, weight);
}
SMERF_FN Lanes8 mix_pair(const LanePair& a, float weight) { return (1.0f - weight) * a.low + weight * a.high; }

SMERF_FN Lanes8 sigmoid(const Lanes8& a) {
  Lanes8 r;
  for (int i = 0; i < 8; ++i) r.v[i] = 1.0f / (1.0f + fast_exp(-a.v[i]));
  return r;
}

#else

// Without AVX a vector of eight is two registers; nothing here crosses a library boundary, so no ABI is at stake.
#pragma GCC diagnostic ignored "-Wpsabi"

typedef float Lanes8 __attribute__((vector_size(32)));
typedef int32_t IntLanes8 __attribute__((vector_size(32)));
typedef uint8_t ByteLanes8 __attribute__((vector_size(8)));

SMERF_FN Lanes8 zero_lanes() { return Lanes8{0, 0, 0, 0, 0, 0, 0, 0}; }
SMERF_FN float lane(const Lanes8& a, int i) { return a[i]; }
SMERF_FN void set_lane(Lanes8& a, int i, float value) { a[i] = value; }
SMERF_FN Lanes8 first_and_rest(float first, float rest) {
  return Lanes8{first, rest, rest, rest, rest, rest, rest, rest};
}
SMERF_FN Lanes8 load_lanes(const float* values) {
  Lanes8 result;
  memcpy(&result, values, sizeof(result));
  return result;
}
SMERF_FN void store_lanes(const Lanes8& a, float* values) { memcpy(values, &a, sizeof(a)); }
SMERF_FN Lanes8 root_of(const Lanes8& a) {
#if defined(__AVX2__)
  return (Lanes8)_mm256_sqrt_ps((__m256)a);
#else
  Lanes8 r = a;
  for (int i = 0; i < 8; ++i) r[i] = sqrtf(a[i]);
  return r;
#endif
}
SMERF_FN void add_bytes(Lanes8& total, const uint8_t* bytes, float weight) {
#if defined(__AVX2__)
  // g++ turns the portable form below into eight scalar extractions.
  const __m256i whole = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(bytes)));
  total += weight * (Lanes8)_mm256_cvtepi32_ps(whole);
#else
  ByteLanes8 packed;
  memcpy(&packed, bytes, sizeof(packed));
  total += weight * __builtin_convertvector(__builtin_convertvector(packed, IntLanes8), Lanes8);
#endif
}

// Of vectors of any width: the polynomial of fast_exp, written out because compilers do not look through a scalar loop.
template <class Lanes, class Whole>
SMERF_FN Lanes vector_sigmoid(const Lanes& a) {
  const Lanes limit = 87.0f - Lanes{};
  Lanes x = -a;
  x = x < -limit ? -limit : x;
  x = x > limit ? limit : x;
  const Lanes y = x * 1.44269504089f;
  const Lanes half = 0.5f - Lanes{}, lowest = -126.0f - Lanes{};
  const Lanes rounded = y + (y < 0.0f ? -half : half);
  const Whole whole = __builtin_convertvector(rounded > lowest ? rounded : lowest, Whole);  // NaN fits no integer
  const Lanes f = (y - __builtin_convertvector(whole, Lanes)) * 0.69314718056f;
  const Lanes p =
      1.0f + f * (1.0f + f * (0.5f + f * (0.16666667f + f * (0.041666668f + f * (0.008333334f + f * 0.0013888889f)))));
  const Whole bits = (whole + 127) << 23;
  Lanes scale;
  memcpy(&scale, &bits, sizeof(scale));
  return 1.0f / (1.0f + p * scale);
}

SMERF_FN Lanes8 sigmoid(const Lanes8& a) { return vector_sigmoid<Lanes8, IntLanes8>(a); }

#if defined(__AVX512F__)

typedef float LanePair __attribute__((vector_size(64)));

SMERF_FN LanePair zero_pair() { return (LanePair)_mm512_setzero_ps(); }
SMERF_FN void add_pair(LanePair& total, const uint8_t* bytes, float weight) {
  const __m512i whole = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
  total += weight * (LanePair)_mm512_cvtepi32_ps(whole);
}
SMERF_FN Lanes8 mix_pair(const LanePair& a, float weight) {
  const Lanes8 low = (Lanes8)_mm512_castps512_ps256((__m512)a), high = (Lanes8)_mm512_extractf32x8_ps((__m512)a, 1);
  return low + weight * (high - low);
}
SMERF_FN LanePair join_lanes(const Lanes8& low, const Lanes8& high) {
  return (LanePair)_mm512_insertf32x8(_mm512_castps256_ps512((__m256)low), (__m256)high, 1);
}
SMERF_FN float pair_lane(const LanePair& a, int i) { return a[i]; }
SMERF_FN void add_sigmoid(LanePair& total, const LanePair& a, float weight) {
  typedef int32_t Whole __attribute__((vector_size(64)));
  total += weight * vector_sigmoid<LanePair, Whole>(a);
}

#else

struct LanePair {
  Lanes8 low, high;
};

SMERF_FN LanePair zero_pair() { return {zero_lanes(), zero_lanes()}; }
SMERF_FN void add_pair(LanePair& total, const uint8_t* bytes, float weight) {
  add_bytes(total.low, bytes, weight);
  add_bytes(total.high, bytes + 8, weight);
}
SMERF_FN Lanes8 mix_pair(const LanePair& a, float weight) { return a.low + weight * (a.high - a.low); }
SMERF_FN LanePair join_lanes(const Lanes8& low, const Lanes8& high) { return {low, high}; }
SMERF_FN float pair_lane(const LanePair& a, int i) { return i < 8 ? a.low[i] : a.high[i - 8]; }
SMERF_FN void add_sigmoid(LanePair& total, const LanePair& a, float weight) {
  total.low += weight * sigmoid(a.low);
  total.high += weight * sigmoid(a.high);
}

#endif

#endif

}  // namespace smerf
