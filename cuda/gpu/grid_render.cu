// The student on GPUs: one warp a ray, one lane an interval.
//
// Light is a running product over the lanes. The backward pass evaluates the samples anew and lays their gradients out
// in shared memory, so that neighbouring lanes add to neighbouring floats of one vertex.
#include "launch.h"
#include "smerf/grid.h"

namespace {

using namespace smerf;

constexpr int kFeatures = 14;  // seven gated ("fine") and seven voxel ("coarse") channels
constexpr int kHalf = kFeatures / 2;
constexpr int kMaxSamples = 256;  // intervals of one ray
constexpr int kRecord = 32;       // floats of a vertex: gradient 8, parameter 8, moments 8 + 8
constexpr int kWarps = 4;         // of a block
constexpr int kReads = 20;        // vertices of a sample: eight voxels, then twelve texels
constexpr int kGradients = 18;    // floats of a sample's gradients in shared memory: voxel 8, plane 8, padding

struct RayView {
  const float *origins, *directions, *edges;
  int64_t rays;
  int samples;
  float least, step;
};

// Product over the lanes before this one; `total` is that over all lanes.
__device__ __forceinline__ float product_before(float value, float* total) {
  const int self = threadIdx.x % 32;
  float inclusive = value;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const float other = __shfl_up_sync(kWholeWarp, inclusive, delta);
    if (self >= delta) inclusive *= other;
  }
  *total = __shfl_sync(kWholeWarp, inclusive, 31);
  const float before = __shfl_up_sync(kWholeWarp, inclusive, 1);
  return self ? before : 1.0f;
}

// Sum over the lanes after this one; `total` is that over all lanes.
__device__ __forceinline__ float sum_after(float value, float* total) {
  const int self = threadIdx.x % 32;
  float inclusive = value;
#pragma unroll
  for (int delta = 1; delta < 32; delta *= 2) {
    const float other = __shfl_down_sync(kWholeWarp, inclusive, delta);
    if (self + delta < 32) inclusive += other;
  }
  *total = __shfl_sync(kWholeWarp, inclusive, 0);
  const float after = __shfl_down_sync(kWholeWarp, inclusive, 1);
  return self < 31 ? after : 0.0f;
}

__device__ __forceinline__ float sum_lanes(float value) {
#pragma unroll
  for (int mask = 16; mask; mask /= 2) value += __shfl_xor_sync(kWholeWarp, value, mask);
  return value;
}

// Evaluates interval `index` of a ray; samples that do not exist are empty.
__device__ __forceinline__ bool evaluate(const GridView& grid, const RayView& view, int64_t ray, int index,
                                         Stencil* stencil, GridSample* sample) {
  sample->depth = sample->alpha = 0.0f;
  if (index >= view.samples) return false;
  const float* edge = view.edges + ray * (view.samples + 1) + index;
  const bool is_alive = sample_interval(grid, view.origins + 3 * ray, view.directions + 3 * ray, edge[0], edge[1],
                                        view.least, view.step, stencil, sample);
  if (!is_alive) sample->depth = sample->alpha = 0.0f;
  return is_alive;
}

__global__ void __launch_bounds__(32 * kWarps)
    forward_kernel(const __grid_constant__ GridView grid, const __grid_constant__ RayView view,
                   float* __restrict__ features, float* __restrict__ weights) {
  const int64_t ray = (int64_t)blockIdx.x * kWarps + threadIdx.x / 32;
  const int self = threadIdx.x % 32;
  if (ray >= view.rays) return;
  float light = 1.0f, sums[kFeatures] = {};
  for (int start = 0; start < view.samples; start += 32) {
    float weight = 0.0f;
    if (light > kOpaque) {
      Stencil stencil;
      GridSample sample;
      bool is_kept = evaluate(grid, view, ray, start + self, &stencil, &sample);
      float through;
      const float here = light * product_before(1.0f - sample.alpha, &through);
      light *= through;
      is_kept = is_kept && here > kOpaque;
      weight = is_kept ? here * sample.alpha : 0.0f;
      if (is_kept) {
        const Lanes8 fine = sigmoid(sample.merged), coarse = sigmoid(sample.v);
#pragma unroll
        for (int c = 0; c < kHalf; ++c) {
          sums[c] += weight * lane(fine, c + 1);
          sums[c + kHalf] += weight * lane(coarse, c + 1);
        }
      }
    }
    if (start + self < view.samples) weights[ray * view.samples + start + self] = weight;
  }
#pragma unroll
  for (int c = 0; c < kFeatures; ++c) {
    const float total = sum_lanes(sums[c]);
    if (self == c) features[ray * kFeatures + c] = total;
  }
}

// Where the lanes of a warp leave their samples' gradients for each other.
struct Staging {
  float gradient[32][kGradients];
  float weight[32][kReads + 1];
  int32_t vertex[32][kReads + 1];
};

struct Records {
  float* voxels;
  uint8_t* voxel_touched;
  float* planes;
  uint8_t* plane_touched;
};

