// Which library this is, and what the driver says.
#include "launch.h"

SMERF_API int smerf_abi() { return SMERF_ABI; }

SMERF_API const char* smerf_error(int code) { return cudaGetErrorString((cudaError_t)code); }

// Number of devices, or minus the error code.
SMERF_API int smerf_device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess) return count;
  cudaGetLastError();
  return -(int)code;
}

// Copies n floats, grid-strided, 16 bytes at a time: what the bandwidth of a device is measured with.
__global__ void copy_kernel(const float4* __restrict__ from, float4* __restrict__ to, int64_t count) {
  for (int64_t i = smerf::thread_number(); i < count; i += (int64_t)gridDim.x * blockDim.x) to[i] = from[i];
}

SMERF_API int smerf_copy(const float* from, float* to, int64_t count, void* stream) {
  if (count < 4) return smerf::kUnsupported;
  SMERF_LAUNCH(copy_kernel, 4096, smerf::kThreads, 0, stream, (const float4*)from, (float4*)to, count / 4);
  return smerf::launch_result();
}
