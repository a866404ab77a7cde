// Adam on one vertex of the student's grids, and the byte that it is then.
//
// A vertex is one cache line: the logits and both moments, these in half floats, the second as its root (whose relative
// change a step, half a percent, half floats resolve ten times over).
#pragma once

#include "smerf/half.h"
#include "smerf/student.h"

namespace smerf {

// A vertex whose bytes are given, moments at zero.
SMERF_FN void start_vertex(const uint8_t* bytes, Vertex* vertex) {
  for (int c = 0; c < kChannels; ++c) {
    vertex->z[c] = 0.0f;
    vertex->first[c] = vertex->root[c] = 0;
    if (bytes[c] == 128) continue;  // the byte of zero
    const float share = clampf((float)bytes[c], 0.25f, 254.75f) * (1.0f / 255.0f);
    vertex->z[c] = logf(share / (1.0f - share));
  }
}

// One step of a vertex whose dequantised values have the given gradient; one that is not finite is passed over.
SMERF_FN void adam_step(Vertex& vertex, uint8_t* bytes, const Lanes8& gradient, const Lanes8& range,
                        const AdamStep& a) {
  constexpr float kMostHalf = 6e4f;
  const Lanes8 z = load_lanes(vertex.z), u = sigmoid(z);
  const Lanes8 slope = gradient * range * u * (1.0f - u);
  float size = 0.0f;
  for (int c = 0; c < kChannels; ++c) size += fabsf(lane(slope, c));
  if (!(size <= kMostHalf)) return;
  const Lanes8 before = from_half(vertex.root);
  const Lanes8 first = a.beta1 * from_half(vertex.first) + (1.0f - a.beta1) * slope;
  const Lanes8 root = root_of(a.beta2 * before * before + (1.0f - a.beta2) * slope * slope);
  to_half(first, vertex.first);
  to_half(root, vertex.root);
  const Lanes8 next = z - (a.lr / a.correction1) * first / (root * (1.0f / sqrtf(a.correction2)) + a.eps);
  store_lanes(next, vertex.z);
  const Lanes8 quantised = 255.0f * sigmoid(next);
  for (int c = 0; c < kChannels; ++c) bytes[c] = (uint8_t)lrintf(lane(quantised, c));
}

}  // namespace smerf
