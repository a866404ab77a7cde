// Encodings of unit view directions, and their gradients.
#pragma once

#include "smerf/common.h"

namespace smerf {

enum DirectionKind { kSpherical = 0, kSinusoidal = 1 };

SMERF_FN int direction_width(int kind) { return kind == kSpherical ? 16 : 27; }

// Real spherical harmonics of degree 0 to 3.
SMERF_FN void spherical_harmonics(const float* d, float* out) {
  const float x = d[0], y = d[1], z = d[2];
  const float xx = x * x, yy = y * y, zz = z * z;
  out[0] = 0.28209479f;
  out[1] = -0.48860251f * y;
  out[2] = 0.48860251f * z;
  out[3] = -0.48860251f * x;
  out[4] = 1.09254843f * x * y;
  out[5] = -1.09254843f * y * z;
  out[6] = 0.94617470f * zz - 0.31539157f;
  out[7] = -1.09254843f * x * z;
  out[8] = 0.54627421f * (xx - yy);
  out[9] = 0.59004359f * y * (yy - 3.0f * xx);
  out[10] = 2.89061144f * x * y * z;
  out[11] = 0.45704580f * y * (1.0f - 5.0f * zz);
  out[12] = 0.37317633f * z * (5.0f * zz - 3.0f);
  out[13] = 0.45704580f * x * (1.0f - 5.0f * zz);
  out[14] = 1.44530572f * z * (xx - yy);
  out[15] = 0.59004359f * x * (3.0f * yy - xx);
}

SMERF_FN void spherical_harmonics_backward(const float* d, const float* up, float* gradient) {
  const float x = d[0], y = d[1], z = d[2];
  const float xx = x * x, yy = y * y, zz = z * z;
  gradient[0] = -0.48860251f * up[3] + 1.09254843f * (y * up[4] - z * up[7] + x * up[8]) - 3.54026154f * x * y * up[9] +
                2.89061144f * (y * z * up[10] + x * z * up[14]) + 0.45704580f * (1.0f - 5.0f * zz) * up[13] +
                1.77013077f * (yy - xx) * up[15];
  gradient[1] = -0.48860251f * up[1] + 1.09254843f * (x * up[4] - z * up[5] - y * up[8]) +
                1.77013077f * (yy - xx) * up[9] + 2.89061144f * (x * z * up[10] - y * z * up[14]) +
                0.45704580f * (1.0f - 5.0f * zz) * up[11] + 3.54026154f * x * y * up[15];
  gradient[2] = 0.48860251f * up[2] - 1.09254843f * (y * up[5] + x * up[7]) + 1.89234940f * z * up[6] +
                2.89061144f * x * y * up[10] - 4.57045800f * z * (y * up[11] + x * up[13]) +
                0.37317633f * (15.0f * zz - 3.0f) * up[12] + 1.44530572f * (xx - yy) * up[14];
}

// The direction itself, then sine and cosine of it at the frequencies 1, 2, 4, 8: 3 + 4 * 6 values.
SMERF_FN void sinusoids(const float* d, float* out) {
  for (int axis = 0; axis < 3; ++axis) {
    out[axis] = d[axis];
    for (int k = 0; k < 4; ++k) {
      const float angle = d[axis] * (float)(1 << k);
      out[3 + 6 * k + axis] = sinf(angle);
      out[6 + 6 * k + axis] = cosf(angle);
    }
  }
}

SMERF_FN void sinusoids_backward(const float* d, const float* up, float* gradient) {
  for (int axis = 0; axis < 3; ++axis) {
    float total = up[axis];
    for (int k = 0; k < 4; ++k) {
      const float frequency = (float)(1 << k), angle = d[axis] * frequency;
      total += frequency * (cosf(angle) * up[3 + 6 * k + axis] - sinf(angle) * up[6 + 6 * k + axis]);
    }
    gradient[axis] = total;
  }
}

}  // namespace smerf
