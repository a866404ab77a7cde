// Runs the kernels of cuda/gpu on the CPU, so that their sources can be tested where there is no GPU.
//
// Stands in for the toolkit's header when g++ compiles the .cu files: every thread of a block is a fiber; fibers take
// turns at barriers and at exchanges within a warp, blocks follow one another. Memory is the host's. A barrier that some
// thread does not reach ends the program with a message.
#pragma once

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <vector>

#define __global__ static
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__ static
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct uint2 {
  unsigned x, y;
};
struct float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

typedef void* cudaStream_t;
enum cudaError_t { cudaSuccess = 0, cudaErrorInsufficientDriver = 35 };
enum { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount, cudaDevAttrMaxSharedMemoryPerBlockOptin };
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : 232448;
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, int, int) {
  return cudaSuccess;
}
template <class Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  return *blocks = 1, cudaSuccess;
}

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr size_t kStack = 128 * 1024;
constexpr size_t kPayload = 64;

struct Warp {
  long generation = 0;
  int arrived = 0;
  alignas(16) unsigned char slots[2][32][kPayload];
};

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool is_done = false;
};

struct State {
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  ucontext_t scheduler;
  std::function<void()> body;
  std::vector<float> shared;
  unsigned current = 0, threads = 0, alive = 0, arrived = 0;
  long generation = 0, events = 0;
};

inline State& state() {
  static State one;
  return one;
}

inline void yield() {
  State& s = state();
  swapcontext(&s.fibers[s.current].context, &s.scheduler);
}

inline void block_barrier() {
  State& s = state();
  const long mine = s.generation;
  if (++s.arrived == s.threads) {
    s.arrived = 0;
    ++s.generation;
    ++s.events;
  }
  while (s.generation == mine) yield();
}

// Every lane of the warp gives a value and gets those of all lanes.
template <class T>
void exchange(const T& value, T* all) {
  static_assert(sizeof(T) <= kPayload, "payload");
  State& s = state();
  const unsigned lane = s.current % 32;
  Warp& warp = s.warps[s.current / 32];
  const unsigned size = s.threads - s.current / 32 * 32 < 32 ? s.threads - s.current / 32 * 32 : 32;
  const long mine = warp.generation;
  memcpy(warp.slots[mine & 1][lane], &value, sizeof(T));
  if (++warp.arrived == (int)size) {
    warp.arrived = 0;
    ++warp.generation;
    ++s.events;
  }
  while (warp.generation == mine) yield();
  for (unsigned i = 0; i < size; ++i) memcpy(&all[i], warp.slots[mine & 1][i], sizeof(T));
}

inline void enter() {
  State& s = state();
  s.body();
  s.fibers[s.current].is_done = true;
  --s.alive;
  ++s.events;
}

inline void run_block() {
  State& s = state();
  s.alive = s.threads;
  s.arrived = 0;
  for (Warp& warp : s.warps) warp.arrived = 0;
  for (unsigned t = 0; t < s.threads; ++t) {
    Fiber& fiber = s.fibers[t];
    fiber.is_done = false;
    if (fiber.stack.empty()) fiber.stack.resize(kStack);
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = kStack;
    fiber.context.uc_link = &s.scheduler;
    makecontext(&fiber.context, (void (*)())enter, 0);
  }
  for (bool forward = true; s.alive; forward = !forward) {
    const long before = s.events;
    for (unsigned i = 0; i < s.threads; ++i) {
      // Turning the order round shows code that counts on one.
      s.current = forward ? i : s.threads - 1 - i;
      if (s.fibers[s.current].is_done) continue;
      threadIdx.x = s.current;
      swapcontext(&s.scheduler, &s.fibers[s.current].context);
    }
    if (s.events == before) {
      fprintf(stderr, "emulator: a barrier or a warp exchange was not reached by all threads\n");
      abort();
    }
  }
}

