// A group of rays through the teacher: samples, activations and gradients stay in the cache of one core.
//
// A group is evaluated front to back, a few samples at a time: a ray that no light is left on stops. Colours are
// evaluated where the weight counts, and gradients flow where they count.
#pragma once

#include <math.h>

#include <algorithm>
#include <vector>

#include "hash_tile.h"
#include "radiance_tile.h"
#include "smerf/density_cache.h"
#include "smerf/teacher_ray.h"

namespace smerf {

constexpr int kGroupRays = 16;

template <int F>
class RayGroup {
 public:
  RayGroup(const TeacherField& field, const RadianceNets& nets, int samples)
      : field_(field), nets_(nets), samples_(samples), room_(kGroupRays * samples) {
    const size_t rows = room_ + smerf::kGroup;
    for (auto& axis : x_) axis.assign(rows, 0.0f);
    footprint_.assign(rows, -1.0f);
    for (auto& axis : point_) axis.assign(rows, 0.0f);
    radius_.assign(rows, 0.0f);
    cell_.assign(rows, 0);
    row_cell_.assign(rows, 0);
    features_.assign(rows * nets.features(), 0.0f);
    hidden_.assign(rows * nets.density(), 0.0f);
    geometry_.assign(rows * nets.geometry(), 0.0f);
    live_geometry_.assign(rows * nets.geometry(), 0.0f);
    live_hidden_.assign(rows * nets.colour(), 0.0f);
    back_features_.assign(rows * nets.features(), 0.0f);
    back_hidden_.assign(rows * nets.density(), 0.0f);
    back_geometry_.assign(rows * nets.geometry(), 0.0f);
    back_grad_hidden_.assign(rows * nets.density(), 0.0f);
    logits_.assign(rows * 3, 0.0f);
    grad_logits_.assign(rows * 3, 0.0f);
    row_.assign(room_, -1);
    live_.assign(room_, -1);
    bias_.assign((size_t)kGroupRays * nets.colour(), 0.0f);
    grad_bias_.assign((size_t)kGroupRays * nets.colour(), 0.0f);
  }

  // Evaluates densities, weights and colours. weights: (count, S); t_edges: (count, S + 1); both written.
  void forward(const TeacherRays& rays, int64_t first, int count, float* t_edges, float* weights) {
    first_ = first;
    count_ = count;
    evaluated_ = 0;
    const int samples = samples_;
    int alive[kGroupRays], alive_count = count;
    float depth[kGroupRays];
    for (int r = 0; r < count; ++r) {
      const float* s = rays.s_edges + (first + r) * (samples + 1);
      float* t = t_edges + (int64_t)r * (samples + 1);
      for (int i = 0; i <= samples; ++i) t[i] = t_from_s(field_.spacing, s[i]);
      std::fill(row_.begin() + r * samples, row_.begin() + (r + 1) * samples, -1);
      std::fill(depth_ + r * samples, depth_ + (r + 1) * samples, 0.0f);
      locate(rays, r, t);
      alive[r] = r;
      depth[r] = 0.0f;
    }
    const float most = most_depth(field_);
    for (int start = 0; start < samples && alive_count; start += kSlice) {
      const int end = std::min(samples, start + kSlice), begin = evaluated_;
      for (int a = 0; a < alive_count; ++a)
        for (int i = start; i < end; ++i) place(rays, alive[a], i, t_edges + (int64_t)alive[a] * (samples + 1));
      const int rows = evaluated_ - begin;
      if (!rows) continue;
      encode(begin, rows);
      nets_.density_forward(features_.data() + (int64_t)begin * nets_.features(), rows,
                            hidden_.data() + (int64_t)begin * nets_.density(),
                            geometry_.data() + (int64_t)begin * nets_.geometry());
      int left = 0;
      for (int a = 0; a < alive_count; ++a) {
        const int r = alive[a];
        const float* t = t_edges + (int64_t)r * (samples + 1);
        for (int i = start; i < end; ++i) {
          const int row = row_[r * samples + i];
          if (row < 0) continue;
          density_[row] = density_of(geometry_[(int64_t)row * nets_.geometry()]);
          depth_[r * samples + i] = density_[row] * (t[i + 1] - t[i]);
          depth[r] += depth_[r * samples + i];
        }
        if (!(depth[r] > most)) alive[left++] = r;
      }
      alive_count = left;
    }
    live_count_ = 0;
    for (int r = 0; r < count; ++r) {
      float* w = weights + (int64_t)r * samples;
      composite_weights(depth_ + r * samples, samples, w);
      float encoding[kDirections];
      smerf::spherical_harmonics(rays.directions + 3 * (first + r), encoding);
      float* bias = bias_.data() + (size_t)r * nets_.colour();
      nets_.direction_bias(encoding, bias);
      for (int i = 0; i < samples; ++i) {
        const int row = row_[r * samples + i];
        // Not "w < min": what is not a number stays visible in the colour.
        if (row < 0 || w[i] < field_.min_weight) {
          if (row >= 0 && field_.min_weight > 0.0f) w[i] = 0.0f;
          live_[r * samples + i] = -1;
          continue;
        }
        live_[r * samples + i] = live_count_;
        memcpy(live_geometry_.data() + (int64_t)live_count_ * nets_.geometry(),
               geometry_.data() + (int64_t)row * nets_.geometry(), sizeof(float) * nets_.geometry());
        memcpy(live_hidden_.data() + (int64_t)live_count_ * nets_.colour(), bias, sizeof(float) * nets_.colour());
        ++live_count_;
      }
    }
    nets_.colour_forward(live_geometry_.data(), live_count_, live_hidden_.data(), logits_.data());
    for (int i = 0; i < 3 * live_count_; ++i) logits_[i] = 1.0f / (1.0f + fast_exp(-logits_[i]));
  }

