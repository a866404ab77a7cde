// Drawing intervals along one ray from a histogram, by the inverse of its cumulative distribution.
#pragma once

#include "smerf/common.h"

namespace smerf {

// edges: (bins + 1) ascending in [0, 1]; weights: (bins). The density drawn from is (1 - mix) times the histogram plus
// mix times the even distribution; a histogram without weight counts as even. Sample i sits at the quantile
// (i + 0.5 + jitter) / samples; the drawn edges (samples + 1) are the midpoints between samples, reflected at the ends.
SMERF_FN void draw_intervals(const float* edges, const float* weights, int bins, int samples, float jitter, float mix,
                             float* drawn) {
  float total = 0.0f;
  for (int i = 0; i < bins; ++i) total += weights[i];
  const float share = (1.0f - mix) / fmaxf(total, 1e-8f), even = mix + (total < 1e-8f ? 1.0f : 0.0f);
  float mass = 0.0f;
  for (int i = 0; i < bins; ++i) mass += share * weights[i] + even * (edges[i + 1] - edges[i]);
  const float norm = 1.0f / mass;
  int bin = 0;
  float sum = share * weights[0] + even * (edges[1] - edges[0]);
  float low = 0.0f, high = sum * norm, before = 0.0f, last_middle = 0.0f;
  for (int i = 0; i < samples; ++i) {
    const float u = clampf(((float)i + 0.5f + jitter) / (float)samples, 1e-6f, 1.0f - 1e-6f);
    while (bin < bins - 1 && !(high > u)) {
      ++bin;
      sum += share * weights[bin] + even * (edges[bin + 1] - edges[bin]);
      low = high;
      high = sum * norm;
    }
    const float centre = edges[bin] + (u - low) / fmaxf(high - low, 1e-9f) * (edges[bin + 1] - edges[bin]);
    const float middle = 0.5f * (before + centre);
    if (i == 1) drawn[0] = clampf(2.0f * before - middle, 0.0f, 1.0f);
    if (i > 0) drawn[i] = clampf(middle, 0.0f, 1.0f);
    last_middle = middle;
    before = centre;
  }
  if (samples == 1) drawn[0] = clampf(edges[0], 0.0f, 1.0f);
  drawn[samples] = clampf(samples == 1 ? edges[bins] : 2.0f * before - last_middle, 0.0f, 1.0f);
}

}  // namespace smerf
