// Adam that touches only the entries with a gradient (sparse tables), and clears the gradient behind it.
#include <math.h>

#include "vectors.h"

namespace {

using smerf::IntVec;
using smerf::kVec;
using smerf::Vec;

struct AdamRates {
  float lr, beta1, beta2, eps, inverse1, inverse2, decay;
};

void update_record(const AdamRates& a, float* v, float* g, float* m1, float* m2, int width) {
  float size = 0.0f;
  for (int i = 0; i < width; ++i) size += fabsf(g[i]);
  if (size > 0.0f && size <= 3e38f)
    for (int i = 0; i < width; ++i) {
      const float slope = g[i] + a.decay * v[i];
      m1[i] = a.beta1 * m1[i] + (1.0f - a.beta1) * slope;
      m2[i] = a.beta2 * m2[i] + (1.0f - a.beta2) * slope * slope;
      v[i] -= a.lr * (m1[i] * a.inverse1) / (sqrtf(m2[i] * a.inverse2) + a.eps);
    }
  if (size != 0.0f)
    for (int i = 0; i < width; ++i) g[i] = 0.0f;
}

// A vector of values at a time, whole records of `WIDTH` (a power of two): records without a gradient keep their
// values.
template <int WIDTH>
void update_vector(const AdamRates& a, float* values, float* gradient, float* moment1, float* moment2, uint16_t* half) {
  Vec& g = *(Vec*)gradient;
  const IntVec bits = (IntVec)g & 0x7fffffff;
  if (!smerf::is_any_bit_set(bits)) return;
  // Sum of sizes within each record, in every lane of the record.
  Vec size = (Vec)bits;
  IntVec lane;
  for (int i = 0; i < kVec; ++i) lane[i] = i;
  for (int hop = 1; hop < WIDTH; hop *= 2) size += __builtin_shuffle(size, lane ^ hop);
  const IntVec moves = (size > 0.0f) & (size <= 3e38f);
  Vec &v = *(Vec*)values, &m1 = *(Vec*)moment1, &m2 = *(Vec*)moment2;
  const Vec slope = g + a.decay * v;
  const Vec first = a.beta1 * m1 + (1.0f - a.beta1) * slope, second = a.beta2 * m2 + (1.0f - a.beta2) * slope * slope;
  const Vec root = smerf::square_root(second * a.inverse2);
  const Vec value = v - a.lr * (first * a.inverse1) / (root + a.eps);
  m1 = moves ? first : m1;
  m2 = moves ? second : m2;
  v = moves ? value : v;
  g = Vec{};
#if defined(__F16C__)
  if (half)
    for (int i = 0; i < kVec; i += 8)
      _mm_storeu_si128((__m128i*)(half + i), _mm256_cvtps_ph(_mm256_loadu_ps(values + i), _MM_FROUND_TO_NEAREST_INT));
#endif
}

template <int WIDTH>
int64_t update_vectors(const AdamRates& a, float* values, float* gradient, float* moment1, float* moment2,
                       int64_t floats, uint16_t* half) {
  const int64_t vectors = floats / kVec;
#pragma omp parallel for schedule(dynamic, 4096) if (vectors > 1024)
  for (int64_t i = 0; i < vectors; ++i)
    update_vector<WIDTH>(a, values + i * kVec, gradient + i * kVec, moment1 + i * kVec, moment2 + i * kVec,
                         half ? half + i * kVec : nullptr);
  return vectors * kVec;
}

}  // namespace

// One record of `width` floats is skipped when its whole gradient is zero, or when any of it is not finite.
// decay adds decay * value to the gradient of the touched records (weight per value). half: the values in half floats,
// kept up to date for the records that move, or null (read only where smerf_reads_half says so).
SMERF_API int smerf_sparse_adam_half(float* values, float* gradient, float* moment1, float* moment2, int64_t records,
                                     int width, float lr, float beta1, float beta2, float eps, float correction1,
                                     float correction2, float decay, uint16_t* half) {
  const AdamRates a = {lr, beta1, beta2, eps, 1.0f / correction1, 1.0f / correction2, decay};
  int64_t done = 0;
  switch (width) {
    case 1: done = update_vectors<1>(a, values, gradient, moment1, moment2, records, half); break;
    case 2: done = update_vectors<2>(a, values, gradient, moment1, moment2, records * 2, half) / 2; break;
    case 4: done = update_vectors<4>(a, values, gradient, moment1, moment2, records * 4, half) / 4; break;
#if defined(__AVX2__)
    case 8: done = update_vectors<8>(a, values, gradient, moment1, moment2, records * 8, half) / 8; break;
#endif
    default: break;
  }
  for (int64_t record = done; record < records; ++record) {
    const int64_t at = record * width;
    update_record(a, values + at, gradient + at, moment1 + at, moment2 + at, width);
#if defined(__F16C__)
    for (int i = 0; half && i < width; ++i) half[at + i] = _cvtss_sh(values[at + i], _MM_FROUND_TO_NEAREST_INT);
#endif
  }
  return 0;
}

SMERF_API int smerf_sparse_adam(float* values, float* gradient, float* moment1, float* moment2, int64_t records,
                                int width, float lr, float beta1, float beta2, float eps, float correction1,
                                float correction2, float decay) {
  return smerf_sparse_adam_half(values, gradient, moment1, moment2, records, width, lr, beta1, beta2, eps, correction1,
                                correction2, decay, nullptr);
}
