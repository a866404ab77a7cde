// Which library this is, and what the processor can run.
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "smerf/abi.h"

SMERF_API int smerf_abi() { return SMERF_ABI; }

// Bytes of a structure that callers fill in; 0 for one that no kernel here takes.
SMERF_API int64_t smerf_sizeof(const char* structure) {
  static const smerf::StructureSize sizes[] = {SMERF_SIZES};
  return smerf::structure_size(sizes, structure);
}

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

// Asks for large pages behind an array that is read at random: fewer address translations. Best effort.
SMERF_API int smerf_use_large_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t page = 1 << 21, begin = ((uintptr_t)data + page - 1) / page * page,
                  end = ((uintptr_t)data + (uintptr_t)bytes) / page * page;
  if (end <= begin) return 0;
  madvise((void*)begin, end - begin, MADV_HUGEPAGE);
  const int collapse = 25;  // MADV_COLLAPSE, Linux 6.1: at once instead of some time
  madvise((void*)begin, end - begin, collapse);
  return 1;
#else
  (void)data, (void)bytes;
  return 0;
#endif
}

// Whether this library reads tables of half floats.
SMERF_API int smerf_reads_half() {
#if defined(__F16C__)
  return 1;
#else
  return 0;
#endif
}
