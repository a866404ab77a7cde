// Gaussian splats along single rays on GPUs: one thread a ray. A first pass counts the hits of every ray; a second one
// collects them in memory of that size, sorts and composites them.
#include "launch.h"
#include "smerf/splat.h"

namespace {

using namespace smerf;

constexpr int kRayThreads = 128;

// Calls use(hit) for every splat that a ray meets, in the order of the tree.
template <class Use>
__device__ __forceinline__ void each_hit(const SplatTree& tree, const SplatRay& ray, Use use) {
  const float widening = splat_widening(tree);
  int32_t stack[8 * kSplatLevels][2];
  for (int c = 0; c < tree.classes; ++c) {
    const int32_t* levels = tree.levels + c * kSplatLevels;
    int height = 0;
    stack[height][0] = levels[0] - 1, stack[height++][1] = 0;
    while (height) {
      --height;
      const int32_t level = stack[height][0], index = stack[height][1];
      const float* node = tree.nodes + ((int64_t)levels[2 + level] + index) * 48;
      for (int k = 0; k < 8; ++k) {
        const float low[3] = {node[k], node[8 + k], node[16 + k]}, high[3] = {node[24 + k], node[32 + k], node[40 + k]};
        if (!splat_box_hit<float>(low, high, ray, tree.near, widening)) continue;
        const int32_t child = index * 8 + k;
        if (level) {
          stack[height][0] = level - 1, stack[height++][1] = child;
          continue;
        }
        const int32_t leaf = levels[1] + child;
        const float* rows = tree.leaves + (int64_t)leaf * kSplatRows * 8;
        for (int i = 0; i < 8; ++i) {
          const float* s = rows + i;
          const SplatShape<float> shape = {s[0], s[8], s[16], s[24], s[32], s[40], s[48], s[56], s[64]};
          const SplatResponse<float> r = splat_response<float>(shape, ray.o, ray.d, ray.u, ray.v, tree.dilation);
          if (!(r.q <= s[80] && r.tau > tree.near)) continue;
          const float opacity = tree.is_antialiased ? s[72] * sqrtf(r.factor) : s[72];
          const float alpha = smaller(opacity * fast_exp(-0.5f * r.q), kSplatAlphaMax);
          if (!(alpha >= kSplatAlphaMin)) continue;
          const float x = s[0] - ray.o[0], y = s[8] - ray.o[1], z = s[16] - ray.o[2];
          use(SplatHit{x * x + y * y + z * z, alpha, r.t, r.variance, leaf * 8 + i});
        }
      }
    }
  }
}

// Moves the hit at `at` down a heap of which the parents come after their children.
__device__ void sift(SplatHit* hits, int at, int count) {
  const SplatHit moved = hits[at];
  for (int child = 2 * at + 1; child < count; child = 2 * at + 1) {
    if (child + 1 < count && splat_before(hits[child], hits[child + 1])) ++child;
    if (!splat_before(moved, hits[child])) break;
    hits[at] = hits[child];
    at = child;
  }
  hits[at] = moved;
}

__device__ void sort_hits(SplatHit* hits, int count) {
  for (int at = count / 2 - 1; at >= 0; --at) sift(hits, at, count);
  for (int last = count - 1; last > 0; --last) {
    const SplatHit first = hits[0];
    hits[0] = hits[last];
    hits[last] = first;
    sift(hits, 0, last);
  }
}

__global__ void __launch_bounds__(kRayThreads)
    count_kernel(const __grid_constant__ SplatTree tree, const float* __restrict__ origins,
                 const float* __restrict__ directions, int64_t rays, int64_t* __restrict__ counts) {
  const int64_t i = thread_number();
  if (i >= rays) return;
  int64_t count = 0;
  each_hit(tree, splat_ray(origins + 3 * i, directions + 3 * i), [&](const SplatHit&) { ++count; });
  counts[i] = count;
}

struct Answer {
  float *edges, *weights, *colours;
  int samples;
  float min_half, mix;
};

__global__ void __launch_bounds__(kRayThreads)
    ray_kernel(const __grid_constant__ SplatTree tree, const __grid_constant__ RaySpacing spacing,
               const float* __restrict__ origins, const float* __restrict__ directions, int64_t rays,
               const __grid_constant__ Answer answer, const int64_t* __restrict__ offsets, SplatHit* hits,
               SplatBox* boxes) {
  const int64_t i = thread_number();
  if (i >= rays) return;
  const SplatRay ray = splat_ray(origins + 3 * i, directions + 3 * i);
  const int64_t first = offsets[i];
  int count = 0;
  each_hit(tree, ray, [&](const SplatHit& hit) { hits[first + count++] = hit; });
  sort_hits(hits + first, count);
  const int used = splat_composite(tree, spacing, answer.min_half, ray.o, hits + first, count, answer.colours + 3 * i,
                                   boxes + first);
  float cumulative[kSplatBins + 1];
  splat_intervals(spacing, boxes + first, used, answer.samples, answer.mix, cumulative,
                  answer.edges + i * (answer.samples + 1), answer.weights + i * answer.samples);
}

}  // namespace

// Sets counts (rays): the splats that each ray meets. Structures are in host memory and hold device pointers.
SMERF_API int smerf_splat_count(const void* tree, const float* origins, const float* directions, int64_t rays,
                                int64_t* counts, void* stream) {
  if (rays == 0) return 0;
  SMERF_LAUNCH(count_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, *(const SplatTree*)tree, origins,
               directions, rays, counts);
  return launch_result();
}

// As in cuda/cpu/splat_rays.cpp. offsets (rays): the sums of the counts before each ray; hits, boxes: room for all.
SMERF_API int smerf_splat_rays(const void* tree, const void* spacing, const float* origins, const float* directions,
                               int64_t rays, int samples, float min_half, float mix, float* edges, float* weights,
                               float* colours, const int64_t* offsets, void* hits, void* boxes, void* stream) {
  const SplatTree& splats = *(const SplatTree*)tree;
  if (samples < 1 || samples > 256 || splats.coefficients > 16) return kUnsupported;
  if (rays == 0) return 0;
  const Answer answer = {edges, weights, colours, samples, min_half, mix};
  SMERF_LAUNCH(ray_kernel, block_count(rays, kRayThreads), kRayThreads, 0, stream, splats, *(const RaySpacing*)spacing,
               origins, directions, rays, answer, offsets, (SplatHit*)hits, (SplatBox*)boxes);
  return launch_result();
}
