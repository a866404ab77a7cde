// Small ReLU networks on GPUs: a plain one, and the radiance head.
#include "mlp_run.h"

using namespace smerf;

// Floats of scratch memory that the backward pass needs on the current device, or -1 for a network that the kernels do
// not take: wider than 128, deeper than 8 layers, or with too many weights for the registers or the shared memory. For
// a plain network colour_layers is 0.
SMERF_API int64_t smerf_mlp_scratch(const int32_t* dims, int layers, const int32_t* colour_dims, int colour_layers,
                                    int64_t rows) {
  Chain chain;
  if (!make_chain(chain, dims, layers, nullptr, colour_dims, colour_layers, nullptr)) return -1;
  const int blocks = backward_blocks(chain, rows > 0 ? rows : 1);
  return blocks < 1 ? -1 : blocks * chain.param_count;
}

// Arguments of the launchers as in cuda/cpu/mlp.cpp; scratch: floats as smerf_mlp_scratch says.
SMERF_API int smerf_mlp_forward(const int32_t* dims, int layers, const float* params, const float* x, int64_t rows,
                                float* out, void* stream) {
  Chain chain;
  if (!make_chain(chain, dims, layers, params, nullptr, 0, nullptr)) return kUnsupported;
  return run_chain(chain, {x, nullptr, all_rows(rows), 1}, nullptr, out, stream);
}

SMERF_API int smerf_mlp_backward(const int32_t* dims, int layers, const float* params, const float* x, int64_t rows,
                                 const float* upstream, float* grad_params, float* grad_x, float* scratch,
                                 void* stream) {
  Chain chain;
  if (!make_chain(chain, dims, layers, params, nullptr, 0, nullptr)) return kUnsupported;
  return run_chain_backward(chain, {x, nullptr, all_rows(rows), 1}, {nullptr, upstream}, chain.param_count, grad_params,
                            nullptr, grad_x, scratch, stream);
}

SMERF_API int smerf_radiance_head_forward(const int32_t* density_dims, int density_layers, const float* density_params,
                                          const int32_t* colour_dims, int colour_layers, const float* colour_params,
                                          const float* features, const float* directions, int samples, int64_t rows,
                                          float* raw_density, float* raw_colour, void* stream) {
  Chain chain;
  if (!make_chain(chain, density_dims, density_layers, density_params, colour_dims, colour_layers, colour_params))
    return kUnsupported;
  return run_chain(chain, {features, directions, all_rows(rows), samples}, raw_density, raw_colour, stream);
}

SMERF_API int smerf_radiance_head_backward(const int32_t* density_dims, int density_layers, const float* density_params,
                                           const int32_t* colour_dims, int colour_layers, const float* colour_params,
                                           const float* features, const float* directions, int samples, int64_t rows,
                                           const float* up_density, const float* up_colour, float* grad_density_params,
                                           float* grad_colour_params, float* grad_features, float* scratch,
                                           void* stream) {
  Chain chain;
  if (!make_chain(chain, density_dims, density_layers, density_params, colour_dims, colour_layers, colour_params))
    return kUnsupported;
  return run_chain_backward(chain, {features, directions, all_rows(rows), samples}, {up_density, up_colour},
                            chain.offset[density_layers], grad_density_params, grad_colour_params, grad_features,
                            scratch, stream);
}
