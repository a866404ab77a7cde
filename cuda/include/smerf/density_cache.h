// Where to place a ray's samples, from a coarse grid of densities over contracted space (a cache that the field feeds).
//
// Bins of one ray: s edges evenly spaced, shifted by `shift` of an interval; the cache is read at their midpoints
// (nearest cell); optical depth is capped at `cap` a bin, so that no ray goes blind behind a cell that holds
// something. Weights are blurred by half-and-half maxima of neighbours (mip-NeRF's resampling, arXiv 2103.13415),
// mixed with a uniform distribution and inverted. Samples: as `resample` of smerf/fields/sampling.py.
#pragma once

#include "smerf/contraction.h"
#include "smerf/spacing.h"

namespace smerf {

constexpr int kMaxBins = 256;

struct CacheSampling {
  RaySpacing spacing;
  const float* cache;  // (resolution^3) densities, x fastest
  int32_t resolution;
  int32_t bins, samples;
  float scale;  // training units to the contraction's unit cube
  float cap, mix;
};

// What is not a number goes to cell 0.
SMERF_FN int cell_index(float x, int n) { return clamp_whole(x * (float)n, 0, n - 1); }

// x in the unit cube of the grids.
SMERF_FN int cache_cell(float x0, float x1, float x2, int n) {
  return (cell_index(x2, n) * n + cell_index(x1, n)) * n + cell_index(x0, n);
}

// shift, jitter: in [-0.5, 0.5). s_edges: (samples + 1), written.
SMERF_FN void sample_ray(const CacheSampling& c, const float* origin, const float* direction, float shift, float jitter,
                         float* s_edges) {
  const int bins = c.bins;
  float t[kMaxBins + 1], depth[kMaxBins], weight[kMaxBins + 2], pdf[kMaxBins];
  int32_t cells[kMaxBins];
  const float step = 1.0f / (float)bins;
  for (int k = 0; k <= bins; ++k) {
    const float inner = ((float)k + shift) * step;
    t[k] = t_from_s(c.spacing, k == 0 ? 0.0f : (k == bins ? 1.0f : inner));
  }
  for (int k = 0; k < bins; ++k) {
    const float middle = 0.5f * (t[k] + t[k + 1]);
    const Vec3 p = {c.scale * (origin[0] + middle * direction[0]), c.scale * (origin[1] + middle * direction[1]),
                    c.scale * (origin[2] + middle * direction[2])};
    const Vec3 x = contract_flat(p, larger(1.0f, max_abs(p)));
    cells[k] = cache_cell(0.25f * (x.x + 2.0f), 0.25f * (x.y + 2.0f), 0.25f * (x.z + 2.0f), c.resolution);
  }
  for (int k = 0; k < bins; ++k) depth[k] = smaller(c.cap, c.cache[cells[k]] * (t[k + 1] - t[k]));
  float before = 0.0f;
  for (int k = 0; k < bins; ++k) {
    t[k] = before;
    before += depth[k];
  }
  for (int k = 0; k < bins; ++k) weight[k + 1] = fast_exp(-t[k]) * (1.0f - fast_exp(-depth[k]));
  weight[0] = weight[1];
  weight[bins + 1] = weight[bins];
  float total = 0.0f;
  for (int k = 0; k < bins; ++k) {
    pdf[k] = 0.5f * (larger(weight[k], weight[k + 1]) + larger(weight[k + 1], weight[k + 2]));
    total += pdf[k];
  }
  // Written so that a ray that is not a number samples evenly.
  const bool is_lit = total >= 1e-8f;
  const float gain = is_lit ? (1.0f - c.mix) / total : 0.0f, even = is_lit ? c.mix : 1.0f;
  float sum = 0.0f;
  for (int k = 0; k < bins; ++k) {
    const float width = k == 0 ? (1.0f + shift) * step : (k == bins - 1 ? (1.0f - shift) * step : step);
    pdf[k] = (is_lit ? pdf[k] * gain : 0.0f) + even * width;
    sum += pdf[k];
  }
  const int samples = c.samples;
  const float unit = sum / (float)samples;
  float low = 0.0f, previous = 0.0f, before_previous = 0.0f;
  int k = 0;
  for (int i = 0; i < samples; ++i) {
    const float u = clampf((float)i + 0.5f + jitter, 1e-6f * (float)samples, (1.0f - 1e-6f) * (float)samples) * unit;
    while (k < bins - 1 && low + pdf[k] <= u) low += pdf[k++];
    const float start = k == 0 ? 0.0f : ((float)k + shift) * step;
    const float end = k == bins - 1 ? 1.0f : ((float)(k + 1) + shift) * step;
    const float share = smaller((u - low) / larger(pdf[k], 1e-9f), 1.0f);
    const float centre = start + share * (end - start);
    if (i > 0) s_edges[i] = 0.5f * (previous + centre);
    before_previous = previous;
    previous = centre;
    if (i == 1) s_edges[0] = clampf(2.0f * before_previous - s_edges[1], 0.0f, 1.0f);
  }
  if (samples > 1) {
    s_edges[samples] = clampf(2.0f * previous - s_edges[samples - 1], 0.0f, 1.0f);
  } else {
    s_edges[0] = 0.0f;
    s_edges[1] = 1.0f;
  }
}

}  // namespace smerf
