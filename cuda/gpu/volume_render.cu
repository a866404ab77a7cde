// Volume rendering on GPUs: one thread a ray, whose samples lie in one or two cache lines.
#include "launch.h"
#include "smerf/volume_render.h"

namespace {

using namespace smerf;

constexpr int kRayThreads = 64;  // of a block: few, so that small batches fill the device

__global__ void __launch_bounds__(kRayThreads)
    forward_kernel(const float* __restrict__ density, const float* __restrict__ edges, const float* __restrict__ colour,
                   const float* __restrict__ coordinates, int64_t rays, int samples, float* __restrict__ weights,
                   float* __restrict__ image) {
  const int64_t r = thread_number();
  if (r >= rays) return;
  const int64_t at = r * samples;
  const RayImage seen = render_ray(density + at, edges + at + r, colour ? colour + 3 * at : nullptr,
                                   coordinates ? coordinates + at + r : nullptr, samples, weights + at);
  float* row = image + 6 * r;
  for (int c = 0; c < 3; ++c) row[c] = seen.colour[c];
  row[3] = seen.opacity;
  row[4] = seen.depth;
  row[5] = seen.distortion;
}

__global__ void __launch_bounds__(kRayThreads)
    backward_kernel(const float* __restrict__ density, const float* __restrict__ edges,
                    const float* __restrict__ colour, const float* __restrict__ coordinates, int64_t rays, int samples,
                    const float* __restrict__ weights, const float* __restrict__ up_image,
                    const float* __restrict__ up_weights, float* __restrict__ grad_density,
                    float* __restrict__ grad_colour) {
  const int64_t r = thread_number();
  if (r >= rays) return;
  const int64_t at = r * samples;
  const float* row = up_image + 6 * r;
  const RayImage upstream = {{row[0], row[1], row[2]}, row[3], row[4], row[5]};
  render_ray_backward(density + at, edges + at + r, colour ? colour + 3 * at : nullptr,
                      coordinates ? coordinates + at + r : nullptr, samples, weights + at, upstream,
                      up_weights ? up_weights + at : nullptr, grad_density + at,
                      grad_colour ? grad_colour + 3 * at : nullptr);
}

}  // namespace

// Arguments as in cuda/cpu/volume_render.cpp.
SMERF_API int smerf_volume_render_forward(const float* density, const float* edges, const float* colour,
                                          const float* coordinates, int64_t rays, int samples, float* weights,
                                          float* image, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(forward_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, density, edges, colour,
               coordinates, rays, samples, weights, image);
  return launch_result();
}

SMERF_API int smerf_volume_render_backward(const float* density, const float* edges, const float* colour,
                                           const float* coordinates, int64_t rays, int samples, const float* weights,
                                           const float* up_image, const float* up_weights, float* grad_density,
                                           float* grad_colour, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(backward_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, density, edges, colour,
               coordinates, rays, samples, weights, up_image, up_weights, grad_density, grad_colour);
  return launch_result();
}
