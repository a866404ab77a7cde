// The hash form of the student on GPUs: from the rows of vertices to their bytes in one go, and the way back.
//
// A block encodes a tile of vertices into shared memory, takes it through the network there (mlp_chain.h), and writes
// bytes. The backward pass evaluates a tile anew and adds to the table with atomic operations, in no fixed order.
#include "mlp_chain.h"
#include "smerf/vertices.h"

namespace {

using namespace smerf;

constexpr int kMaxLevels = 32;
constexpr int kRecord = 32;  // floats of a vertex record, its gradient first

struct Encoding {
  HashLevel level[kMaxLevels];
  const float* table;
  int count;
  float gain;
};

struct Bytes {
  uint8_t *voxels, *planes;
};

struct Records {
  float *voxels, *planes;
  float density_range, feature_range;
};

template <int F>
struct alignas(F == 1 ? 4 : (F == 2 ? 8 : 16)) Entry {
  float v[F];
};

// The network's inputs at a tile of vertices; missing rows and padding are zero.
template <int F>
__device__ void encode_tile(const Encoding& encoding, const VertexList& list, int64_t first, float* x, int ld) {
  const int levels = encoding.count, padding = pad8(levels * F) - levels * F;
  for (int i = threadIdx.x; i < kRows * levels; i += kThreads) {
    const int row = i / levels, l = i % levels;
    const HashLevel level = encoding.level[l];
    Entry<F> sum = {};
    if (first + row < vertex_count(list)) {
      float position[3], weights[8];
      uint32_t entries[8];
      vertex_position(list, first + row, position);
      level_corners(level, position, entries, weights);
      const Entry<F>* rows = reinterpret_cast<const Entry<F>*>(encoding.table) + level.offset;
#pragma unroll
      for (int corner = 0; corner < 8; ++corner) {
        const Entry<F> value = rows[entries[corner]];
#pragma unroll
        for (int f = 0; f < F; ++f) sum.v[f] += weights[corner] * value.v[f];
      }
    }
#pragma unroll
    for (int f = 0; f < F; ++f) x[row * ld + l * F + f] = encoding.gain * sum.v[f];
  }
  for (int i = threadIdx.x; i < kRows * padding; i += kThreads) x[i / padding * ld + levels * F + i % padding] = 0.0f;
}

// Adds the inputs' gradients g to the table's.
template <int F>
__device__ void scatter_tile(const Encoding& encoding, const VertexList& list, int64_t first, const float* g, int ld,
                             float* gradient) {
  const int levels = encoding.count;
  for (int i = threadIdx.x; i < kRows * levels; i += kThreads) {
    const int row = i / levels, l = i % levels;
    if (first + row >= vertex_count(list)) continue;
    const HashLevel level = encoding.level[l];
    float position[3], weights[8], up[F];
    uint32_t entries[8];
    vertex_position(list, first + row, position);
    level_corners(level, position, entries, weights);
#pragma unroll
    for (int f = 0; f < F; ++f) up[f] = encoding.gain * g[row * ld + l * F + f];
#pragma unroll
    for (int corner = 0; corner < 8; ++corner) {
      float* to = gradient + (level.offset + entries[corner]) * F;
      const float w = weights[corner];
      if constexpr (F % 4 == 0) {
#pragma unroll
        for (int f = 0; f < F; f += 4)
          add_to4(to + f, make_float4(w * up[f], w * up[f + 1], w * up[f + 2], w * up[f + 3]));
      } else {
#pragma unroll
        for (int f = 0; f < F; ++f) add_to(to + f, w * up[f]);
      }
    }
  }
}

template <int F>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const __grid_constant__ Chain chain, const __grid_constant__ Encoding encoding,
                   const __grid_constant__ VertexList list, int buffer, const __grid_constant__ Bytes bytes) {
  SMERF_DYNAMIC_SHARED(shared);
  const int64_t count = vertex_count(list);
  for (int64_t first = (int64_t)blockIdx.x * kRows; first < count; first += (int64_t)gridDim.x * kRows) {
    float *x = shared, *y = shared + buffer;
    encode_tile<F>(encoding, list, first, x, row_length(chain.in[0]));
    __syncthreads();
    for (int layer = 0; layer < chain.layers; ++layer) {
      forward_layer(chain, layer, x, y, buffer_width(chain, layer));
      __syncthreads();
      float* swap = x;
      x = y;
      y = swap;
    }
    for (int i = threadIdx.x; i < kRows * kChannels; i += kThreads) {
      const int row = i / kChannels, c = i % kChannels;
      if (first + row >= count) continue;
      const float logit = x[row * row_length(kChannels) + c];
      vertex_row(list, first + row, bytes.voxels, bytes.planes, kChannels)[c] =
          (uint8_t)lrintf(255.0f / (1.0f + fast_exp(-logit)));
    }
    __syncthreads();
  }
}