  // colour: (3), over black.
  void composite(int r, const float* weights, float* colour) const {
    composite_colour(weights, samples_, colours_of(r), colour);
  }

  void backward(const TeacherRays& rays, const TeacherTarget& target, const float* t_edges, const float* weights,
                RadianceWeights& total, const TeacherTrace& trace) {
    const int samples = samples_, group = (int)(first_ / kGroupRays);
    const float share = 1.0f / (float)rays.rays;
    for (int r = 0; r < count_; ++r) {
      const int64_t ray = first_ + r;
      const float *w = weights + (int64_t)r * samples, *t = t_edges + (int64_t)r * (samples + 1);
      float slope[3], grad_depth[kMaxTeacherSamples];
      compare_ray(target, ray, samples, share, t, w, depth_ + r * samples, colours_of(r),
                  trace.losses + kTeacherLosses * ray, slope, grad_depth);
      const float* s = rays.s_edges + ray * (samples + 1);
      for (int i = 0; i < samples; ++i) {
        const int row = row_[r * samples + i], live = live_[r * samples + i];
        if (row < 0) continue;
        const float scale = near_share(target, field_.spacing, s[i], s[i + 1]);
        grad_raw_[row] = scale * grad_depth[i] * (t[i + 1] - t[i]) * density_slope(density_[row]);
        live_of_[row] = live;
        if (live < 0) continue;
        for (int c = 0; c < 3; ++c) {
          const float value = logits_[3 * live + c];
          grad_logits_[3 * live + c] = scale * w[i] * slope[c] * value * (1.0f - value);
        }
      }
    }
    float* grad_live = back_features_.data();  // not in use yet
    nets_.colour_backward(live_geometry_.data(), live_count_, grad_logits_.data(), live_hidden_.data(), total,
                          grad_live);
    sum_directions(rays, total);
    // Rows whose gradient counts, compacted.
    int kept = 0;
    const int g = nets_.geometry(), d = nets_.density(), f = nets_.features();
    const float least = target.min_gradient * share;
    for (int row = 0; row < evaluated_; ++row) {
      const int live = live_of_[row];
      if (live < 0 && !(fabsf(grad_raw_[row]) > least)) continue;
      float* up = back_geometry_.data() + (int64_t)kept * g;
      if (live >= 0)
        memcpy(up, grad_live + (int64_t)live * g, sizeof(float) * g);
      else
        std::fill(up, up + g, 0.0f);
      up[0] += grad_raw_[row];
      memcpy(back_hidden_.data() + (int64_t)kept * d, hidden_.data() + (int64_t)row * d, sizeof(float) * d);
      kept_row_[kept++] = row;
    }
    for (int k = 0; k < kept; ++k)
      memcpy(back_features_.data() + (int64_t)k * f, features_.data() + (int64_t)kept_row_[k] * f, sizeof(float) * f);
    float* out = trace.feature_gradient + (int64_t)group * room_ * f;
    nets_.density_backward(back_features_.data(), kept, back_geometry_.data(), back_hidden_.data(),
                           back_grad_hidden_.data(), total, out);
    float* points = trace.points + (int64_t)group * 4 * room_;
    for (int axis = 0; axis < 3; ++axis)
      for (int k = 0; k < kept; ++k) points[axis * room_ + k] = x_[axis][kept_row_[k]];
    for (int k = 0; k < kept; ++k) points[3 * room_ + k] = footprint_[kept_row_[k]];
    // Groups are read in whole vectors.
    for (int k = kept; k < room_ && k % smerf::kGroup; ++k)
      for (int axis = 0; axis < 4; ++axis) points[axis * room_ + k] = axis == 3 ? -1.0f : 0.5f;
    trace.counts[2 * group] = kept;
    trace.counts[2 * group + 1] = evaluated_;
    if (trace.cells)
      for (int row = 0; row < evaluated_; ++row) {
        trace.cells[(int64_t)group * room_ + row] = row_cell_[row];
        trace.densities[(int64_t)group * room_ + row] = density_[row];
      }
  }

