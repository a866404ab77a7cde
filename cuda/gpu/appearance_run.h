// The deferred appearance network on GPUs: one warp a run of rays, one lane an output.
//
// A warp keeps the network of the place that its rays start from in shared memory, mixed from the eight vertices
// around, and in the backward pass the sum of that network's gradients; it turns to the vertices again where the place
// changes.
#pragma once

#include "smerf/appearance.h"
#include "warp.h"

namespace {

using namespace smerf;

// Of a block; a block of wide networks would take too much shared memory.
template <int W>
constexpr int kAppearanceWarps = W <= 16   ? 4
                                 : W <= 32 ? 2
                                           : 1;

// What a warp has in shared memory.
template <int W>
struct Desk {
  float params[AppearanceLayout<W>::kParams];
  float input[kAppearanceInputs], first[W], second[W];
};

template <int W>
struct BackwardDesk : Desk<W> {
  float gradient[AppearanceLayout<W>::kParams];
  float up_first[W], up_second[W];
};

// Consecutive rays of one warp.
struct Run {
  int64_t begin, end;
};

template <int W>
__device__ __forceinline__ Run run_of_warp(const AppearanceRays& rays, int length) {
  const int64_t begin = ((int64_t)blockIdx.x * kAppearanceWarps<W> + threadIdx.x / 32) * length;
  return {begin, begin + length < rays.rays ? begin + length : rays.rays};
}

// Where the rays of a warp start.
class Place {
 public:
  __device__ __forceinline__ bool is_at(const float* position, int lattice) const {
    return is_set_ && (lattice == 1 ||
                       (position[0] == position_[0] && position[1] == position_[1] && position[2] == position_[2]));
  }

  template <int W>
  __device__ __forceinline__ void move(const float* position, const AppearanceNetworks& networks, Desk<W>& desk) {
    constexpr int kParams = AppearanceLayout<W>::kParams;
    is_set_ = true;
    for (int c = 0; c < 3; ++c) position_[c] = position[c];
    corners_ = lattice_corners(position, networks.lattice);
    __syncwarp();
    for (int i = threadIdx.x % 32; i < kParams; i += 32) {
      float sum = 0.0f;
#pragma unroll
      for (int v = 0; v < 8; ++v)
        sum += corners_.weight[v] * __ldg(networks.params + (int64_t)corners_.vertex[v] * kParams + i);
      desk.params[i] = sum;
    }
    __syncwarp();
  }

  // Hands the gradients on to the vertices, and starts anew; at first there is nothing to hand on.
  template <int W>
  __device__ __forceinline__ void leave(BackwardDesk<W>& desk, float* grad_params) const {
    constexpr int kParams = AppearanceLayout<W>::kParams;
    __syncwarp();
    for (int i = threadIdx.x % 32; i < kParams; i += 32) {
      const float sum = desk.gradient[i];
      desk.gradient[i] = 0.0f;
      if (!is_set_) continue;
#pragma unroll
      for (int v = 0; v < 8; ++v)
        if (corners_.weight[v] != 0.0f)
          add_to(grad_params + (int64_t)corners_.vertex[v] * kParams + i, corners_.weight[v] * sum);
    }
    __syncwarp();
  }

 private:
  LatticeCorners corners_;
  float position_[3];
  bool is_set_ = false;
};

// One layer and its ELU: y (W) from x (in). Where there are fewer outputs than lanes, lanes share an output's inputs.
template <int W>
__device__ __forceinline__ void dense(const float* x, int in, const float* kernel, const float* bias, float* y) {
  constexpr int kColumns = W < 32 ? W : 32, kParts = 32 / kColumns;
  const int self = threadIdx.x % 32, part = self / kColumns;
#pragma unroll
  for (int j = self % kColumns; j < W; j += kColumns) {
    float sum = part ? 0.0f : bias[j];
    for (int i = part; i < in; i += kParts) sum += x[i] * kernel[i * W + j];
#pragma unroll
    for (int mask = kColumns; mask < 32; mask *= 2) sum += __shfl_xor_sync(kWholeWarp, sum, mask);
    if (part == 0) y[j] = elu(sum);
  }
  __syncwarp();
}

// All lanes get the colour.
template <int W>
__device__ __forceinline__ void evaluate(const AppearanceRays& rays, int64_t r, Desk<W>& desk, float (&colour)[3]) {
  using At = AppearanceLayout<W>;
  const int self = threadIdx.x % 32, axis = self - kAppearanceFeatures;
  const float* p = desk.params;
  __syncwarp();
  if (self < kAppearanceFeatures)
    desk.input[self] = rays.features[r * kAppearanceFeatures + self];
  else if (axis < 3)
    encode_axis(rays.directions[3 * r + axis], axis, desk.input + kAppearanceFeatures);
  __syncwarp();
  dense<W>(desk.input, kAppearanceInputs, p + At::kKernel0, p + At::kBias0, desk.first);
  dense<W>(desk.first, W, p + At::kKernel1, p + At::kBias1, desk.second);
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    float sum = 0.0f;
    for (int i = self; i < W; i += 32) sum += desk.second[i] * p[At::kKernel2 + 3 * i + c];
    colour[c] = sigmoid_of(sum_lanes(sum) + p[At::kBias2 + c]);
  }
}

// gradient (in, W) += x (in) up (W).
template <int W>
__device__ __forceinline__ void add_outer(const float* x, int in, const float* up, float* gradient) {
  for (int i = threadIdx.x % 32; i < in * W; i += 32) gradient[i] += x[i / W] * up[i % W];
}

// Row i of the kernel times up (W). Lanes start at different outputs, so that they read different banks.
template <int W>
__device__ __forceinline__ float pull_back(const float* kernel, int i, const float* up) {
  float sum = 0.0f;
  for (int k = 0; k < W; ++k) {
    const int j = (k + i) % W;
    sum += kernel[i * W + j] * up[j];
  }
  return sum;
}

