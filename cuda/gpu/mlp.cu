// Small ReLU networks on GPUs: a plain one, and the radiance head (density net, then colour net), as one chain of layers.
//
// A block takes tiles of 64 rows through the whole chain in shared memory. The backward pass evaluates a tile anew, lets
// the gradients replace the activations from the last layer to the first, and keeps its share of the weight gradients
// in registers until its last tile; the blocks' sums are then added in a fixed order.
#include "tensor_cores.h"

namespace {

using namespace smerf;

constexpr int kMaxLayers = 8;
constexpr int kMaxWidth = 128;
constexpr int kRows = 64;              // of a tile
constexpr int kWarps = kThreads / 32;
constexpr int kColumnTiles = 4;        // 8-column tiles that a warp computes at once
constexpr int kSlack = 16;             // floats after the last row that a 16-wide read may touch

// The chain. Inputs of layer `join` are the outputs of the layer before it, then `extra` columns of the ray's directions.
struct Chain {
  int layers, join, extra;
  int in[kMaxLayers], out[kMaxLayers];
  const float* params[kMaxLayers];     // weights (in, out) row-major, then the bias
  int64_t offset[kMaxLayers];          // of a layer's parameters among all gradients
  int64_t param_count;
  // Of the backward pass: first unit and first bias of a layer, and where its input lies in shared memory.
  int unit[kMaxLayers], bias[kMaxLayers], buffer[kMaxLayers + 1];
  int units, shared_floats;
  __host__ __device__ bool is_linear(int layer) const { return layer == layers - 1 || layer == join - 1; }
};

__host__ __device__ __forceinline__ int pad8(int n) { return (n + 7) / 8 * 8; }
// Rows of a shared buffer are four floats longer than their tiles: reads down a column then hit different banks.
__host__ __device__ __forceinline__ int row_length(int width) { return pad8(width) + 4; }

struct Rows {
  const float *features, *directions;  // (rows, in[0]), (rows / samples, extra)
  int64_t rows;
  int samples;
};

// Reads a tile of rows into shared memory; missing rows and padding are zero.
__device__ void load_tile(const float* from, int width, int64_t first, int64_t rows, float* to, int ld) {
  const int padded = pad8(width);
  for (int i = threadIdx.x; i < kRows * padded; i += kThreads) {
    const int row = i / padded, column = i % padded;
    to[row * ld + column] = column < width && first + row < rows ? from[(first + row) * width + column] : 0.0f;
  }
}

__device__ void store_tile(const float* from, int ld, int width, int64_t first, int64_t rows, float* to) {
  for (int i = threadIdx.x; i < kRows * width; i += kThreads) {
    const int row = i / width, column = i % width;
    if (first + row < rows) to[(first + row) * width + column] = from[row * ld + column];
  }
}

// Fills the direction columns of the join layer's input, and its padding.
__device__ void load_directions(const Chain& chain, const Rows& rows, int64_t first, float* to, int ld) {
  const int width = chain.in[chain.join], start = width - chain.extra, filled = pad8(width) - start;
  for (int i = threadIdx.x; i < kRows * filled; i += kThreads) {
    const int row = i / filled, column = i % filled;
    const bool is_there = column < chain.extra && first + row < rows.rows;
    to[row * ld + start + column] = is_there ? rows.directions[(first + row) / rows.samples * chain.extra + column] : 0.0f;
  }
}

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
        for (int i = 0; i < 4; ++i) finish(row + group + 8 * (i >> 1), (first + j) * 8 + 2 * in_group + (i & 1), c[j][i]);
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

__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ Chain chain, const __grid_constant__ Rows rows, int buffer,
                   float* __restrict__ density, float* __restrict__ result) {
  SMERF_DYNAMIC_SHARED(shared);
  for (int64_t first = (int64_t)blockIdx.x * kRows; first < rows.rows; first += (int64_t)gridDim.x * kRows) {
    float *x = shared, *y = shared + buffer;
    load_tile(rows.features, chain.in[0], first, rows.rows, x, row_length(chain.in[0]));
    __syncthreads();
    for (int layer = 0; layer < chain.layers; ++layer) {
      const int width = buffer_width(chain, layer);
      if (layer + 1 == chain.join) load_directions(chain, rows, first, y, row_length(width));
      forward_layer(chain, layer, x, y, width);
      __syncthreads();
      if (layer + 1 == chain.join)
        for (int row = threadIdx.x; row < kRows; row += kThreads)
          if (first + row < rows.rows) density[first + row] = y[row * row_length(width)];
      float* swap = x;
      x = y;
      y = swap;
    }
    const int out = chain.out[chain.layers - 1];
    store_tile(x, row_length(out), out, first, rows.rows, result);
    __syncthreads();
  }
}

