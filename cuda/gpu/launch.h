// How the kernels of this folder are started, and what they ask of the device.
//
// Launchers take raw device pointers, sizes, and the stream last. They return a CUDA error code, or kUnsupported for
// sizes that the kernel is not made for.
#pragma once

#include <cuda_runtime.h>

#include "smerf/common.h"

#if !defined(SMERF_LAUNCH)
#define SMERF_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
  kernel<<<blocks, threads, shared, (cudaStream_t)(stream)>>>(__VA_ARGS__)
#endif

#if !defined(SMERF_DYNAMIC_SHARED)
#define SMERF_DYNAMIC_SHARED(name)                            \
  extern __shared__ __align__(16) unsigned char name##_raw[]; \
  float* name = reinterpret_cast<float*>(name##_raw)
#endif

// Returns call(F) for the features F of a hash table's entry that kernels are made for.
#define SMERF_RETURN_BY_FEATURES(features, call) \
  switch (features) {                            \
    case 1: return call(1);                      \
    case 2: return call(2);                      \
    case 4: return call(4);                      \
    case 8: return call(8);                      \
    default: return kUnsupported;                \
  }

namespace smerf {

constexpr int kUnsupported = -1;
constexpr int kThreads = 256;
constexpr unsigned kWholeWarp = 0xffffffffu;

inline unsigned block_count(int64_t items, int per_block) { return (unsigned)((items + per_block - 1) / per_block); }

// The thread's number in a one-dimensional grid.
__device__ __forceinline__ int64_t thread_number() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }

// Adds four floats at an address aligned to 16 bytes: one operation where the device has it.
__device__ __forceinline__ void add_to4(float* address, const float4& value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  atomicAdd(reinterpret_cast<float4*>(address), value);
#else
  add_to(address, value.x);
  add_to(address + 1, value.y);
  add_to(address + 2, value.z);
  add_to(address + 3, value.w);
#endif
}

inline int launch_result() { return (int)cudaGetLastError(); }

}  // namespace smerf