// Replaces a tile's logits by their gradients, which are taken out of the records.
__device__ void take_gradients(const VertexList& list, const Records& records, int64_t first, float* logits, int ld) {
  for (int i = threadIdx.x; i < kRows * kChannels; i += kThreads) {
    const int row = i / kChannels, c = i % kChannels;
    float value = 0.0f;
    if (first + row < vertex_count(list)) {
      float* gradient = vertex_row(list, first + row, records.voxels, records.planes, kRecord) + c;
      const float share = 1.0f / (1.0f + fast_exp(-logits[row * ld + c]));
      value = *gradient * (c ? records.feature_range : records.density_range) * share * (1.0f - share);
      *gradient = 0.0f;
    }
    logits[row * ld + c] = fabsf(value) <= 3e38f ? value : 0.0f;  // rounding to a byte counts as the identity
  }
}

template <int kUnits, int F>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const __grid_constant__ Chain chain, const __grid_constant__ Encoding encoding,
                    const __grid_constant__ VertexList list, const __grid_constant__ Records records,
                    float* __restrict__ parts, float* __restrict__ grad_table) {
  SMERF_DYNAMIC_SHARED(shared);
  float* bias_sums = shared;
  float sums[kUnits][2][4] = {};
  for (int i = threadIdx.x; i < chain.buffer[0]; i += kThreads) bias_sums[i] = 0.0f;
  const int64_t count = vertex_count(list);
  float* inputs = shared + chain.buffer[0];
  for (int64_t first = (int64_t)blockIdx.x * kRows; first < count; first += (int64_t)gridDim.x * kRows) {
    encode_tile<F>(encoding, list, first, inputs, row_length(chain.in[0]));
    __syncthreads();
    for (int layer = 0; layer < chain.layers; ++layer) {
      forward_layer(chain, layer, shared + chain.buffer[layer], shared + chain.buffer[layer + 1],
                    buffer_width(chain, layer));
      __syncthreads();
    }
    take_gradients(list, records, first, shared + chain.buffer[chain.layers], row_length(kChannels));
    __syncthreads();
    for (int layer = chain.layers - 1; layer >= 0; --layer)
      backward_layer<kUnits>(chain, layer, shared, bias_sums, sums, true);
    scatter_tile<F>(encoding, list, first, inputs, row_length(chain.in[0]), grad_table);
    __syncthreads();
  }
  store_gradients<kUnits>(chain, sums, bias_sums, parts + (int64_t)blockIdx.x * chain.param_count);
}

template <int F>
using BackwardKernel = void (*)(Chain, Encoding, VertexList, Records, float*, float*);

template <int F>
BackwardKernel<F> choose_backward(const Chain& chain) {
  if (chain.units <= 2 * kWarps) return backward_kernel<2, F>;
  if (chain.units <= 6 * kWarps) return backward_kernel<6, F>;
  return nullptr;
}

// Blocks of the backward pass, or 0 if the device cannot run it.
template <int F>
int backward_blocks(const Chain& chain, int64_t vertices) {
  const auto kernel = choose_backward<F>(chain);
  const size_t shared = backward_shared(chain);
  if (kernel == nullptr || (int)shared > device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) return 0;
  return resident_blocks(kernel, shared, vertices);
}

bool make_chain(Chain& chain, const int32_t* dims, int layers, const float* params) {
  chain = {};
  chain.join = -1;
  if (!append(chain, dims, layers, params) || dims[layers] != kChannels) return false;
  lay_out(chain);
  return true;
}

