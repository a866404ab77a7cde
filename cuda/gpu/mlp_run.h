// Small ReLU networks on GPUs: a plain one, and the radiance head (density net, then colour net), as one chain of
// layers.
//
// A block takes tiles of rows through the whole chain in shared memory (mlp_chain.h). The backward pass evaluates a
// tile anew.
#pragma once

#include "mlp_chain.h"
#include "rows.h"

namespace {

using namespace smerf;

struct Rows {
  const float *features, *directions;  // (rows, in[0]), (rays, extra)
  RowRange range;
  int samples;                   // of a ray, one after another,
  const int32_t* ray = nullptr;  // or the ray of each row (rows)
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
__device__ void load_directions(const Chain& chain, const Rows& rows, int64_t first, int64_t end, float* to, int ld) {
  const int width = chain.in[chain.join], start = width - chain.extra, filled = pad8(width) - start;
  for (int i = threadIdx.x; i < kRows * filled; i += kThreads) {
    const int row = i / filled, column = i % filled;
    const bool is_there = column < chain.extra && first + row < end;
    to[row * ld + start + column] =
        is_there
            ? rows.directions[(rows.ray ? rows.ray[first + row] : (first + row) / rows.samples) * chain.extra + column]
            : 0.0f;
  }
}

__global__ void __launch_bounds__(kThreads)
    chain_kernel(const __grid_constant__ Chain chain, const __grid_constant__ Rows rows, int buffer,
                 float* __restrict__ density, float* __restrict__ result) {
  SMERF_DYNAMIC_SHARED(shared);
  const int64_t end = rows.range.end();
  for (int64_t first = rows.range.begin() + (int64_t)blockIdx.x * kRows; first < end;
       first += (int64_t)gridDim.x * kRows) {
    float *x = shared, *y = shared + buffer;
    load_tile(rows.features, chain.in[0], first, end, x, row_length(chain.in[0]));
    __syncthreads();
    for (int layer = 0; layer < chain.layers; ++layer) {
      const int width = buffer_width(chain, layer);
      if (layer + 1 == chain.join) load_directions(chain, rows, first, end, y, row_length(width));
      forward_layer(chain, layer, x, y, width);
      __syncthreads();
      if (layer + 1 == chain.join)
        for (int row = threadIdx.x; row < kRows; row += kThreads)
          if (first + row < end) density[first + row] = y[row * row_length(width)];
      float* swap = x;
      x = y;
      y = swap;
    }
    const int out = chain.out[chain.layers - 1];
    store_tile(x, row_length(out), out, first, end, result);
    __syncthreads();
  }
}

struct Upstream {
  const float *density, *result;  // density may be null
};

template <int kUnits>
__global__ void __launch_bounds__(kThreads)
    chain_backward_kernel(const __grid_constant__ Chain chain, const __grid_constant__ Rows rows,
                          const __grid_constant__ Upstream upstream, float* __restrict__ parts,
                          float* __restrict__ grad_features) {
  SMERF_DYNAMIC_SHARED(shared);
  float* bias_sums = shared;
  float sums[kUnits][2][4] = {};
  for (int i = threadIdx.x; i < chain.buffer[0]; i += kThreads) bias_sums[i] = 0.0f;

  const int64_t end = rows.range.end();
  for (int64_t first = rows.range.begin() + (int64_t)blockIdx.x * kRows; first < end;
       first += (int64_t)gridDim.x * kRows) {
    load_tile(rows.features, chain.in[0], first, end, shared + chain.buffer[0], row_length(chain.in[0]));
    __syncthreads();
    for (int layer = 0; layer + 1 < chain.layers; ++layer) {
      const int width = chain.in[layer + 1];
      if (layer + 1 == chain.join)
        load_directions(chain, rows, first, end, shared + chain.buffer[layer + 1], row_length(width));
      forward_layer(chain, layer, shared + chain.buffer[layer], shared + chain.buffer[layer + 1], width);
      __syncthreads();
    }
    for (int layer = chain.layers - 1; layer >= 0; --layer) {
      const int out = chain.out[layer], ld_g = row_length(buffer_width(chain, layer));
      float* g = shared + chain.buffer[layer + 1];
      if (layer + 1 == chain.layers) {
        load_tile(upstream.result, out, first, end, g, ld_g);
        __syncthreads();
      }
      if (layer + 1 == chain.join) {
        // The direction columns have no gradient further down; output 0 has the density's own.
        const int extra = pad8(chain.in[layer + 1]) - out;
        for (int i = threadIdx.x; i < kRows * extra; i += kThreads) g[i / extra * ld_g + out + i % extra] = 0.0f;
        for (int row = threadIdx.x; row < kRows; row += kThreads)
          if (first + row < end) g[row * ld_g] += upstream.density[first + row];
        __syncthreads();
      }
      backward_layer<kUnits>(chain, layer, shared, bias_sums, sums, layer > 0 || grad_features != nullptr);
    }
    if (grad_features != nullptr)
      store_tile(shared + chain.buffer[0], row_length(chain.in[0]), chain.in[0], first, end, grad_features);
    __syncthreads();
  }

  store_gradients<kUnits>(chain, sums, bias_sums, parts + (int64_t)blockIdx.x * chain.param_count);
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

int run_chain(const Chain& chain, const Rows& rows, float* density, float* result, void* stream) {
  if (rows.range.most == 0) return 0;
  int buffer = 0;
  const size_t shared = forward_shared(chain, &buffer);
  const auto kernel = chain_kernel;
  const int blocks = resident_blocks(kernel, shared, rows.range.most);
  if (blocks < 1) return kUnsupported;
  SMERF_LAUNCH(kernel, blocks, kThreads, shared, stream, chain, rows, buffer, density, result);
  return launch_result();
}

typedef void (*BackwardKernel)(Chain, Rows, Upstream, float*, float*);

BackwardKernel choose_backward(const Chain& chain) {
  if (chain.units <= 2 * kWarps) return chain_backward_kernel<2>;
  if (chain.units <= 6 * kWarps) return chain_backward_kernel<6>;
  return nullptr;
}

// Blocks of the backward pass, or 0 if the device cannot run it.
int backward_blocks(const Chain& chain, int64_t rows) {
  const BackwardKernel kernel = choose_backward(chain);
  const size_t shared = backward_shared(chain);
  if (kernel == nullptr || (int)shared > device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) return 0;
  return resident_blocks(kernel, shared, rows);
}

int run_chain_backward(const Chain& chain, const Rows& rows, const Upstream& upstream, int64_t split, float* first,
                       float* second, float* grad_features, float* scratch, void* stream) {
  if (rows.range.most == 0) return 0;
  const int blocks = backward_blocks(chain, rows.range.most);
  if (blocks < 1) return kUnsupported;
  const BackwardKernel kernel = choose_backward(chain);
  SMERF_LAUNCH(kernel, blocks, kThreads, backward_shared(chain), stream, chain, rows, upstream, scratch, grad_features);
  SMERF_LAUNCH(reduce_kernel<>, block_count(chain.param_count, kThreads), kThreads, 0, stream, scratch, blocks,
               chain.param_count, split, first, second);
  return launch_result();
}

}  // namespace
