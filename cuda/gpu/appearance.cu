// The deferred appearance network on GPUs, for each width that there is.
#include "appearance_run.h"

using namespace smerf;

#define SMERF_BY_WIDTH(call)      \
  if (rays->rays == 0) return 0;  \
  switch (networks->width) {      \
    case 8: return call(8);       \
    case 16: return call(16);     \
    case 32: return call(32);     \
    case 64: return call(64);     \
    default: return kUnsupported; \
  }

// Arguments as in cuda/cpu/appearance.cpp; the two records lie in host memory. Parameter gradients are added by
// atomics: their last bits differ from run to run.
SMERF_API int smerf_appearance_forward(const AppearanceRays* rays, const AppearanceNetworks* networks, float* colour,
                                       void* stream) {
#define SMERF_CALL(W) run_appearance<W>(*rays, *networks, colour, stream)
  SMERF_BY_WIDTH(SMERF_CALL)
#undef SMERF_CALL
}

SMERF_API int smerf_appearance_backward(const AppearanceRays* rays, const AppearanceNetworks* networks,
                                        const float* up_colour, float* grad_params, float* grad_features,
                                        void* stream) {
#define SMERF_CALL(W) run_appearance_backward<W>(*rays, *networks, up_colour, grad_params, grad_features, stream)
  SMERF_BY_WIDTH(SMERF_CALL)
#undef SMERF_CALL
}
