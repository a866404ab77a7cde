// A chain of small layers in the shared memory of a block: tiles of 64 rows go forward through it, and back.
//
// On the way back gradients replace the activations from the last layer to the first, and a block keeps its share of
// the weight gradients in registers until its last tile; the blocks' sums are then added in a fixed order.
#pragma once

#include "tensor_cores.h"

namespace smerf {

constexpr int kMaxLayers = 8;
constexpr int kMaxWidth = 128;
constexpr int kRows = 64;  // of a tile
constexpr int kWarps = kThreads / 32;
constexpr int kColumnTiles = 4;  // 8-column tiles that a warp computes at once
constexpr int kSlack = 16;       // floats after the last row that a 16-wide read may touch

// The chain. Inputs of layer `join` are the outputs of the layer before it, then `extra` columns of the ray's
// directions.
struct Chain {
  int layers, join, extra;
  int in[kMaxLayers], out[kMaxLayers];
  const float* params[kMaxLayers];  // weights (in, out) row-major, then the bias
  int64_t offset[kMaxLayers];       // of a layer's parameters among all gradients
  int64_t param_count;
  // Of the backward pass: first unit and first bias of a layer, and where its input lies in shared memory.
  int unit[kMaxLayers], bias[kMaxLayers], buffer[kMaxLayers + 1];
  int units, shared_floats;
  __host__ __device__ bool is_linear(int layer) const { return layer == layers - 1 || layer == join - 1; }
};

__host__ __device__ __forceinline__ int pad8(int n) { return (n + 7) / 8 * 8; }
// Rows of a shared buffer are four floats longer than their tiles: reads down a column then hit different banks.
__host__ __device__ __forceinline__ int row_length(int width) { return pad8(width) + 4; }

__device__ __forceinline__ void read_rows(const float* x, int ld, int row, int k, float (&a)[4]) {
  const int group = threadIdx.x % 32 / 4, in_group = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) a[i] = to_tf32(x[(row + group + 8 * (i & 1)) * ld + k + in_group + 4 * (i >> 1)]);
}

// y = x W for a tile of rows, where W(k, n) = weights[k * k_step + n * n_step]; finish(row, column, sum) receives the
// result, columns up to a multiple of 8 included.
template <class Finish>
__device__ __forceinline__ void multiply_tile(const float* x, int ld, const float* __restrict__ weights, int k_step,
                                              int n_step, int depth, int width, const Finish& finish) {
  const int group = threadIdx.x % 32 / 4, in_group = threadIdx.x % 4;
  const int columns = pad8(width) / 8, chunks = (columns + kColumnTiles - 1) / kColumnTiles;
  for (int unit = threadIdx.x / 32; unit < kRows / 16 * chunks; unit += kWarps) {
    const int row = unit % (kRows / 16) * 16, first = unit / (kRows / 16) * kColumnTiles;
    float c[kColumnTiles][4] = {};
#pragma unroll 1
    for (int k = 0; k < depth; k += 8) {
      float a[4];
      read_rows(x, ld, row, k, a);
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const int n = (first + j) * 8 + group;
        float b[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int at = k + in_group + 4 * i;
          b[i] = to_tf32(at < depth && n < width ? __ldg(weights + at * k_step + n * n_step) : 0.0f);
        }
        multiply(c[j], a, b);
      }
    }
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j)
      if (first + j < columns)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          finish(row + group + 8 * (i >> 1), (first + j) * 8 + 2 * in_group + (i & 1), c[j][i]);
  }
}

// One layer forward: reads x, writes y (columns below `limit` alone, so that others can hold the directions).
__device__ __forceinline__ void forward_layer(const Chain& chain, int layer, const float* x, float* y, int limit) {
  const int in = chain.in[layer], out = chain.out[layer], ld = row_length(limit);
  const float *weights = chain.params[layer], *bias = weights + (int64_t)in * out;
  const bool is_linear = chain.is_linear(layer);
  const int last = limit == out ? pad8(out) : out;
  multiply_tile(x, row_length(in), weights, out, 1, in, out, [=](int row, int column, float sum) {
    if (column >= last) return;
    const float value = sum + (column < out ? __ldg(bias + column) : 0.0f);
    y[row * ld + column] = is_linear || value > 0.0f ? value : 0.0f;
  });
}

