// The student on GPUs: rendering and its gradients a warp a ray (grid_ray.h), and what goes with them.
#include "grid_ray.h"

namespace {

using namespace smerf;

constexpr int kRecord = 32;  // floats of a vertex: gradient 8, parameter 8, moments 8 + 8

__global__ void __launch_bounds__(kThreads)
    mark_kernel(const __grid_constant__ GridView grid, const __grid_constant__ RayView view,
                uint8_t* __restrict__ voxel_touched, uint8_t* __restrict__ plane_touched) {
  const int64_t i = thread_number();
  if (i >= view.rays * view.samples) return;
  const int64_t ray = i / view.samples;
  const float* edge = view.edges + i + ray;
  if (!(edge[1] - edge[0] > 0.0f)) return;
  const float t = frustum_mean(edge[0], edge[1]);
  const float *o = view.origins + 3 * ray, *d = view.directions + 3 * ray;
  Stencil stencil;
  if (!find_stencil(grid, contract(to_submodel(grid, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])), &stencil))
    return;
#pragma unroll
  for (int corner = 0; corner < 8; ++corner)
    if (stencil.voxel[corner] >= 0) voxel_touched[stencil.voxel[corner]] = 1;
#pragma unroll
  for (int corner = 0; corner < 12; ++corner) plane_touched[stencil.texel[corner]] = 1;
}

__global__ void __launch_bounds__(kThreads)
    read_kernel(const __grid_constant__ GridView grid, const float* __restrict__ points, int64_t count,
                float* __restrict__ v, float* __restrict__ t, uint8_t* __restrict__ alive) {
  const int64_t i = thread_number();
  if (i >= count) return;
  Stencil stencil;
  const bool is_alive = find_stencil(grid, {points[3 * i], points[3 * i + 1], points[3 * i + 2]}, &stencil);
  alive[i] = is_alive;
  if (!is_alive) return;
  Lanes8 voxel, plane;
  read_grid(grid, stencil, &voxel, &plane);
#pragma unroll
  for (int c = 0; c < kChannels; ++c) {
    v[i * kChannels + c] = lane(voxel, c);
    t[i * kChannels + c] = lane(plane, c);
  }
}

struct Adam {
  float density_range, feature_range, lr, beta1, beta2, eps, inv1, inv2;
};

// A warp looks at 32 flags at once, and updates four touched vertices at a time, one lane a channel.
__global__ void __launch_bounds__(kThreads) adam_kernel(float* __restrict__ records, uint8_t* __restrict__ bytes,
                                                        uint8_t* __restrict__ touched, int64_t vertices, Adam adam) {
  const int self = threadIdx.x % 32, channel = self % kChannels;
  const int64_t first = thread_number() - self;
  if (first >= vertices) return;
  const bool is_touched = first + self < vertices && touched[first + self];
  if (is_touched) touched[first + self] = 0;
  unsigned todo = __ballot_sync(kWholeWarp, is_touched);
  const float range = channel ? adam.feature_range : adam.density_range;
  while (todo) {
    // The vertex of each group of eight lanes: its number among those left is the group's.
    unsigned left = todo;
    for (int skip = self / kChannels; skip && left; --skip) left &= left - 1;
    const int offset = __ffs((int)left) - 1;
    for (int taken = 0; taken < 32 / kChannels && todo; ++taken) todo &= todo - 1;
    const int64_t vertex = first + (offset < 0 ? 0 : offset);
    float* record = records + vertex * kRecord + channel;
    const float gradient = offset < 0 ? 0.0f : record[0];
    float size = fabsf(gradient);
#pragma unroll
    for (int mask = 4; mask; mask /= 2) size += __shfl_xor_sync(kWholeWarp, size, mask);
    if (offset < 0) continue;
    record[0] = 0.0f;
    if (!(size <= 3e38f)) continue;
    const float z = record[8], u = 1.0f / (1.0f + fast_exp(-z));
    const float slope = gradient * range * u * (1.0f - u);
    const float m1 = adam.beta1 * record[16] + (1.0f - adam.beta1) * slope;
    const float m2 = adam.beta2 * record[24] + (1.0f - adam.beta2) * slope * slope;
    const float next = z - adam.lr * adam.inv1 * m1 / (sqrtf(m2 * adam.inv2) + adam.eps);
    record[8] = next;
    record[16] = m1;
    record[24] = m2;
    bytes[vertex * kChannels + channel] = (uint8_t)lrintf(255.0f / (1.0f + fast_exp(-next)));
  }
}

}  // namespace

// Arguments of all launchers as in cuda/cpu/grid_render.cpp; `view` is in host memory and holds device pointers. Fewer
// than 2^31 vertices of a kind.
SMERF_API int smerf_grid_render_forward(const void* view, const float* origins, const float* directions,
                                        const float* edges, int64_t rays, int samples, float tau, float step,
                                        float* features, float* weights, void* stream) {
  if (samples > kMaxStudentSamples) return kUnsupported;
  if (rays == 0) return 0;
  const RayView ray_view = {origins, directions, edges, rays, samples, least_depth(tau), step};
  return launch_render(*(const GridView*)view, ray_view, features, weights, stream);
}

SMERF_API int smerf_grid_render_backward(const void* view, const float* origins, const float* directions,
                                         const float* edges, int64_t rays, int samples, float tau, float step,
                                         const float* up_features, const float* up_weights, float* voxel_records,
                                         uint8_t* voxel_touched, float* plane_records, uint8_t* plane_touched,
                                         void* stream) {
  if (samples > kMaxStudentSamples) return kUnsupported;
  if (rays == 0) return 0;
  const RayView ray_view = {origins, directions, edges, rays, samples, least_depth(tau), step};
  const Records records = {voxel_records, voxel_touched, plane_records, plane_touched, kRecord, -1.0f};
  return launch_render_backward(*(const GridView*)view, ray_view, up_features, up_weights, records, stream);
}

SMERF_API int smerf_grid_mark(const void* view, const float* origins, const float* directions, const float* edges,
                              int64_t rays, int samples, uint8_t* voxel_touched, uint8_t* plane_touched, void* stream) {
  if (rays * samples == 0) return 0;
  const RayView ray_view = {origins, directions, edges, rays, samples, 0.0f, 0.0f};
  SMERF_LAUNCH(mark_kernel, block_count(rays * samples, kThreads), kThreads, 0, stream, *(const GridView*)view,
               ray_view, voxel_touched, plane_touched);
  return launch_result();
}

SMERF_API int smerf_grid_read(const void* view, const float* points, int64_t count, float* v, float* t, uint8_t* alive,
                              void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(read_kernel, block_count(count, kThreads), kThreads, 0, stream, *(const GridView*)view, points, count, v,
               t, alive);
  return launch_result();
}

SMERF_API int smerf_grid_adam(float* records, uint8_t* bytes, uint8_t* touched, int64_t vertices, float density_range,
                              float feature_range, float lr, float beta1, float beta2, float eps, float correction1,
                              float correction2, void* stream) {
  if (vertices == 0) return 0;
  const Adam adam = {density_range, feature_range, lr, beta1, beta2, eps, 1.0f / correction1, 1.0f / correction2};
  SMERF_LAUNCH(adam_kernel, block_count(vertices, kThreads), kThreads, 0, stream, records, bytes, touched, vertices,
               adam);
  return launch_result();
}
