// The colour of a pixel from the blended channels of its ray: one small network, once a pixel. Mirrors
// smerf/render/reference.py. Source: SMERF (arXiv 2312.07541), section 4.
#pragma once

#include "smerf/appearance.h"
#include "smerf/march.h"

namespace smerf {

constexpr int kMarchMaxHidden = 64;

// One layer of the appearance network: y = x W + b; kOut is the width, or 0 where it is only known at run time.
template <int kOut>
SMERF_FN void dense_layer(const float* x, int in, const float* kernel, const float* bias, int out, float* y) {
  const int width = kOut ? kOut : out;
  for (int j = 0; j < width; ++j) y[j] = bias[j];
  for (int i = 0; i < in; ++i)
    for (int j = 0; j < width; ++j) y[j] += x[i] * kernel[i * width + j];
}

SMERF_FN void activate(float* x, int count, int is_relu) {
  for (int j = 0; j < count; ++j) x[j] = x[j] >= 0.0f ? x[j] : (is_relu ? 0.0f : fast_exp(x[j]) - 1.0f);
}

template <int kHidden>
SMERF_FN void run_network(const MarchScene& m, const float* x, int in, float* rgb) {
  float a[kHidden ? kHidden : kMarchMaxHidden], b[kHidden ? kHidden : kMarchMaxHidden];
  const int first = kHidden ? kHidden : m.hidden[0], second = kHidden ? kHidden : m.hidden[1];
  dense_layer<kHidden>(x, in, m.kernels[0], m.biases[0], first, a);
  activate(a, first, m.is_relu);
  dense_layer<kHidden>(a, first, m.kernels[1], m.biases[1], second, b);
  activate(b, second, m.is_relu);
  dense_layer<3>(b, second, m.kernels[2], m.biases[2], 3, rgb);
  for (int c = 0; c < 3; ++c) rgb[c] = sigmoid_of(rgb[c]);
}

// The unit view direction in training axes.
SMERF_FN Vec3 view_direction(const Vec3& d) {
  const float inv = 1.0f / sqrtf(d.x * d.x + d.y * d.y + d.z * d.z);
  return {-d.x * inv, d.z * inv, d.y * inv};
}

// Writes the view direction, then sin and cos of its first four octaves.
SMERF_FN void encode_view(const Vec3& d, float* x) {
  const Vec3 view = view_direction(d);
  const float v[3] = {view.x, view.y, view.z};
  for (int c = 0; c < 3; ++c) encode_axis(v[c], c, x);
}

// A channel of what unknown places fade into, by how far up a unit direction points.
SMERF_FN float calm_colour(const MarchScene& m, int c, float up) {
  const float ahead = m.unknown_colours[c], steep = fabsf(up) * (2.0f - fabsf(up));
  return ahead + steep * (m.unknown_colours[(up > 0.0f ? 3 : 6) + c] - ahead);
}

// Colour of a pixel, not clamped.
SMERF_FN void shade(const MarchScene& m, const MarchResult& r, const Vec3& d, float* rgb) {
  float x[kAppearanceInputs];
  int in = 7;
  for (int c = 0; c < 7; ++c) x[c] = lane(r.fine, c + 1);
  if (m.has_coarse)
    for (int c = 0; c < 7; ++c) x[in++] = lane(r.coarse, c + 1);
  float shown[3];
  for (int c = 0; c < 3; ++c) {
    const float backdrop = r.visibility * m.background[c];
    shown[c] = m.is_vfr ? backdrop : x[c];
    if (!m.is_vfr) x[c] += backdrop;
  }
  if (m.is_exposed)
    for (int c = 0; c < in; ++c) x[c] = expose(x[c], m.log_exposure);
  encode_view(d, x + in);
  in += kViewInputs;
  if (m.hidden[0] == 16 && m.hidden[1] == 16)
    run_network<16>(m, x, in, rgb);
  else
    run_network<0>(m, x, in, rgb);
  for (int c = 0; c < 3; ++c) rgb[c] += shown[c];
  if (m.object_ids)
    for (int c = 0; c < 3; ++c) rgb[c] = light_up(rgb[c], c, r.lit);
  if (m.known)
    for (int c = 0; c < 3; ++c) rgb[c] += r.unknown * (calm_colour(m, c, view_direction(d).z) - rgb[c]);
}

}  // namespace smerf