// Two lanes add the eight channels of one vertex.
__device__ __forceinline__ void add_staged(const Staging& staging, int count, const Records& records) {
  for (int item = threadIdx.x % 32; item < count * kReads * 2; item += 32) {
    const int sample = item / (2 * kReads), read = item / 2 % kReads, half = item & 1;
    const int32_t vertex = staging.vertex[sample][read];
    if (vertex < 0) continue;
    const bool is_voxel = read < 8;
    const float weight = staging.weight[sample][read];
    const float* g = staging.gradient[sample] + (is_voxel ? 0 : 8) + 4 * half;
    float* record = (is_voxel ? records.voxels : records.planes) + (int64_t)vertex * kRecord + 4 * half;
    add_to4(record, make_float4(weight * g[0], weight * g[1], weight * g[2], weight * g[3]));
    if (half == 0) (is_voxel ? records.voxel_touched : records.plane_touched)[vertex] = 1;
  }
}

__global__ void __launch_bounds__(32 * kWarps)
    backward_kernel(const __grid_constant__ GridView grid, const __grid_constant__ RayView view,
                    const float* __restrict__ up_features, const float* __restrict__ up_weights,
                    const __grid_constant__ Records records) {
  __shared__ Staging shared[kWarps];
  Staging& staging = shared[threadIdx.x / 32];
  const int64_t ray = (int64_t)blockIdx.x * kWarps + threadIdx.x / 32;
  const int self = threadIdx.x % 32;
  if (ray >= view.rays) return;
  const int rounds = (view.samples + 31) / 32;
  // Light at the start of each round of 32 intervals, kept by the lane of the round's number.
  float light = 1.0f, light_of_round = 1.0f;
  for (int round = 0; round + 1 < rounds && light > kOpaque; ++round) {
    Stencil stencil;
    GridSample sample;
    evaluate(grid, view, ray, 32 * round + self, &stencil, &sample);
    float through;
    product_before(1.0f - sample.alpha, &through);
    light *= through;
    if (self > round) light_of_round = light;
  }
  Lanes8 up_fine = zero_lanes(), up_coarse = zero_lanes();
#pragma unroll
  for (int c = 0; c < kHalf; ++c) {
    set_lane(up_fine, c + 1, up_features[ray * kFeatures + c]);
    set_lane(up_coarse, c + 1, up_features[ray * kFeatures + kHalf + c]);
  }
  float after = 0.0f;  // sum of gradient times weight over later rounds
  for (int round = rounds - 1; round >= 0; --round) {
    const float start = __shfl_sync(kWholeWarp, light_of_round, round);
    if (!(start > kOpaque)) continue;
    Stencil stencil;
    GridSample sample;
    bool is_kept = evaluate(grid, view, ray, 32 * round + self, &stencil, &sample);
    float through, total;
    const float here = start * product_before(1.0f - sample.alpha, &through);
    is_kept = is_kept && here > kOpaque;
    const float weight = is_kept ? here * sample.alpha : 0.0f;
    Lanes8 fine = zero_lanes(), coarse = zero_lanes();
    float up = 0.0f;
    if (is_kept) {
      fine = sigmoid(sample.merged);
      coarse = sigmoid(sample.v);
      up = up_weights[ray * view.samples + 32 * round + self] + sum_features(up_fine * fine + up_coarse * coarse);
    }
    const float later = after + sum_after(up * weight, &total);
    after += total;
    const unsigned kept = __ballot_sync(kWholeWarp, is_kept);
    if (is_kept) {
      const int place = __popc(kept & ((1u << self) - 1u));
      const float density = (up * here * (1.0f - sample.alpha) - later) * sample.depth;
      Lanes8 grad_v, grad_t;
      differentiate_values(sample.v, sample.t, fine, coarse, weight, up_fine, up_coarse, density, &grad_v, &grad_t);
#pragma unroll
      for (int c = 0; c < kChannels; ++c) {
        staging.gradient[place][c] = lane(grad_v, c);
        staging.gradient[place][c + 8] = lane(grad_t, c);
      }
#pragma unroll
      for (int corner = 0; corner < 8; ++corner) {
        staging.vertex[place][corner] = (int32_t)stencil.voxel[corner];
        staging.weight[place][corner] = stencil.voxel_weight[corner];
      }
#pragma unroll
      for (int corner = 0; corner < 12; ++corner) {
        staging.vertex[place][8 + corner] = (int32_t)stencil.texel[corner];
        staging.weight[place][8 + corner] = stencil.texel_weight[corner];
      }
    }
    __syncwarp();
    add_staged(staging, __popc(kept), records);
    __syncwarp();
  }
}

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
  if (samples > kMaxSamples) return kUnsupported;
  if (rays == 0) return 0;
  const RayView ray_view = {origins, directions, edges, rays, samples, least_depth(tau), step};
  SMERF_LAUNCH(forward_kernel, block_count(rays, kWarps), 32 * kWarps, 0, stream, *(const GridView*)view, ray_view,
               features, weights);
  return launch_result();
}

SMERF_API int smerf_grid_render_backward(const void* view, const float* origins, const float* directions,
                                         const float* edges, int64_t rays, int samples, float tau, float step,
                                         const float* up_features, const float* up_weights, float* voxel_records,
                                         uint8_t* voxel_touched, float* plane_records, uint8_t* plane_touched,
                                         void* stream) {
  if (samples > kMaxSamples) return kUnsupported;
  if (rays == 0) return 0;
  const RayView ray_view = {origins, directions, edges, rays, samples, least_depth(tau), step};
  const Records records = {voxel_records, voxel_touched, plane_records, plane_touched};
  SMERF_LAUNCH(backward_kernel, block_count(rays, kWarps), 32 * kWarps, 0, stream, *(const GridView*)view, ray_view,
               up_features, up_weights, records);
  return launch_result();
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
