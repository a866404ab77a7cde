// Half floats, eight at once. GPUs may flush floats that are not normal to zero: nothing here makes one.
#pragma once

#include "smerf/lanes.h"

namespace smerf {

SMERF_FN float half_to_float(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = half & 0x7fffu;
  float value = (float)rest * 5.9604645e-8f;  // 2^-24: halves that are not normal
  uint32_t bits = (rest << 13) + (112u << 23);
  if (rest >= 0x400u) memcpy(&value, &bits, 4);
  memcpy(&bits, &value, 4);
  bits |= sign;
  memcpy(&value, &bits, 4);
  return value;
}

// The nearest half float, even ones first; the largest for what is larger or not a number.
SMERF_FN uint16_t float_to_half(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const float size = fabsf(value);
  if (!(size < 65520.0f)) return (uint16_t)(sign | 0x7bffu);
  if (size < 6.103515625e-05f) return (uint16_t)(sign | (uint32_t)lrintf(size * 16777216.0f));
  memcpy(&bits, &size, 4);
  bits += 0xfffu + (bits >> 13 & 1u);
  return (uint16_t)(sign | ((bits - (112u << 23)) >> 13));
}

#if defined(__F16C__) && !defined(__CUDACC__)
SMERF_FN Lanes8 from_half(const uint16_t* half) {
  return (Lanes8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)half));
}
SMERF_FN void to_half(const Lanes8& value, uint16_t* half) {
  _mm_storeu_si128((__m128i*)half, _mm256_cvtps_ph((__m256)value, _MM_FROUND_TO_NEAREST_INT));
}
#else
SMERF_FN Lanes8 from_half(const uint16_t* half) {
  Lanes8 value = zero_lanes();
  for (int c = 0; c < 8; ++c) set_lane(value, c, half_to_float(half[c]));
  return value;
}
SMERF_FN void to_half(const Lanes8& value, uint16_t* half) {
  for (int c = 0; c < 8; ++c) half[c] = float_to_half(lane(value, c));
}
#endif

}  // namespace smerf