inline void launch(dim3 blocks, unsigned threads, size_t shared, std::function<void()> body) {
  State& s = state();
  if (blocks.x == 0 || blocks.y == 0 || threads == 0 || threads > 1024) {
    fprintf(stderr, "emulator: a launch of %u x %u blocks of %u threads\n", blocks.x, blocks.y, threads);
    abort();
  }
  s.threads = threads;
  s.body = body;
  if (s.fibers.size() < threads) s.fibers.resize(threads);
  s.warps.assign((threads + 31) / 32, Warp());
  // What no thread has written is not a number.
  s.shared.assign(shared / sizeof(float) + 4, NAN);
  gridDim = blocks;
  blockDim = dim3(threads);
  for (blockIdx.y = 0; blockIdx.y < blocks.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < blocks.x; ++blockIdx.x) run_block();
}

inline float* aligned_shared() {
  float* start = state().shared.data();
  while ((uintptr_t)start % 16) ++start;
  return start;
}

// D = A B + C of 16 x 8 x 8 values, as PTX lays them out over a warp (mma.m16n8k8, tf32).
inline void mma_m16n8k8(float* c, const float* a, const float* b) {
  struct Operands {
    float a[4], b[2];
  } mine, all[32];
  memcpy(mine.a, a, sizeof(mine.a));
  memcpy(mine.b, b, sizeof(mine.b));
  exchange(mine, all);
  float left[16][8], right[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane / 4, in_group = lane % 4;
    for (int i = 0; i < 4; ++i) left[group + 8 * (i & 1)][in_group + 4 * (i >> 1)] = all[lane].a[i];
    for (int i = 0; i < 2; ++i) right[in_group + 4 * i][group] = all[lane].b[i];
  }
  const int lane = state().current % 32, group = lane / 4, in_group = lane % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + 8 * (i >> 1), column = 2 * in_group + (i & 1);
    for (int k = 0; k < 8; ++k) c[i] += left[row][k] * right[k][column];
  }
}

// Rounds to the 10 bits of mantissa that tensor cores read.
inline float round_tf32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits = (bits + 0x1000u) & 0xffffe000u;
  memcpy(&x, &bits, 4);
  return x;
}

}  // namespace emulator

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp(unsigned = 0xffffffffu) {
  char all[32];
  emulator::exchange('x', all);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  T all[32];
  emulator::exchange(value, all);
  return all[(threadIdx.x % 32) ^ mask];
}
template <class T>
T __shfl_sync(unsigned, T value, int lane, int = 32) {
  T all[32];
  emulator::exchange(value, all);
  return all[lane & 31];
}
template <class T>
T __shfl_up_sync(unsigned, T value, unsigned delta, int = 32) {
  T all[32];
  const unsigned lane = threadIdx.x % 32;
  emulator::exchange(value, all);
  return lane >= delta ? all[lane - delta] : value;
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned delta, int = 32) {
  T all[32];
  const unsigned lane = threadIdx.x % 32;
  emulator::exchange(value, all);
  return lane + delta < 32 ? all[lane + delta] : value;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  int all[32];
  emulator::exchange(predicate, all);
  unsigned bits = 0;
  for (int i = 0; i < 32; ++i) bits |= (all[i] ? 1u : 0u) << i;
  return bits;
}
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline float __ldg(const float* address) { return *address; }
template <class T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address = before + value;
  return before;
}
inline int atomicMax(int* address, int value) {
  const int before = *address;
  if (value > before) *address = value;
  return before;
}
inline int __float_as_int(float value) {
  int bits;
  memcpy(&bits, &value, 4);
  return bits;
}
inline float4 atomicAdd(float4* address, const float4& value) {
  if ((uintptr_t)address % 16) {
    fprintf(stderr, "emulator: a misaligned addition of four floats\n");
    abort();
  }
  *address = {address->x + value.x, address->y + value.y, address->z + value.z, address->w + value.w};
  return value;
}

#define SMERF_LAUNCH(kernel, blocks, threads, shared, stream, ...) \
  emulator::launch(blocks, threads, shared, [&] { kernel(__VA_ARGS__); })
#define SMERF_DYNAMIC_SHARED(name) float* name = emulator::aligned_shared()
#define SMERF_MMA(c, a, b) emulator::mma_m16n8k8(c, a, b)
#if defined(SMERF_EMULATE_TF32)
#define SMERF_TO_TF32(x) emulator::round_tf32(x)
#else
#define SMERF_TO_TF32(x) (x)
#endif
