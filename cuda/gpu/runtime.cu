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