struct Upstream {
  const float *density, *result;  // density may be null
};

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
__device__ __forceinline__ void store_weight_gradient(const float (&sums)[kUnits][2][4], int in, int out, int first_unit,
                                                      float* part) {
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

template <int kUnits>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ Chain chain, const __grid_constant__ Rows rows,
                    const __grid_constant__ Upstream upstream, float* __restrict__ parts, float* __restrict__ grad_features) {
  SMERF_DYNAMIC_SHARED(shared);
  float* bias_sums = shared;
  float sums[kUnits][2][4] = {};
  for (int i = threadIdx.x; i < chain.buffer[0]; i += kThreads) bias_sums[i] = 0.0f;

  for (int64_t first = (int64_t)blockIdx.x * kRows; first < rows.rows; first += (int64_t)gridDim.x * kRows) {
    load_tile(rows.features, chain.in[0], first, rows.rows, shared + chain.buffer[0], row_length(chain.in[0]));
    __syncthreads();
    for (int layer = 0; layer + 1 < chain.layers; ++layer) {
      const int width = chain.in[layer + 1];
      if (layer + 1 == chain.join) load_directions(chain, rows, first, shared + chain.buffer[layer + 1], row_length(width));
      forward_layer(chain, layer, shared + chain.buffer[layer], shared + chain.buffer[layer + 1], width);
      __syncthreads();
    }
    for (int layer = chain.layers - 1; layer >= 0; --layer) {
      const int in = chain.in[layer], out = chain.out[layer], ld_x = row_length(in);
      const bool is_last = layer + 1 == chain.layers;
      const int ld_g = row_length(is_last ? out : chain.in[layer + 1]);
      float *x = shared + chain.buffer[layer], *g = shared + chain.buffer[layer + 1];
      if (is_last) {
        load_tile(upstream.result, out, first, rows.rows, g, ld_g);
        __syncthreads();
      }
      if (layer + 1 == chain.join) {
        // The direction columns have no gradient further down; output 0 has the density's own.
        const int extra = pad8(chain.in[layer + 1]) - out;
        for (int i = threadIdx.x; i < kRows * extra; i += kThreads) g[i / extra * ld_g + out + i % extra] = 0.0f;
        for (int row = threadIdx.x; row < kRows; row += kThreads)
          if (first + row < rows.rows) g[row * ld_g] += upstream.density[first + row];
        __syncthreads();
      }
      add_weight_gradient<kUnits>(x, ld_x, g, ld_g, in, out, chain.unit[layer], sums);
      for (int column = threadIdx.x; column < out; column += kThreads) {
        float total = 0.0f;
        for (int row = 0; row < kRows; ++row) total += g[row * ld_g + column];
        bias_sums[chain.bias[layer] + column] += total;
      }
      if (layer == 0 && grad_features == nullptr) continue;
      __syncthreads();
      // The gradient takes the place of the activation, which says where the ReLU was open.
      const bool has_relu = layer > 0 && !chain.is_linear(layer - 1);
      multiply_tile(g, ld_g, chain.params[layer], 1, out, out, in, [=](int row, int column, float sum) {
        float* to = x + row * ld_x + column;
        *to = !has_relu || *to > 0.0f ? sum : 0.0f;
      });
      __syncthreads();
    }
    if (grad_features != nullptr) store_tile(shared + chain.buffer[0], row_length(chain.in[0]), chain.in[0], first, rows.rows, grad_features);
    __syncthreads();
  }

  float* part = parts + (int64_t)blockIdx.x * chain.param_count;
  for (int layer = 0; layer < chain.layers; ++layer) {
    const int in = chain.in[layer], out = chain.out[layer];
    store_weight_gradient<kUnits>(sums, in, out, chain.unit[layer], part + chain.offset[layer]);
    float* to = part + chain.offset[layer] + (int64_t)in * out;
    for (int column = threadIdx.x; column < out; column += kThreads) to[column] = bias_sums[chain.bias[layer] + column];
  }
}