 private:
  // The colours of a ray's samples, where they have one.
  auto colours_of(int r) const {
    const int* live = live_.data() + r * samples_;
    const float* colours = logits_.data();
    return [=](int i) { return live[i] < 0 ? nullptr : colours + 3 * live[i]; };
  }

  // Points, footprints and cache cells of all samples of a ray; loops without branches, so that they vectorise.
  void locate(const TeacherRays& rays, int r, const float* t) {
    const int64_t ray = first_ + r;
    const float *o = rays.origins + 3 * ray, *d = rays.directions + 3 * ray, scale = field_.scale;
    const float spread = 0.125f * scale * rays.radii[ray];
    const int n = field_.cache_resolution, first = r * samples_;
    float* const point[3] = {point_[0].data() + first, point_[1].data() + first, point_[2].data() + first};
    for (int i = 0; i < samples_; ++i) {
      const float middle = 0.5f * (t[i] + t[i + 1]);
      const float x = scale * (o[0] + middle * d[0]), y = scale * (o[1] + middle * d[1]),
                  z = scale * (o[2] + middle * d[2]);
      // contract_flat() of contraction.h, written out: through the call the compiler rounds otherwise.
      const float ax = fabsf(x), ay = fabsf(y), az = fabsf(z);
      const float m = larger(1.0f, larger(ax, larger(ay, az))), inv = 1.0f / m, pull = 2.0f - inv;
      const bool is_x = ax >= ay && ax >= az, is_y = !is_x && ay >= az;
      point[0][i] = 0.25f * (x * inv * (is_x && m > 1.0f ? pull : 1.0f) + 2.0f);
      point[1][i] = 0.25f * (y * inv * (is_y && m > 1.0f ? pull : 1.0f) + 2.0f);
      point[2][i] = 0.25f * (z * inv * (!is_x && !is_y && m > 1.0f ? pull : 1.0f) + 2.0f);
      const float root = inverse_cube_root(m), root2 = root * root;
      radius_[first + i] = spread * middle * (m > 1.0f ? root2 * root2 : 1.0f);
    }
    for (int i = 0; i < samples_; ++i) {
      const float x = point[0][i], y = point[1][i], z = point[2][i];
      const bool valid = x == x && y == y && z == z;
      point[0][i] = valid ? clampf(x, 0.0f, 1.0f) : 0.5f;
      point[1][i] = valid ? clampf(y, 0.0f, 1.0f) : 0.5f;
      point[2][i] = valid ? clampf(z, 0.0f, 1.0f) : 0.5f;
      radius_[first + i] = valid ? radius_[first + i] : -1.0f;
    }
    if (!n) return;
    for (int i = 0; i < samples_; ++i) cell_[first + i] = cache_cell(point[0][i], point[1][i], point[2][i], n);
    if (field_.cache)
      for (int i = 0; i < samples_; ++i) __builtin_prefetch(field_.cache + cell_[first + i]);
  }