// up (3): gradient of the colour. Adds to the desk's gradient; writes that of the features (14).
template <int W>
__device__ __forceinline__ void differentiate(const float (&colour)[3], const float* up, BackwardDesk<W>& desk,
                                              float* up_features) {
  using At = AppearanceLayout<W>;
  const int self = threadIdx.x % 32;
  const float* p = desk.params;
  float z[3];
#pragma unroll
  for (int c = 0; c < 3; ++c) {
    z[c] = up[c] * colour[c] * (1.0f - colour[c]);
    if (self == c) desk.gradient[At::kBias2 + c] += z[c];
  }
  for (int i = self; i < W; i += 32) {
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      desk.gradient[At::kKernel2 + 3 * i + c] += desk.second[i] * z[c];
      sum += p[At::kKernel2 + 3 * i + c] * z[c];
    }
    desk.up_second[i] = sum *= elu_slope(desk.second[i]);
    desk.gradient[At::kBias1 + i] += sum;
  }
  __syncwarp();
  add_outer<W>(desk.first, W, desk.up_second, desk.gradient + At::kKernel1);
  for (int i = self; i < W; i += 32) {
    const float up_first = pull_back<W>(p + At::kKernel1, i, desk.up_second) * elu_slope(desk.first[i]);
    desk.up_first[i] = up_first;
    desk.gradient[At::kBias0 + i] += up_first;
  }
  __syncwarp();
  add_outer<W>(desk.input, kAppearanceInputs, desk.up_first, desk.gradient + At::kKernel0);
  if (self < kAppearanceFeatures) up_features[self] = pull_back<W>(p + At::kKernel0, self, desk.up_first);
}

template <int W>
__global__ void __launch_bounds__(32 * kAppearanceWarps<W>)
    appearance_kernel(const __grid_constant__ AppearanceRays rays, const __grid_constant__ AppearanceNetworks networks,
                      int length, float* __restrict__ colour) {
  SMERF_DYNAMIC_SHARED(shared);
  Desk<W>& desk = reinterpret_cast<Desk<W>*>(shared)[threadIdx.x / 32];
  const Run run = run_of_warp<W>(rays, length);
  const int self = threadIdx.x % 32;
  Place place;
  for (int64_t r = run.begin; r < run.end; ++r) {
    const float* position = rays.positions + 3 * r;
    if (!place.is_at(position, networks.lattice)) place.move(position, networks, desk);
    float rgb[3];
    evaluate(rays, r, desk, rgb);
#pragma unroll
    for (int c = 0; c < 3; ++c)
      if (self == c) colour[3 * r + c] = rgb[c];
  }
}

template <int W>
__global__ void __launch_bounds__(32 * kAppearanceWarps<W>)
    appearance_backward_kernel(const __grid_constant__ AppearanceRays rays,
                               const __grid_constant__ AppearanceNetworks networks, int length,
                               const float* __restrict__ up_colour, float* __restrict__ grad_params,
                               float* __restrict__ grad_features) {
  SMERF_DYNAMIC_SHARED(shared);
  BackwardDesk<W>& desk = reinterpret_cast<BackwardDesk<W>*>(shared)[threadIdx.x / 32];
  const Run run = run_of_warp<W>(rays, length);
  Place place;
  for (int64_t r = run.begin; r < run.end; ++r) {
    const float* position = rays.positions + 3 * r;
    if (!place.is_at(position, networks.lattice)) {
      place.leave(desk, grad_params);
      place.move(position, networks, desk);
    }
    float rgb[3];
    evaluate(rays, r, desk, rgb);
    differentiate(rgb, up_colour + 3 * r, desk, grad_features + r * kAppearanceFeatures);
  }
  if (run.begin < run.end) place.leave(desk, grad_params);
}

// How a kernel is spread over the device: runs as long as they can be while every warp has one.
struct Spread {
  int blocks, length;
};

template <class Kernel>
Spread spread(Kernel kernel, int warps, size_t shared, int64_t rays) {
  int device = 0, processors = 0, per_processor = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
  cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_processor, kernel, 32 * warps, shared);
  const int64_t resident = (int64_t)processors * per_processor * warps;
  if (resident < 1) return {0, 0};
  const int64_t length = (rays + resident - 1) / resident;
  return {(int)block_count(rays, (int)length * warps), (int)length};
}

template <int W>
int run_appearance(const AppearanceRays& rays, const AppearanceNetworks& networks, float* colour, void* stream) {
  const size_t shared = sizeof(Desk<W>) * kAppearanceWarps<W>;
  const auto kernel = appearance_kernel<W>;
  const Spread over = spread(kernel, kAppearanceWarps<W>, shared, rays.rays);
  if (over.blocks < 1) return kUnsupported;
  SMERF_LAUNCH(kernel, over.blocks, 32 * kAppearanceWarps<W>, shared, stream, rays, networks, over.length, colour);
  return launch_result();
}

template <int W>
int run_appearance_backward(const AppearanceRays& rays, const AppearanceNetworks& networks, const float* up_colour,
                            float* grad_params, float* grad_features, void* stream) {
  const size_t shared = sizeof(BackwardDesk<W>) * kAppearanceWarps<W>;
  const auto kernel = appearance_backward_kernel<W>;
  const Spread over = spread(kernel, kAppearanceWarps<W>, shared, rays.rays);
  if (over.blocks < 1) return kUnsupported;
  SMERF_LAUNCH(kernel, over.blocks, 32 * kAppearanceWarps<W>, shared, stream, rays, networks, over.length, up_colour,
               grad_params, grad_features);
  return launch_result();
}

}  // namespace