Encoding make_encoding(const VertexDecoder& decoder) {
  Encoding encoding = {};
  encoding.table = decoder.table;
  encoding.count = decoder.level_count;
  encoding.gain = decoder.gain;
  for (int l = 0; l < decoder.level_count; ++l) encoding.level[l] = decoder.levels[l];
  return encoding;
}

template <int F>
int run_forward(const Chain& chain, const VertexDecoder& decoder, const VertexList& list, const Bytes& bytes,
                void* stream) {
  int buffer = 0;
  const size_t shared = forward_shared(chain, &buffer);
  const auto kernel = forward_kernel<F>;
  const int blocks = resident_blocks(kernel, shared, vertex_count(list));
  if (blocks < 1) return kUnsupported;
  SMERF_LAUNCH(kernel, blocks, kThreads, shared, stream, chain, make_encoding(decoder), list, buffer, bytes);
  return launch_result();
}

template <int F>
int run_backward(const Chain& chain, const VertexDecoder& decoder, const VertexList& list, const Records& records,
                 float* grad_table, float* grad_params, float* scratch, void* stream) {
  const int blocks = backward_blocks<F>(chain, vertex_count(list));
  if (blocks < 1) return kUnsupported;
  const auto kernel = choose_backward<F>(chain);
  SMERF_LAUNCH(kernel, blocks, kThreads, backward_shared(chain), stream, chain, make_encoding(decoder), list, records,
               scratch, grad_table);
  SMERF_LAUNCH(reduce_kernel<>, block_count(chain.param_count, kThreads), kThreads, 0, stream, scratch, blocks,
               chain.param_count, chain.param_count, grad_params, nullptr);
  return launch_result();
}

}  // namespace

// Floats of scratch memory that the backward pass needs on the current device, or -1 for what the kernels do not take.
SMERF_API int64_t smerf_vertex_decode_scratch(const int32_t* dims, int layers, int level_count, int features) {
  Chain chain;
  if (level_count > kMaxLevels || !make_chain(chain, dims, layers, nullptr)) return -1;
  const auto blocks = [&]() -> int {
#define SMERF_CALL(F) backward_blocks<F>(chain, INT32_MAX)
    SMERF_RETURN_BY_FEATURES(features, SMERF_CALL)
#undef SMERF_CALL
  };
  const int count = blocks();
  return count < 1 ? -1 : count * chain.param_count;
}

// Arguments as in cuda/cpu/vertex_decode.cpp; `list` and `decoder` are in host memory, as are the levels and dims that
// the latter points to; everything else is on the device. scratch: floats as smerf_vertex_decode_scratch says.
SMERF_API int smerf_vertex_decode_forward(const VertexList* list, const VertexDecoder* decoder, uint8_t* voxels,
                                          uint8_t* planes, void* stream) {
  Chain chain;
  if (decoder->level_count > kMaxLevels || !make_chain(chain, decoder->dims, decoder->layers, decoder->params))
    return kUnsupported;
  if (vertex_count(*list) == 0) return 0;
#define SMERF_CALL(F) run_forward<F>(chain, *decoder, *list, {voxels, planes}, stream)
  SMERF_RETURN_BY_FEATURES(decoder->features, SMERF_CALL)
#undef SMERF_CALL
}

SMERF_API int smerf_vertex_decode_backward(const VertexList* list, const VertexDecoder* decoder, float* voxels,
                                           float* planes, float density_range, float feature_range, float* grad_table,
                                           float* grad_params, float* scratch, void* stream) {
  Chain chain;
  if (decoder->level_count > kMaxLevels || !make_chain(chain, decoder->dims, decoder->layers, decoder->params))
    return kUnsupported;
  if (vertex_count(*list) == 0) return 0;
  const Records records = {voxels, planes, density_range, feature_range};
#define SMERF_CALL(F) run_backward<F>(chain, *decoder, *list, records, grad_table, grad_params, scratch, stream)
  SMERF_RETURN_BY_FEATURES(decoder->features, SMERF_CALL)
#undef SMERF_CALL
}
