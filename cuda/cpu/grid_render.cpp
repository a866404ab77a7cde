// The student on CPUs: read the quantised grids along rays, gate, cull, composite; and the way back.
//
// The backward pass is race free and repeats exactly on any number of threads: rays are differentiated in parallel into
// a list of samples, then ten tasks add the list to the grids, each owning the vertices of one parity.
#include <omp.h>

#include <vector>

#include "student_ray.h"

namespace {

using namespace smerf;

constexpr int kRecord = 32;  // floats of a vertex: gradient 8, parameter 8, moments 8 + 8

// One addition to a vertex.
struct Target {
  int64_t vertex;
  float weight;
  const Lanes8* gradient;
};

// Random access to large arrays: the records of later targets are fetched while earlier ones are added to.
void add_targets(const std::vector<Target>& targets, float* records, uint8_t* touched) {
  typedef float Row __attribute__((vector_size(32), aligned(4)));
  constexpr size_t kAhead = 16;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (i + kAhead < targets.size()) {
      __builtin_prefetch(records + targets[i + kAhead].vertex * kRecord, 1);
      __builtin_prefetch(touched + targets[i + kAhead].vertex, 1);
    }
    *(Row*)(records + targets[i].vertex * kRecord) += *targets[i].gradient * targets[i].weight;
    touched[targets[i].vertex] = 1;
  }
}

// Lists the voxels of the samples whose first two indices have the given parities.
void list_voxels(const GridView& grid, const std::vector<SampleGradient>& list, int parity_a, int parity_b,
                 std::vector<Target>& targets) {
  for (const SampleGradient& sample : list) {
    int low[3], high[3];
    float f[3];
    split(sample.s.x, grid.voxel_resolution, &low[0], &high[0], &f[0]);
    split(sample.s.y, grid.voxel_resolution, &low[1], &high[1], &f[1]);
    split(sample.s.z, grid.voxel_resolution, &low[2], &high[2], &f[2]);
    for (int corner = 0; corner < 8; ++corner) {
      const int a = corner & 4 ? high[0] : low[0], b = corner & 2 ? high[1] : low[1], c = corner & 1 ? high[2] : low[2];
      if ((a & 1) != parity_a || (b & 1) != parity_b) continue;
      const int64_t vertex = voxel_address(grid, a, b, c);
      const float weight =
          (corner & 4 ? f[0] : 1.0f - f[0]) * (corner & 2 ? f[1] : 1.0f - f[1]) * (corner & 1 ? f[2] : 1.0f - f[2]);
      if (vertex >= 0) targets.push_back({vertex, weight, &sample.v});
    }
  }
}

// Lists the texels of one plane of the samples whose first index has the given parity.
void list_texels(const GridView& grid, const std::vector<SampleGradient>& list, int plane, int parity,
                 std::vector<Target>& targets) {
  const int64_t r = grid.plane_resolution;
  for (const SampleGradient& sample : list) {
    int low[2], high[2];
    float f[2];
    split(plane == 0 ? sample.s.y : sample.s.x, grid.plane_resolution, &low[0], &high[0], &f[0]);
    split(plane == 2 ? sample.s.y : sample.s.z, grid.plane_resolution, &low[1], &high[1], &f[1]);
    for (int corner = 0; corner < 4; ++corner) {
      const int a = corner & 2 ? high[0] : low[0], b = corner & 1 ? high[1] : low[1];
      if ((a & 1) != parity) continue;
      const float weight = (corner & 2 ? f[0] : 1.0f - f[0]) * (corner & 1 ? f[1] : 1.0f - f[1]);
      targets.push_back({(plane * r + a) * r + b, weight, &sample.t});
    }
  }
}

Lanes8 load(const float* values) {
  Lanes8 result;
  memcpy(&result, values, sizeof(result));
  return result;
}

void store(float* values, const Lanes8& lanes) { memcpy(values, &lanes, sizeof(lanes)); }

}  // namespace

// origins, directions: (rays, 3); edges: (rays, samples + 1) metric. step: marching step in contracted space, tau:
// alpha of such a step below which a sample is dropped. features: (rays, 14); weights: (rays, samples); both written.
SMERF_API int smerf_grid_render_forward(const void* view, const float* origins, const float* directions,
                                        const float* edges, int64_t rays, int samples, float tau, float step,
                                        float* features, float* weights) {
  if (samples > kMaxStudentSamples) return 1;
  const GridView& grid = *(const GridView*)view;
#pragma omp parallel if (rays > 32)
  {
    std::vector<Sample> kept(samples + 1);
#pragma omp for schedule(dynamic, 64)
    for (int64_t r = 0; r < rays; ++r) {
      float* ray_features = features + r * kFeatures;
      float* ray_weights = weights + r * samples;
      Lanes8 fine = zero_lanes(), coarse = zero_lanes();
      for (int i = 0; i < samples; ++i) ray_weights[i] = 0.0f;
      trace(grid, origins + 3 * r, directions + 3 * r, edges + r * (samples + 1), samples, tau, step, &fine, &coarse,
            ray_weights, kept.data());
      for (int c = 0; c < kFeatures / 2; ++c) {
        ray_features[c] = fine[c + 1];
        ray_features[c + kFeatures / 2] = coarse[c + 1];
      }
    }
  }
  return 0;
}