// Width of the buffer that a layer writes to: the next layer's input where there is one.
__device__ __forceinline__ int buffer_width(const Chain& chain, int layer) {
  return layer + 1 < chain.layers ? chain.in[layer + 1] : chain.out[layer];
}

// Sixteen by sixteen weights whose gradient a warp keeps; units are numbered layer by layer.
__host__ __device__ __forceinline__ int unit_count(int in, int out) { return (in + 15) / 16 * ((out + 15) / 16); }

// Adds x^T g of a tile to the sums of those units of a layer that this warp keeps.
template <int kUnits>
__device__ __forceinline__ void add_weight_gradient(const float* x, int ld_x, const float* g, int ld_g, int in, int out,
                                                    int first_unit, float (&sums)[kUnits][2][4]) {
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, in_group = threadIdx.x % 4;
  const int across = (out + 15) / 16, last_unit = first_unit + unit_count(in, out), columns = pad8(out);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int unit = u * kWarps + warp;
    if (unit < first_unit || unit >= last_unit) continue;
    const int m = (unit - first_unit) / across * 16, n = (unit - first_unit) % across * 16;
#pragma unroll 1
    for (int k = 0; k < kRows; k += 8) {
      float a[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = m + group + 8 * (i & 1);
        a[i] = to_tf32(at < in ? x[(k + in_group + 4 * (i >> 1)) * ld_x + at] : 0.0f);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = n + 8 * j + group;
        float b[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) b[i] = to_tf32(column < columns ? g[(k + in_group + 4 * i) * ld_g + column] : 0.0f);
        multiply(sums[u][j], a, b);
      }
    }
  }
}

// Writes a block's sums for one layer to its part of the scratch memory.
template <int kUnits>
__device__ __forceinline__ void store_weight_gradient(const float (&sums)[kUnits][2][4], int in, int out,
                                                      int first_unit, float* part) {
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / 4, in_group = threadIdx.x % 4;
  const int across = (out + 15) / 16, last_unit = first_unit + unit_count(in, out);
#pragma unroll
  for (int u = 0; u < kUnits; ++u) {
    const int unit = u * kWarps + warp;
    if (unit < first_unit || unit >= last_unit) continue;
    const int m = (unit - first_unit) / across * 16, n = (unit - first_unit) % across * 16;
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = m + group + 8 * (i >> 1), column = n + 8 * j + 2 * in_group + (i & 1);
        if (row < in && column < out) part[row * out + column] = sums[u][j][i];
      }
  }
}

// Takes the gradient of a layer's output, which lies in the buffer of the next, to the weights' sums and, if it is
// asked for, to the layer's input. A block's threads have to meet before.
template <int kUnits>
__device__ __forceinline__ void backward_layer(const Chain& chain, int layer, float* shared, float* bias_sums,
                                               float (&sums)[kUnits][2][4], bool want_input) {
  const int in = chain.in[layer], out = chain.out[layer], ld_x = row_length(in);
  const int ld_g = row_length(buffer_width(chain, layer));
  float *x = shared + chain.buffer[layer], *g = shared + chain.buffer[layer + 1];
  add_weight_gradient<kUnits>(x, ld_x, g, ld_g, in, out, chain.unit[layer], sums);
  for (int column = threadIdx.x; column < out; column += kThreads) {
    float total = 0.0f;
    for (int row = 0; row < kRows; ++row) total += g[row * ld_g + column];
    bias_sums[chain.bias[layer] + column] += total;
  }
  if (!want_input) return;
  __syncthreads();
  // The gradient takes the place of the activation, which says where the ReLU was open.
  const bool has_relu = layer > 0 && !chain.is_linear(layer - 1);
  multiply_tile(g, ld_g, chain.params[layer], 1, out, out, in, [=](int row, int column, float sum) {
    float* to = x + row * ld_x + column;
    *to = !has_relu || *to > 0.0f ? sum : 0.0f;
  });
  __syncthreads();
}

