// Which library this is, and what the processor can run.
#include <omp.h>

#include "smerf/common.h"

SMERF_API int smerf_abi() { return SMERF_ABI; }

SMERF_API const char* smerf_isa() { return SMERF_ISA; }

// 0 baseline, 1 AVX2 + FMA, 2 AVX-512 (F, DQ, BW, VL).
SMERF_API int smerf_processor_level() {
#if defined(__x86_64__) || defined(_M_X64)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl"))
    return 2;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
  return 0;
}

SMERF_API int smerf_max_threads() { return omp_get_max_threads(); }
