// Macros and small helpers shared by every kernel, on CPUs (g++) and GPUs (nvcc).
#pragma once

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__)
#define SMERF_FN __host__ __device__ __forceinline__
#else
#define SMERF_FN static inline __attribute__((always_inline))
#endif

#define SMERF_API extern "C" __attribute__((visibility("default")))

// Bumped whenever an exported signature or structure changes; the loader refuses another number.
#define SMERF_ABI 6

namespace smerf {

// fminf and fmaxf are library calls where infinities are kept; these are one instruction, and return b for what is
// not a number in a.
SMERF_FN float smaller(float a, float b) { return a < b ? a : b; }
SMERF_FN float larger(float a, float b) { return a > b ? a : b; }
SMERF_FN float clampf(float x, float lo, float hi) { return x < lo ? lo : (x > hi ? hi : x); }
SMERF_FN int clampi(int x, int lo, int hi) { return x < lo ? lo : (x > hi ? hi : x); }
// The whole part of a float, at least lo and at most hi; lo for NaN. An integer need not hold what a float does.
SMERF_FN int clamp_whole(float x, int lo, int hi) { return (int)smaller(larger(x, (float)lo), (float)hi); }

// On a CPU each writer owns its range; on a GPU many threads add to one address.
SMERF_FN void add_to(float* address, float value) {
#if defined(__CUDA_ARCH__)
  atomicAdd(address, value);
#else
  *address += value;
#endif
}

}  // namespace smerf