// Writes a block's sums to its part of the scratch memory.
template <int kUnits>
__device__ __forceinline__ void store_gradients(const Chain& chain, const float (&sums)[kUnits][2][4],
                                                const float* bias_sums, float* part) {
  for (int layer = 0; layer < chain.layers; ++layer) {
    const int in = chain.in[layer], out = chain.out[layer];
    store_weight_gradient<kUnits>(sums, in, out, chain.unit[layer], part + chain.offset[layer]);
    float* to = part + chain.offset[layer] + (int64_t)in * out;
    for (int column = threadIdx.x; column < out; column += kThreads) to[column] = bias_sums[chain.bias[layer] + column];
  }
}

// gradient[i] += the parts' sum, in their order. Parameters before `split` go to the first vector, the rest to the
// second. A template, so that several files may hold it.
template <int kOnce = 0>
__global__ void reduce_kernel(const float* __restrict__ parts, int count, int64_t param_count, int64_t split,
                              float* __restrict__ first, float* __restrict__ second) {
  const int64_t i = thread_number();
  if (i >= param_count) return;
  float total = 0.0f;
  for (int part = 0; part < count; ++part) total += parts[part * param_count + i];
  if (i < split)
    first[i] += total;
  else
    second[i - split] += total;
}

// Appends a network's layers. False if the chain is not one that the kernels take.
inline bool append(Chain& chain, const int32_t* dims, int layers, const float* params) {
  for (int l = 0; l < layers; ++l) {
    if (chain.layers == kMaxLayers || dims[l] > kMaxWidth || dims[l + 1] > kMaxWidth || dims[l] < 1 || dims[l + 1] < 1)
      return false;
    const int layer = chain.layers++;
    chain.in[layer] = dims[l];
    chain.out[layer] = dims[l + 1];
    chain.params[layer] = params;
    chain.offset[layer] = chain.param_count;
    const int64_t size = (int64_t)dims[l] * dims[l + 1] + dims[l + 1];
    chain.param_count += size;
    if (params) params += size;
  }
  return true;
}

// Numbers the units of weights and places the buffers in shared memory, behind the sums of the biases.
inline void lay_out(Chain& chain) {
  int floats = 0;
  for (int l = 0; l < chain.layers; ++l) {
    chain.unit[l] = chain.units;
    chain.units += unit_count(chain.in[l], chain.out[l]);
    chain.bias[l] = floats;
    floats += chain.out[l];
  }
  floats = (floats + 3) / 4 * 4;
  for (int l = 0; l <= chain.layers; ++l) {
    chain.buffer[l] = floats;
    floats += kRows * row_length(l < chain.layers ? chain.in[l] : chain.out[l - 1]);
  }
  chain.shared_floats = floats + kSlack;
}

inline int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, attribute, device);
  return value;
}

inline size_t forward_shared(const Chain& chain, int* buffer) {
  int widest = 0;
  for (int l = 0; l < chain.layers; ++l) {
    widest = chain.in[l] > widest ? chain.in[l] : widest;
    widest = chain.out[l] > widest ? chain.out[l] : widest;
  }
  *buffer = kRows * row_length(widest);
  return sizeof(float) * (2 * *buffer + kSlack);
}

inline size_t backward_shared(const Chain& chain) { return sizeof(float) * chain.shared_floats; }

// As many blocks as the device runs at once, at most one a tile.
template <class Kernel>
int resident_blocks(Kernel kernel, size_t shared, int64_t rows) {
  int per_processor = 0;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, kThreads, shared);
  const int64_t tiles = (rows + kRows - 1) / kRows;
  const int64_t resident = (int64_t)per_processor * device_attribute(cudaDevAttrMultiProcessorCount);
  return (int)(resident < tiles ? resident : tiles);
}

}  // namespace smerf
