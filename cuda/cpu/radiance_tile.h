// The radiance field's two networks on rows that stay in cache: features -> density, then colour where it counts.
//
// Density net: features -> width (ReLU) -> geometry, whose output 0 is the raw density. Colour net: geometry and the
// ray's direction encoding -> width (ReLU) -> three logits. The directions' share of the first colour layer is the same
// for all samples of a ray, so it is computed once a ray, as a bias. Flat parameters as in mlp_tile.h.
#pragma once

#include <string.h>

#include <vector>

#include "gemm.h"
#include "smerf/directions.h"
#include "smerf/lanes.h"
#include "smerf/teacher.h"

namespace smerf {

// Weights (or their gradients) of both networks, padded to the vector length; output weights are stored by colour.
struct RadianceWeights {
  std::vector<float> in, in_bias, hidden, hidden_bias, geometry, directions, colour_bias, out;
  float out_bias[3] = {0.0f, 0.0f, 0.0f};
};

class RadianceNets {
 public:
  RadianceNets(const RadianceWidths& w, const float* density_params, const float* colour_params)
      : w_(w), f_(pad_to_lane(w.features)), d_(pad_to_lane(w.density)), g_(pad_to_lane(w.geometry)),
        c_(pad_to_lane(w.colour)) {
    weights_ = blank();
    unpack(density_params, colour_params, weights_, [](float& mine, const float& flat) { mine = flat; });
    in_t_ = transpose(weights_.in, w.features, d_, w.density, f_);
    hidden_t_ = transpose(weights_.hidden, w.density, g_, w.geometry, d_);
    geometry_t_ = transpose(weights_.geometry, w.geometry, c_, w.colour, g_);
  }

  int features() const { return f_; }
  int density() const { return d_; }
  int geometry() const { return g_; }
  int colour() const { return c_; }

  RadianceWeights blank() const {
    RadianceWeights b;
    b.in.assign((size_t)w_.features * d_, 0.0f);
    b.in_bias.assign(d_, 0.0f);
    b.hidden.assign((size_t)w_.density * g_, 0.0f);
    b.hidden_bias.assign(g_, 0.0f);
    b.geometry.assign((size_t)w_.geometry * c_, 0.0f);
    b.directions.assign((size_t)kDirections * c_, 0.0f);
    b.colour_bias.assign(c_, 0.0f);
    b.out.assign((size_t)3 * c_, 0.0f);
    return b;
  }

  void add_to_flat(RadianceWeights& gradient, float* density_params, float* colour_params) const {
    unpack(density_params, colour_params, gradient, [](float& mine, float& flat) { flat += mine; });
  }

  // x: (rows, features()); hidden: (rows, density()), geometry: (rows, geometry()), written.
  void density_forward(const float* x, int rows, float* hidden, float* geometry) const {
    gemm({x, f_, 1}, weights_.in.data(), d_, weights_.in_bias.data(), false, hidden, d_, rows, d_, w_.features);
    relu(hidden, (int64_t)rows * d_);
    gemm({hidden, d_, 1}, weights_.hidden.data(), g_, weights_.hidden_bias.data(), false, geometry, g_, rows, g_,
         w_.density);
  }

  // bias: (colour()), the first colour layer's bias for a ray with this direction encoding.
  void direction_bias(const float* encoding, float* bias) const {
    gemm({encoding, kDirections, 1}, weights_.directions.data(), c_, weights_.colour_bias.data(), false, bias, c_, 1,
         c_, kDirections);
  }

  // geometry: (rows, geometry()); hidden: (rows, colour()) holds each row's direction bias and becomes the hidden
  // layer; logits: (rows, 3).
  void colour_forward(const float* geometry, int rows, float* hidden, float* logits) const {
    gemm({geometry, g_, 1}, weights_.geometry.data(), c_, nullptr, true, hidden, c_, rows, c_, w_.geometry);
    relu(hidden, (int64_t)rows * c_);
    const float* out = weights_.out.data();
    for (int r = 0; r < rows; ++r) {
      const float* h = hidden + (int64_t)r * c_;
      Vec sum[3] = {};
      for (int k = 0; k < c_; k += kVec) {
        const Vec value = *(const Vec*)(h + k);
        for (int c = 0; c < 3; ++c) sum[c] += value * *(const Vec*)(out + c * c_ + k);
      }
      for (int c = 0; c < 3; ++c) logits[3 * r + c] = weights_.out_bias[c] + horizontal(sum[c]);
    }
  }

