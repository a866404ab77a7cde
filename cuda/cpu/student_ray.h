// One ray of the student: the samples that the grids hold along it, and the way back through compositing.
#pragma once

#include "smerf/grid.h"
#include "smerf/student.h"

namespace smerf {

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

constexpr int kAhead = 4;  // intervals whose values are on their way while one is read

inline void prefetch(const GridView& grid, const Stencil& stencil) {
  for (int corner = 0; corner < 8; corner += 2)  // two voxels along the last axis share a line, or nearly so
    if (stencil.voxel[corner] >= 0) __builtin_prefetch(grid.voxels + stencil.voxel[corner] * kChannels);
  for (int corner = 0; corner < 12; corner += 2) __builtin_prefetch(grid.planes + stencil.texel[corner] * kChannels);
}

// Evaluates one ray. weights must be zeroed; fine and coarse are added to; returns the number of samples kept.
inline int trace(const GridView& grid, const float* o, const float* d, const float* edges, int samples, float tau,
                 float step, Lanes8* fine, Lanes8* coarse, float* weights, Sample* kept) {
  GridInterval intervals[kAhead];
  bool placed[kAhead];
  float light = 1.0f;
  int count = 0;
  const float least = least_depth(tau);
  for (int i = -kAhead; i < samples && light > kOpaque; ++i) {
    const int ahead = i + kAhead;
    GridInterval& interval = intervals[ahead % kAhead];
    Sample& sample = kept[count];
    const bool is_there = i >= 0 && placed[ahead % kAhead] && read_interval(grid, interval, least, &sample);
    if (ahead < samples) {
      placed[ahead % kAhead] = place_interval(grid, o, d, edges[ahead], edges[ahead + 1], step, &interval);
      if (placed[ahead % kAhead]) prefetch(grid, interval.stencil);
    }
    if (!is_there) continue;
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
  float light_after[kMaxStudentSamples + 1];
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
  return Lanes8{0.0f, features[0], features[1], features[2], features[3], features[4], features[5], features[6]};
}

}  // namespace smerf
