// Marching a baked scene on GPUs: one thread a ray.
#include "launch.h"
#include "smerf/march_shade.h"

namespace {

using namespace smerf;

constexpr int kMarchThreads = 128;

// Rays of a picture `width` pixels wide are taken in tiles of 8 x 4, so that the lanes of a warp stay close together.
__device__ __forceinline__ int64_t ray_number(int64_t i, int64_t count, int width) {
  if (width % 8 || width == 0) return i;
  const int64_t tile = i / 32, tiles = width / 8, row = tile / tiles * 4 + i % 32 / 8;
  // The last rows may not fill tiles.
  if ((tile / tiles * 4 + 4) * width > count) return i;
  return row * width + tile % tiles * 8 + i % 8;
}

template <bool kObjects>
__global__ void __launch_bounds__(kMarchThreads)
    march_kernel(const __grid_constant__ MarchScene scene, const float* __restrict__ origins, int is_shared_origin,
                 const float* __restrict__ directions, int64_t count, int width, float* __restrict__ rgb,
                 float* __restrict__ depth, uint8_t* __restrict__ objects) {
  const int64_t i = thread_number();
  if (i >= count) return;
  const int64_t ray = ray_number(i, count, width);
  const float* o = origins + (is_shared_origin ? 0 : 3 * ray);
  const float* d = directions + 3 * ray;
  const Vec3 origin = {o[0], o[1], o[2]}, direction = {d[0], d[1], d[2]};
  float colour[3];
  float* own = depth ? depth + ray * scene.spent_count : nullptr;
  for (int k = 0; own && k < scene.spent_count; ++k) own[k] = 0.0f;
  const MarchResult result = march_ray<kObjects>(scene, origin, direction, own);
  shade(scene, result, direction, colour);
  for (int c = 0; c < 3; ++c) rgb[3 * ray + c] = colour[c];
  if (objects) objects[ray] = (uint8_t)result.object;
}

__global__ void __launch_bounds__(kMarchThreads)
    sample_kernel(const __grid_constant__ MarchScene scene, const float* __restrict__ points, int64_t count,
                  float* __restrict__ fine, float* __restrict__ coarse, uint8_t* __restrict__ alive) {
  const int64_t i = thread_number();
  if (i >= count) return;
  Lanes8 a = zero_lanes(), b = zero_lanes();
  alive[i] = sample_assets(scene, {points[3 * i], points[3 * i + 1], points[3 * i + 2]}, a, b);
  for (int c = 0; c < 8; ++c) {
    fine[8 * i + c] = lane(a, c);
    coarse[8 * i + c] = lane(b, c);
  }
}

}  // namespace

// As in cuda/cpu/march.cpp; `scene` is in host memory and holds device pointers. width: pixels of a picture's row if
// the rays are those of a picture, row by row, else 0.
SMERF_API int smerf_march(const void* scene, const float* origins, int is_shared_origin, const float* directions,
                          int64_t count, int width, float* rgb, float* depth, uint8_t* objects, void* stream) {
  if (count == 0) return 0;
  const MarchScene& m = *(const MarchScene*)scene;
  const auto kernel = m.object_ids ? march_kernel<true> : march_kernel<false>;
  SMERF_LAUNCH(kernel, block_count(count, kMarchThreads), kMarchThreads, 0, stream, m, origins, is_shared_origin,
               directions, count, width, rgb, depth, objects);
  return launch_result();
}

SMERF_API int smerf_sample_assets(const void* scene, const float* points, int64_t count, float* fine, float* coarse,
                                  uint8_t* alive, void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(sample_kernel, block_count(count, kMarchThreads), kMarchThreads, 0, stream, *(const MarchScene*)scene,
               points, count, fine, coarse, alive);
  return launch_result();
}
