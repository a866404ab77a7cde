// Direction encodings on CPUs.
#include "smerf/directions.h"

// directions: (count, 3); out: (count, 16 or 27) by kind.
SMERF_API int smerf_encode_directions_forward(int kind, const float* directions, int64_t count, float* out) {
#pragma omp parallel for schedule(static) if (count > 4096)
  for (int64_t i = 0; i < count; ++i) {
    if (kind == smerf::kSpherical)
      smerf::spherical_harmonics(directions + 3 * i, out + 16 * i);
    else
      smerf::sinusoids(directions + 3 * i, out + 27 * i);
  }
  return 0;
}

// upstream: (count, 16 or 27); gradient: (count, 3), written.
SMERF_API int smerf_encode_directions_backward(int kind, const float* directions, int64_t count, const float* upstream,
                                               float* gradient) {
#pragma omp parallel for schedule(static) if (count > 4096)
  for (int64_t i = 0; i < count; ++i) {
    if (kind == smerf::kSpherical)
      smerf::spherical_harmonics_backward(directions + 3 * i, upstream + 16 * i, gradient + 3 * i);
    else
      smerf::sinusoids_backward(directions + 3 * i, upstream + 27 * i, gradient + 3 * i);
  }
  return 0;
}
