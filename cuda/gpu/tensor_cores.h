// Matrix products of small tiles on tensor cores, in TF32: operands of 10 bits of mantissa, sums in float32.
//
// A warp holds a 16 x 8 tile A, an 8 x 8 tile B and a 16 x 8 tile C as PTX lays out mma.m16n8k8: with g = lane / 4 and
// t = lane % 4, A is (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4); B is (t, g), (t + 4, g); C is (g, 2t), (g, 2t +
// 1), (g + 8, 2t), (g + 8, 2t + 1).
#pragma once

#include "launch.h"

namespace smerf {

// Nearest value that tensor cores can read.
__device__ __forceinline__ float to_tf32(float x) {
#if defined(SMERF_TO_TF32)
  return SMERF_TO_TF32(x);
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#endif
}

// c += a b; the operands are TF32 values.
__device__ __forceinline__ void multiply(float (&c)[4], const float (&a)[4], const float (&b)[2]) {
#if defined(SMERF_MMA)
  SMERF_MMA(c, a, b);
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#endif
}

}  // namespace smerf
