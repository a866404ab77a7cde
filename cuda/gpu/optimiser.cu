// Adam that touches only the entries with a gradient, on GPUs: one thread a record.
#include "launch.h"

namespace {

using namespace smerf;

struct Adam {
  float lr, beta1, beta2, eps, inv1, inv2, decay;
};

// kWidth is the number of floats of a record, or 0 where it is only known at run time.
template <int kWidth>
__global__ void __launch_bounds__(kThreads)
    sparse_adam_kernel(float* __restrict__ values, float* __restrict__ gradient, float* __restrict__ moment1,
                       float* __restrict__ moment2, int64_t records, int run_time_width, Adam adam) {
  const int64_t record = thread_number();
  if (record >= records) return;
  const int width = kWidth ? kWidth : run_time_width;
  const int64_t offset = record * width;
  float* g = gradient + offset;
  float size = 0.0f;
#pragma unroll
  for (int i = 0; i < width; ++i) size += fabsf(g[i]);
  if (size == 0.0f) return;
  const bool is_sane = size <= 3e38f;
  for (int i = 0; i < width; ++i) {
    if (is_sane) {
      const float value = values[offset + i], slope = g[i] + adam.decay * value;
      const float first = adam.beta1 * moment1[offset + i] + (1.0f - adam.beta1) * slope;
      const float second = adam.beta2 * moment2[offset + i] + (1.0f - adam.beta2) * slope * slope;
      moment1[offset + i] = first;
      moment2[offset + i] = second;
      values[offset + i] = value - adam.lr * (first * adam.inv1) / (sqrtf(second * adam.inv2) + adam.eps);
    }
    g[i] = 0.0f;
  }
}

}  // namespace

// Arguments as in cuda/cpu/optimiser.cpp.
SMERF_API int smerf_sparse_adam(float* values, float* gradient, float* moment1, float* moment2, int64_t records,
                                int width, float lr, float beta1, float beta2, float eps, float correction1,
                                float correction2, float decay, void* stream) {
  if (records == 0 || width == 0) return 0;
  const Adam adam = {lr, beta1, beta2, eps, 1.0f / correction1, 1.0f / correction2, decay};
#define SMERF_CALL(W)                                                                                                 \
  SMERF_LAUNCH(sparse_adam_kernel<W>, block_count(records, kThreads), kThreads, 0, stream, values, gradient, moment1, \
               moment2, records, width, adam)
  switch (width) {
    case 1: SMERF_CALL(1); break;
    case 2: SMERF_CALL(2); break;
    case 4: SMERF_CALL(4); break;
    case 8: SMERF_CALL(8); break;
    default: SMERF_CALL(0);
  }
#undef SMERF_CALL
  return launch_result();
}