// Adds dL/d(value) to the first 8 floats of each vertex record (32 floats) and marks the vertices in `touched`.
SMERF_API int smerf_grid_render_backward(const void* view, const float* origins, const float* directions,
                                         const float* edges, int64_t rays, int samples, float tau, float step,
                                         const float* up_features, const float* up_weights, float* voxel_records,
                                         uint8_t* voxel_touched, float* plane_records, uint8_t* plane_touched) {
  if (samples > kMaxStudentSamples) return 1;
  const GridView& grid = *(const GridView*)view;
  const int64_t chunk = 64, chunks = (rays + chunk - 1) / chunk;
  std::vector<std::vector<SampleGradient>> lists(chunks);
#pragma omp parallel if (rays > 32)
  {
    std::vector<Sample> kept(samples + 1);
    std::vector<float> weights(samples);
#pragma omp for schedule(dynamic, 1)
    for (int64_t k = 0; k < chunks; ++k) {
      for (int64_t r = k * chunk; r < rays && r < (k + 1) * chunk; ++r) {
        Lanes8 fine = zero_lanes(), coarse = zero_lanes();
        const int count = trace(grid, origins + 3 * r, directions + 3 * r, edges + r * (samples + 1), samples, tau,
                                step, &fine, &coarse, weights.data(), kept.data());
        const float* up = up_features + r * kFeatures;
        const size_t first = lists[k].size();
        lists[k].resize(first + count);
        differentiate(kept.data(), count, feature_lanes(up), feature_lanes(up + kFeatures / 2),
                      up_weights + r * samples, lists[k].data() + first);
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int task = 0; task < 10; ++task) {
      std::vector<Target> targets;
      for (const auto& list : lists) {
        targets.clear();
        if (task < 4) {
          list_voxels(grid, list, task & 1, task >> 1, targets);
          add_targets(targets, voxel_records, voxel_touched);
        } else {
          list_texels(grid, list, (task - 4) >> 1, task & 1, targets);
          add_targets(targets, plane_records, plane_touched);
        }
      }
    }
  }
  return 0;
}

// Marks every vertex that the rays' samples read (no culling): what a parameterisation has to provide.
SMERF_API int smerf_grid_mark(const void* view, const float* origins, const float* directions, const float* edges,
                              int64_t rays, int samples, uint8_t* voxel_touched, uint8_t* plane_touched) {
  const GridView& grid = *(const GridView*)view;
#pragma omp parallel for schedule(dynamic, 64) if (rays > 32)
  for (int64_t r = 0; r < rays; ++r) {
    const float *o = origins + 3 * r, *d = directions + 3 * r, *edge = edges + r * (samples + 1);
    for (int i = 0; i < samples; ++i) {
      if (!(edge[i + 1] - edge[i] > 0.0f)) continue;
      const float t = frustum_mean(edge[i], edge[i + 1]);
      Stencil stencil;
      if (!find_stencil(grid, contract(to_submodel(grid, o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2])), &stencil))
        continue;
      for (int corner = 0; corner < 8; ++corner)
        if (stencil.voxel[corner] >= 0) voxel_touched[stencil.voxel[corner]] = 1;
      for (int corner = 0; corner < 12; ++corner) plane_touched[stencil.texel[corner]] = 1;
    }
  }
  return 0;
}

// Reads the grids at contracted points on viewer axes: v and t are (count, 8); alive is 0 where no block is.
SMERF_API int smerf_grid_read(const void* view, const float* points, int64_t count, float* v, float* t,
                              uint8_t* alive) {
  const GridView& grid = *(const GridView*)view;
#pragma omp parallel for schedule(static) if (count > 1024)
  for (int64_t i = 0; i < count; ++i) {
    Stencil stencil;
    alive[i] = find_stencil(grid, {points[3 * i], points[3 * i + 1], points[3 * i + 2]}, &stencil);
    if (!alive[i]) continue;
    Lanes8 voxel, plane;
    read_grid(grid, stencil, &voxel, &plane);
    for (int c = 0; c < kChannels; ++c) {
      v[i * kChannels + c] = voxel[c];
      t[i * kChannels + c] = plane[c];
    }
  }
  return 0;
}

// Adam on the touched vertices: records hold gradient, parameter z and two moments; bytes hold round(255 sigmoid(z)).
// Gradients are with respect to the dequantised value; touched flags and gradients are cleared. A vertex whose gradient
// is not finite is left as it is.
SMERF_API int smerf_grid_adam(float* records, uint8_t* bytes, uint8_t* touched, int64_t vertices, float density_range,
                              float feature_range, float lr, float beta1, float beta2, float eps, float correction1,
                              float correction2) {
  const float inv1 = 1.0f / correction1, inv2 = 1.0f / correction2;
  const Lanes8 range = first_and_rest(density_range, feature_range);
#pragma omp parallel for schedule(dynamic, 16384)
  for (int64_t vertex = 0; vertex < vertices; ++vertex) {
    if (!touched[vertex]) continue;
    touched[vertex] = 0;
    float *g = records + vertex * kRecord, *z = g + 8, *m1 = g + 16, *m2 = g + 24;
    uint8_t* q = bytes + vertex * kChannels;
    Lanes8 slope = load(g);
    float size = 0.0f;
    for (int c = 0; c < kChannels; ++c) size += fabsf(slope[c]);
    store(g, zero_lanes());
    if (!(size <= 3e38f)) continue;
    const Lanes8 u = sigmoid(load(z));
    slope = slope * range * u * (1.0f - u);
    const Lanes8 first = beta1 * load(m1) + (1.0f - beta1) * slope;
    const Lanes8 second = beta2 * load(m2) + (1.0f - beta2) * slope * slope;
    Lanes8 root;
    for (int c = 0; c < kChannels; ++c) root[c] = sqrtf(second[c] * inv2);
    const Lanes8 next = load(z) - lr * inv1 * first / (root + eps);
    store(m1, first);
    store(m2, second);
    store(z, next);
    const Lanes8 quantised = 255.0f * sigmoid(next);
    for (int c = 0; c < kChannels; ++c) q[c] = (uint8_t)lrintf(quantised[c]);
  }
  return 0;
}
