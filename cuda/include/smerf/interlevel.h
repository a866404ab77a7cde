// Zip-NeRF's anti-aliased proposal loss along one ray (arXiv 2304.06706, section 3.2).
//
// The final histogram's density, blurred with a box of half-width b, is integrated over each proposal bin. With C the
// cumulative weight and I its integral, the blurred cumulative weight at z is (I(z + b) - I(z - b)) / (2 b): no knots
// need sorting. I is summed in double precision because b is small.
#pragma once

#include "smerf/common.h"

namespace smerf {

// Reads I(x) for ascending x in one walk over the histogram.
struct HistogramWalk {
  const float* edges;    // (bins + 1) ascending
  const float* weights;  // (bins)
  int bins;
  int bin;          // the interval that holds x, or -1 before the first edge, or bins behind the last
  double mass;      // C at the start of the bin
  double integral;  // I there
};

SMERF_FN HistogramWalk walk_histogram(const float* edges, const float* weights, int bins) {
  return {edges, weights, bins, -1, 0.0, 0.0};
}

SMERF_FN double integral_at(HistogramWalk& walk, double x) {
  while (walk.bin < walk.bins && (double)walk.edges[walk.bin + 1] <= x) {
    if (walk.bin >= 0) {
      const double width = (double)walk.edges[walk.bin + 1] - (double)walk.edges[walk.bin];
      const double weight = width > 0.0 ? (double)walk.weights[walk.bin] : 0.0;
      walk.integral += width * (walk.mass + 0.5 * weight);
      walk.mass += weight;
    }
    ++walk.bin;
  }
  if (walk.bin < 0) return 0.0;
  const double into = x - (double)walk.edges[walk.bin];
  if (walk.bin == walk.bins) return walk.integral + walk.mass * into;
  const double width = (double)walk.edges[walk.bin + 1] - (double)walk.edges[walk.bin];
  return walk.integral + into * (walk.mass + 0.5 * (double)walk.weights[walk.bin] * into / width);
}

// edges: (samples + 1), weights: (samples): the final histogram. outer_edges: (bins + 1), outer_weights: (bins): the
// proposal's. Returns sum_j max(0, blurred_j - q_j)^2 / (q_j + 1e-7) and writes its gradient with respect to q (bins).
SMERF_FN float blurred_interlevel_ray(const float* edges, const float* weights, int samples, const float* outer_edges,
                                      const float* outer_weights, int bins, float half_width, float* gradient) {
  HistogramWalk ahead = walk_histogram(edges, weights, samples), behind = walk_histogram(edges, weights, samples);
  const double b = (double)half_width;
  double previous = 0.0, loss = 0.0;
  for (int j = 0; j <= bins; ++j) {
    const double z = (double)outer_edges[j];
    const double cumulative = (integral_at(ahead, z + b) - integral_at(behind, z - b)) / (2.0 * b);
    if (j > 0) {
      const double q = (double)outer_weights[j - 1], missing = cumulative - previous - q;
      const double ratio = missing > 0.0 ? missing / (q + 1e-7) : 0.0;
      loss += missing > 0.0 ? missing * ratio : 0.0;
      gradient[j - 1] = (float)(-ratio * (2.0 + ratio));
    }
    previous = cumulative;
  }
  return (float)loss;
}

}  // namespace smerf
