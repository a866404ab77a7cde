// One ray of the student: the samples that the grids hold along it, and the way back through compositing.
#pragma once

#include "smerf/grid.h"

namespace smerf {

constexpr int kFeatures = 14;     // seven gated ("fine") and seven voxel ("coarse") channels
constexpr int kMaxSamples = 256;  // intervals of one ray

// What the backward pass needs of a sample.
struct Sample : GridSample {
  int index;
  Lanes8 fine, coarse;  // activated; lane 0 is unused
  float weight;
};

struct SampleGradient {
  Vec3 s;
  Lanes8 v, t;
};

// Evaluates one ray. weights must be zeroed; fine and coarse are added to; returns the number of samples kept.
inline int trace(const GridView& grid, const float* o, const float* d, const float* edges, int samples, float tau,
                 float step, Lanes8* fine, Lanes8* coarse, float* weights, Sample* kept) {
  float light = 1.0f;
  int count = 0;
  const float least = least_depth(tau);
  for (int i = 0; i < samples && light > kOpaque; ++i) {
    Sample& sample = kept[count];
    Stencil stencil;
    if (!sample_interval(grid, o, d, edges[i], edges[i + 1], least, step, &stencil, &sample)) continue;
    sample.weight = light * sample.alpha;
    sample.index = i;
    light *= 1.0f - sample.alpha;
    sample.fine = sigmoid(sample.merged);
    sample.coarse = sigmoid(sample.v);
    *fine += sample.weight * sample.fine;
    *coarse += sample.weight * sample.coarse;
    weights[i] = sample.weight;
    ++count;
  }
  return count;
}

// Turns the gradients of a ray's features and weights into gradients of its samples' grid values: out[0 .. count - 1].
inline void differentiate(const Sample* kept, int count, const Lanes8& up_fine, const Lanes8& up_coarse,
                          const float* up_weights, SampleGradient* out) {
  float after = 0.0f;  // sum of gradient * weight over later samples
  float light_after[kMaxSamples + 1];
  float light = 1.0f;
  for (int i = 0; i < count; ++i) light_after[i] = light = light * fast_exp(-kept[i].depth);
  for (int i = count - 1; i >= 0; --i) {
    const Sample& sample = kept[i];
    out[i].s = sample.s;
    const float up = up_weights[sample.index] + sum_features(up_fine * sample.fine + up_coarse * sample.coarse);
    const float density = (up * light_after[i] - after) * sample.depth;
    after += up * sample.weight;
    differentiate_values(sample.v, sample.t, sample.fine, sample.coarse, sample.weight, up_fine, up_coarse, density,
                         &out[i].v, &out[i].t);
  }
}

inline Lanes8 feature_lanes(const float* features) {
  return Lanes8{0.0f,        features[0], features[1], features[2], features[3], features[4], features[5], features[6]};
}

}  // namespace smerf
