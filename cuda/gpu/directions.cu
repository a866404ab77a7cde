// Direction encodings on GPUs: one thread a direction.
#include "launch.h"
#include "smerf/directions.h"

namespace {

using namespace smerf;

__global__ void __launch_bounds__(kThreads)
    forward_kernel(int kind, const float* __restrict__ directions, int64_t count, float* __restrict__ out) {
  const int64_t i = thread_number();
  if (i >= count) return;
  if (kind == kSpherical)
    spherical_harmonics(directions + 3 * i, out + 16 * i);
  else
    sinusoids(directions + 3 * i, out + 27 * i);
}

__global__ void __launch_bounds__(kThreads)
    backward_kernel(int kind, const float* __restrict__ directions, int64_t count, const float* __restrict__ upstream,
                    float* __restrict__ gradient) {
  const int64_t i = thread_number();
  if (i >= count) return;
  if (kind == kSpherical)
    spherical_harmonics_backward(directions + 3 * i, upstream + 16 * i, gradient + 3 * i);
  else
    sinusoids_backward(directions + 3 * i, upstream + 27 * i, gradient + 3 * i);
}

}  // namespace

// Arguments as in cuda/cpu/directions.cpp.
SMERF_API int smerf_encode_directions_forward(int kind, const float* directions, int64_t count, float* out,
                                              void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(forward_kernel, block_count(count, kThreads), kThreads, 0, stream, kind, directions, count, out);
  return launch_result();
}

SMERF_API int smerf_encode_directions_backward(int kind, const float* directions, int64_t count, const float* upstream,
                                               float* gradient, void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(backward_kernel, block_count(count, kThreads), kThreads, 0, stream, kind, directions, count, upstream,
               gradient);
  return launch_result();
}