  // up: (rows, 3); hidden as after the forward pass, overwritten by its gradient; grad_geometry: written.
  void colour_backward(const float* geometry, int rows, const float* up, float* hidden, RadianceWeights& total,
                       float* grad_geometry) const {
    const float* out = weights_.out.data();
    for (int k = 0; k < c_; k += kVec) {
      Vec sum[3], weight[3];
      for (int c = 0; c < 3; ++c) {
        sum[c] = *(const Vec*)(total.out.data() + c * c_ + k);
        weight[c] = *(const Vec*)(out + c * c_ + k);
      }
      for (int r = 0; r < rows; ++r) {
        float* h = hidden + (int64_t)r * c_ + k;
        const Vec value = *(const Vec*)h;
        Vec gradient = {};
        for (int c = 0; c < 3; ++c) {
          sum[c] += value * up[3 * r + c];
          gradient += weight[c] * up[3 * r + c];
        }
        *(Vec*)h = value > 0.0f ? gradient : Vec{};
      }
      for (int c = 0; c < 3; ++c) *(Vec*)(total.out.data() + c * c_ + k) = sum[c];
    }
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < 3; ++c) total.out_bias[c] += up[3 * r + c];
    gemm({geometry, 1, g_}, hidden, c_, nullptr, true, total.geometry.data(), c_, w_.geometry, c_, rows);
    gemm({hidden, c_, 1}, geometry_t_.data(), g_, nullptr, false, grad_geometry, g_, rows, g_, w_.colour);
  }

  // sum: (colour()), the gradients of the hidden layer summed over a ray's rows.
  void direction_backward(const float* encoding, const float* sum, RadianceWeights& total) const {
    for (int k = 0; k < c_; k += kVec) {
      const Vec value = *(const Vec*)(sum + k);
      *(Vec*)(total.colour_bias.data() + k) += value;
      for (int i = 0; i < kDirections; ++i) *(Vec*)(total.directions.data() + i * c_ + k) += value * encoding[i];
    }
  }

  // grad_geometry: (rows, geometry()); hidden is overwritten by its gradient; grad_x: (rows, features()), written.
  void density_backward(const float* x, int rows, const float* grad_geometry, float* hidden, float* grad_hidden,
                        RadianceWeights& total, float* grad_x) const {
    gemm({hidden, 1, d_}, grad_geometry, g_, nullptr, true, total.hidden.data(), g_, w_.density, g_, rows);
    add_rows(grad_geometry, rows, g_, total.hidden_bias.data());
    gemm({grad_geometry, g_, 1}, hidden_t_.data(), d_, nullptr, false, grad_hidden, d_, rows, d_, w_.geometry);
    for (int64_t i = 0; i < (int64_t)rows * d_; ++i) grad_hidden[i] = hidden[i] > 0.0f ? grad_hidden[i] : 0.0f;
    gemm({x, 1, f_}, grad_hidden, d_, nullptr, true, total.in.data(), d_, w_.features, d_, rows);
    add_rows(grad_hidden, rows, d_, total.in_bias.data());
    gemm({grad_hidden, d_, 1}, in_t_.data(), f_, nullptr, false, grad_x, f_, rows, f_, w_.density);
  }

 private:
  static void relu(float* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = values[i] > 0.0f ? values[i] : 0.0f;
  }

  static float horizontal(const Vec& v) {
    float sum = 0.0f;
    for (int i = 0; i < kVec; ++i) sum += v[i];
    return sum;
  }

  static void add_rows(const float* rows_of, int rows, int width, float* total) {
    for (int k = 0; k < width; k += kVec) {
      Vec sum = *(const Vec*)(total + k);
      for (int r = 0; r < rows; ++r) sum += *(const Vec*)(rows_of + (int64_t)r * width + k);
      *(Vec*)(total + k) = sum;
    }
  }

  static std::vector<float> transpose(const std::vector<float>& from, int rows, int stride, int cols, int rows_pad) {
    std::vector<float> result((size_t)cols * rows_pad, 0.0f);
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < cols; ++c) result[(size_t)c * rows_pad + r] = from[(size_t)r * stride + c];
    return result;
  }

  // Walks the flat parameters of both networks beside their padded places.
  template <typename Flat, typename Weights, typename Visit>
  void unpack(Flat* density, Flat* colour, Weights& p, Visit visit) const {
    for (int i = 0; i < w_.features; ++i)
      for (int o = 0; o < w_.density; ++o) visit(p.in[(size_t)i * d_ + o], *density++);
    for (int o = 0; o < w_.density; ++o) visit(p.in_bias[o], *density++);
    for (int i = 0; i < w_.density; ++i)
      for (int o = 0; o < w_.geometry; ++o) visit(p.hidden[(size_t)i * g_ + o], *density++);
    for (int o = 0; o < w_.geometry; ++o) visit(p.hidden_bias[o], *density++);
    for (int i = 0; i < w_.geometry; ++i)
      for (int o = 0; o < w_.colour; ++o) visit(p.geometry[(size_t)i * c_ + o], *colour++);
    for (int i = 0; i < kDirections; ++i)
      for (int o = 0; o < w_.colour; ++o) visit(p.directions[(size_t)i * c_ + o], *colour++);
    for (int o = 0; o < w_.colour; ++o) visit(p.colour_bias[o], *colour++);
    for (int i = 0; i < w_.colour; ++i)
      for (int c = 0; c < 3; ++c) visit(p.out[(size_t)c * c_ + i], *colour++);
    for (int c = 0; c < 3; ++c) visit(p.out_bias[c], *colour++);
  }

  RadianceWidths w_;
  int f_, d_, g_, c_;
  RadianceWeights weights_;
  std::vector<float> in_t_, hidden_t_, geometry_t_;
};

}  // namespace smerf
