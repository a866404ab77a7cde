// Which library this is, and what the driver says.
#include "launch.h"
#include "smerf/abi.h"

SMERF_API int smerf_abi() { return SMERF_ABI; }

// Bytes of a structure that callers fill in; 0 for one that no kernel here takes.
SMERF_API int64_t smerf_sizeof(const char* structure) {
  static const smerf::StructureSize sizes[] = {SMERF_SIZES};
  return smerf::structure_size(sizes, structure);
}

SMERF_API const char* smerf_error(int code) { return cudaGetErrorString((cudaError_t)code); }

// Number of devices, or minus the error code.
SMERF_API int smerf_device_count() {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code == cudaSuccess) return count;
  cudaGetLastError();
  return -(int)code;
}