  void place(const TeacherRays& rays, int r, int i, const float* t) {
    const int at = r * samples_ + i;
    if (field_.cache && field_.cache[cell_[at]] * (t[i + 1] - t[i]) < field_.min_depth &&
        !rechecks(field_, (uint32_t)((first_ + r) * samples_ + i)))
      return;
    const int row = evaluated_++;
    for (int axis = 0; axis < 3; ++axis) x_[axis][row] = point_[axis][at];
    footprint_[row] = radius_[at];
    row_cell_[row] = cell_[at];
    row_[at] = row;
  }

  void encode(int begin, int rows) {
    for (int k = begin + rows; k % smerf::kGroup; ++k) {  // readable up to a whole vector
      for (auto& axis : x_) axis[k] = 0.5f;
      footprint_[k] = -1.0f;
    }
    const PointArrays x = {{x_[0].data() + begin, x_[1].data() + begin, x_[2].data() + begin},
                           footprint_.data() + begin};
    for (int l = 0; l < field_.level_count; ++l) {
      const HashLevel& level = field_.levels[l];
      float* out = features_.data() + (int64_t)begin * nets_.features() + l * F;
#if defined(__F16C__)
      if (field_.half_table) {
        read_level<F>(level, field_.half_table + level.offset * F, x, rows, out, nets_.features());
        continue;
      }
#endif
      read_level<F>(level, field_.table + level.offset * F, x, rows, out, nets_.features());
    }
  }

  // The directions' gradients: the hidden layer's, summed over each ray.
  void sum_directions(const TeacherRays& rays, RadianceWeights& total) {
    const int c = nets_.colour();
    for (int r = 0; r < count_; ++r) {
      float* sum = grad_bias_.data();
      std::fill(sum, sum + c, 0.0f);
      bool is_lit = false;
      for (int i = 0; i < samples_; ++i) {
        const int live = live_[r * samples_ + i];
        if (live < 0) continue;
        is_lit = true;
        const float* row = live_hidden_.data() + (int64_t)live * c;
        for (int k = 0; k < c; ++k) sum[k] += row[k];
      }
      if (!is_lit) continue;
      float encoding[kDirections];
      smerf::spherical_harmonics(rays.directions + 3 * (first_ + r), encoding);
      nets_.direction_backward(encoding, sum, total);
    }
  }

  const TeacherField& field_;
  const RadianceNets& nets_;
  const int samples_, room_;
  int64_t first_ = 0;
  int count_ = 0, evaluated_ = 0, live_count_ = 0;
  std::vector<float> x_[3], footprint_, features_, hidden_, geometry_, live_geometry_, live_hidden_, back_features_,
      back_hidden_, back_geometry_, back_grad_hidden_, logits_, grad_logits_, bias_, grad_bias_;
  std::vector<float> point_[3], radius_;
  std::vector<int> row_, live_, cell_, row_cell_;
  float depth_[kGroupRays * kMaxTeacherSamples], density_[kGroupRays * kMaxTeacherSamples],
      grad_raw_[kGroupRays * kMaxTeacherSamples];
  int live_of_[kGroupRays * kMaxTeacherSamples], kept_row_[kGroupRays * kMaxTeacherSamples];
};

}  // namespace smerf