// gradient[i] += the parts' sum, in their order. Parameters before `split` go to the first vector, the rest to the second.
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
bool append(Chain& chain, const int32_t* dims, int layers, const float* params) {
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
void lay_out(Chain& chain) {
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

bool make_chain(Chain& chain, const int32_t* dims, int layers, const float* params, const int32_t* colour_dims,
                int colour_layers, const float* colour_params) {
  chain = {};
  chain.join = -1;
  if (!append(chain, dims, layers, params)) return false;
  if (colour_layers > 0) {
    chain.join = layers;
    chain.extra = colour_dims[0] - dims[layers];
    if (chain.extra < 0 || !append(chain, colour_dims, colour_layers, colour_params)) return false;
  }
  lay_out(chain);
  return true;
}

int device_attribute(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&value, attribute, device);
  return value;
}

size_t forward_shared(const Chain& chain, int* buffer) {
  int widest = 0;
  for (int l = 0; l < chain.layers; ++l) {
    widest = chain.in[l] > widest ? chain.in[l] : widest;
    widest = chain.out[l] > widest ? chain.out[l] : widest;
  }
  *buffer = kRows * row_length(widest);
  return sizeof(float) * (2 * *buffer + kSlack);
}

size_t backward_shared(const Chain& chain) { return sizeof(float) * chain.shared_floats; }

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

int run_forward(const Chain& chain, const Rows& rows, float* density, float* result, void* stream) {
  if (rows.rows == 0) return 0;
  int buffer = 0;
  const size_t shared = forward_shared(chain, &buffer);
  const auto kernel = forward_kernel;
  const int blocks = resident_blocks(kernel, shared, rows.rows);
  if (blocks < 1) return kUnsupported;
  SMERF_LAUNCH(kernel, blocks, kThreads, shared, stream, chain, rows, buffer, density, result);
  return launch_result();
}

typedef void (*BackwardKernel)(Chain, Rows, Upstream, float*, float*);

BackwardKernel choose_backward(const Chain& chain) {
  if (chain.units <= 2 * kWarps) return backward_kernel<2>;
  if (chain.units <= 6 * kWarps) return backward_kernel<6>;
  return nullptr;
}

// Blocks of the backward pass, or 0 if the device cannot run it.
int backward_blocks(const Chain& chain, int64_t rows) {
  const BackwardKernel kernel = choose_backward(chain);
  const size_t shared = backward_shared(chain);
  if (kernel == nullptr || (int)shared > device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) return 0;
  return resident_blocks(kernel, shared, rows);
}

int run_backward(const Chain& chain, const Rows& rows, const Upstream& upstream, int64_t split,
                 float* first, float* second, float* grad_features, float* scratch, void* stream) {
  if (rows.rows == 0) return 0;
  const int blocks = backward_blocks(chain, rows.rows);
  if (blocks < 1) return kUnsupported;
  const BackwardKernel kernel = choose_backward(chain);
  SMERF_LAUNCH(kernel, blocks, kThreads, backward_shared(chain), stream, chain, rows, upstream, scratch, grad_features);
  SMERF_LAUNCH(reduce_kernel, block_count(chain.param_count, kThreads), kThreads, 0, stream, scratch, blocks,
               chain.param_count, split, first, second);
  return launch_result();
}

}  // namespace

// Floats of scratch memory that the backward pass needs on the current device, or -1 for a network that the kernels do
// not take: wider than 128, deeper than 8 layers, or with too many weights for the registers or the shared memory. For a
// plain network colour_layers is 0.
SMERF_API int64_t smerf_mlp_scratch(const int32_t* dims, int layers, const int32_t* colour_dims, int colour_layers,
                                    int64_t rows) {
  Chain chain;
  if (!make_chain(chain, dims, layers, nullptr, colour_dims, colour_layers, nullptr)) return -1;
  const int blocks = backward_blocks(chain, rows > 0 ? rows : 1);
  return blocks < 1 ? -1 : blocks * chain.param_count;
}

// Arguments of the launchers as in cuda/cpu/mlp.cpp; scratch: floats as smerf_mlp_scratch says.
SMERF_API int smerf_mlp_forward(const int32_t* dims, int layers, const float* params, const float* x, int64_t rows,
                                float* out, void* stream) {
  Chain chain;
  if (!make_chain(chain, dims, layers, params, nullptr, 0, nullptr)) return kUnsupported;
  return run_forward(chain, {x, nullptr, rows, 1}, nullptr, out, stream);
}

SMERF_API int smerf_mlp_backward(const int32_t* dims, int layers, const float* params, const float* x, int64_t rows,
                                 const float* upstream, float* grad_params, float* grad_x, float* scratch,
                                 void* stream) {
  Chain chain;
  if (!make_chain(chain, dims, layers, params, nullptr, 0, nullptr)) return kUnsupported;
  return run_backward(chain, {x, nullptr, rows, 1}, {nullptr, upstream}, chain.param_count, grad_params, nullptr,
                      grad_x, scratch, stream);
}

SMERF_API int smerf_radiance_head_forward(const int32_t* density_dims, int density_layers, const float* density_params,
                                          const int32_t* colour_dims, int colour_layers, const float* colour_params,
                                          const float* features, const float* directions, int samples, int64_t rows,
                                          float* raw_density, float* raw_colour, void* stream) {
  Chain chain;
  if (!make_chain(chain, density_dims, density_layers, density_params, colour_dims, colour_layers, colour_params))
    return kUnsupported;
  return run_forward(chain, {features, directions, rows, samples}, raw_density, raw_colour, stream);
}

SMERF_API int smerf_radiance_head_backward(const int32_t* density_dims, int density_layers, const float* density_params,
                                           const int32_t* colour_dims, int colour_layers, const float* colour_params,
                                           const float* features, const float* directions, int samples, int64_t rows,
                                           const float* up_density, const float* up_colour, float* grad_density_params,
                                           float* grad_colour_params, float* grad_features, float* scratch,
                                           void* stream) {
  Chain chain;
  if (!make_chain(chain, density_dims, density_layers, density_params, colour_dims, colour_layers, colour_params))
    return kUnsupported;
  return run_backward(chain, {features, directions, rows, samples}, {up_density, up_colour},
                      chain.offset[density_layers], grad_density_params, grad_colour_params, grad_features, scratch, stream);
}
