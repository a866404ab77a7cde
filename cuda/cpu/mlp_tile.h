// A small ReLU network evaluated on a tile of rows, forward and backward, without leaving the cache.
//
// Parameters are flat: for each layer the weights (in, out) row-major, then the bias (out). Widths are padded to the
// vector length inside; padding weighs zero. The backward pass recomputes nothing: it reads the tile's activations.
#pragma once

#include <string.h>

#include <vector>

#include "gemm.h"

namespace smerf {

constexpr int kTile = 128;  // rows of a tile

class Mlp {
 public:
  Mlp(const int32_t* dims, int layers, const float* params) : layers_(layers), dims_(dims, dims + layers + 1) {
    int64_t offset = 0;
    for (int l = 0; l < layers; ++l) {
      const int in = dims_[l], out = dims_[l + 1], in_pad = pad_to_lane(in), out_pad = pad_to_lane(out);
      std::vector<float> w((size_t)in * out_pad, 0.0f), wt((size_t)out * in_pad, 0.0f), b(out_pad, 0.0f);
      for (int i = 0; i < in; ++i)
        for (int o = 0; o < out; ++o) {
          const float value = params[offset + (int64_t)i * out + o];
          w[(size_t)i * out_pad + o] = value;
          wt[(size_t)o * in_pad + i] = value;
        }
      for (int o = 0; o < out; ++o) b[o] = params[offset + (int64_t)in * out + o];
      offset += (int64_t)in * out + out;
      weights_.push_back(w);
      transposed_.push_back(wt);
      bias_.push_back(b);
    }
    param_count_ = offset;
  }

  int layers() const { return layers_; }
  int dim(int l) const { return dims_[l]; }
  int padded(int l) const { return pad_to_lane(dims_[l]); }
  int64_t param_count() const { return param_count_; }

  // Gradient buffers of one thread, padded like the weights.
  struct Gradient {
    std::vector<std::vector<float>> weights, bias;
    explicit Gradient(const Mlp& net) {
      for (int l = 0; l < net.layers_; ++l) {
        weights.emplace_back((size_t)net.dims_[l] * net.padded(l + 1), 0.0f);
        bias.emplace_back((size_t)net.padded(l + 1), 0.0f);
      }
    }
  };

  // Outputs of every layer for one tile, and the gradients with respect to them.
  struct Tile {
    std::vector<std::vector<float>> out, grad;
    std::vector<float> input_grad;
    explicit Tile(const Mlp& net) : input_grad((size_t)kTile * net.padded(0), 0.0f) {
      for (int l = 0; l < net.layers_; ++l) {
        out.emplace_back((size_t)kTile * net.padded(l + 1), 0.0f);
        grad.emplace_back((size_t)kTile * net.padded(l + 1), 0.0f);
      }
    }
    float* result() { return out.back().data(); }
    float* result_grad() { return grad.back().data(); }
  };

  // x: (rows, dim(0)) with row stride ldx. The result is tile.result(), row stride padded(layers).
  void forward(const float* x, int64_t ldx, int rows, Tile& tile) const {
    const float* input = x;
    int64_t ld = ldx;
    for (int l = 0; l < layers_; ++l) {
      const int out_pad = padded(l + 1);
      float* out = tile.out[l].data();
      gemm({input, ld, 1}, weights_[l].data(), out_pad, bias_[l].data(), false, out, out_pad, rows, out_pad, dims_[l]);
      if (l + 1 < layers_)
        for (int64_t i = 0; i < (int64_t)rows * out_pad; ++i) out[i] = out[i] > 0.0f ? out[i] : 0.0f;
      input = out;
      ld = out_pad;
    }
  }

  // Reads tile.result_grad() (padding zero); adds to `total`; writes tile.input_grad, row stride padded(0).
  void backward(const float* x, int64_t ldx, int rows, Tile& tile, Gradient& total, bool want_input_grad) const {
    for (int l = layers_ - 1; l >= 0; --l) {
      const int out_pad = padded(l + 1), in_pad = padded(l);
      const float* input = l ? tile.out[l - 1].data() : x;
      const int64_t ld = l ? in_pad : ldx;
      const float* grad = tile.grad[l].data();
      gemm({input, 1, ld}, grad, out_pad, nullptr, true, total.weights[l].data(), out_pad, dims_[l], out_pad, rows);
      float* bias = total.bias[l].data();
      for (int r = 0; r < rows; ++r)
        for (int o = 0; o < out_pad; ++o) bias[o] += grad[(size_t)r * out_pad + o];
      if (l == 0 && !want_input_grad) break;
      float* below = l ? tile.grad[l - 1].data() : tile.input_grad.data();
      gemm({grad, out_pad, 1}, transposed_[l].data(), in_pad, nullptr, false, below, in_pad, rows, in_pad,
           dims_[l + 1]);
      if (l) {
        const float* value = tile.out[l - 1].data();
        for (int64_t i = 0; i < (int64_t)rows * in_pad; ++i) below[i] = value[i] > 0.0f ? below[i] : 0.0f;
      }
    }
  }

  // Adds a padded gradient to the flat parameter layout.
  void add_gradient(const Gradient& total, float* params) const {
    int64_t offset = 0;
    for (int l = 0; l < layers_; ++l) {
      const int in = dims_[l], out = dims_[l + 1], out_pad = padded(l + 1);
      for (int i = 0; i < in; ++i)
        for (int o = 0; o < out; ++o)
          params[offset + (int64_t)i * out + o] += total.weights[l][(size_t)i * out_pad + o];
      for (int o = 0; o < out; ++o) params[offset + (int64_t)in * out + o] += total.bias[l][o];
      offset += (int64_t)in * out + out;
    }
  }

 private:
  int layers_;
  std::vector<int> dims_;
  int64_t param_count_ = 0;
  std::vector<std::vector<float>> weights_, transposed_, bias_;
};

}  // namespace smerf
