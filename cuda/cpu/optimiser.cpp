// Adam that touches only the entries with a gradient (sparse tables), and clears the gradient behind it.
#include <math.h>

#include "smerf/common.h"

// One record of `width` floats is skipped when its whole gradient is zero, or when any of it is not finite.
// decay adds decay * value to the gradient of the touched records (weight per value).
SMERF_API int smerf_sparse_adam(float* values, float* gradient, float* moment1, float* moment2, int64_t records,
                                int width, float lr, float beta1, float beta2, float eps, float correction1,
                                float correction2, float decay) {
  const float inv1 = 1.0f / correction1, inv2 = 1.0f / correction2;
#pragma omp parallel for schedule(dynamic, 16384) if (records > 4096)
  for (int64_t record = 0; record < records; ++record) {
    float* g = gradient + record * width;
    float size = 0.0f;
    for (int i = 0; i < width; ++i) size += fabsf(g[i]);
    if (!(size > 0.0f && size <= 3e38f)) {
      if (size != 0.0f)
        for (int i = 0; i < width; ++i) g[i] = 0.0f;
      continue;
    }
    float *v = values + record * width, *m1 = moment1 + record * width, *m2 = moment2 + record * width;
    for (int i = 0; i < width; ++i) {
      const float slope = g[i] + decay * v[i];
      m1[i] = beta1 * m1[i] + (1.0f - beta1) * slope;
      m2[i] = beta2 * m2[i] + (1.0f - beta2) * slope * slope;
      v[i] -= lr * (m1[i] * inv1) / (sqrtf(m2[i] * inv2) + eps);
      g[i] = 0.0f;
    }
  }
  return 0;
}
