// Multisampled hash encoding on CPUs: the points of a block of intervals stay in cache, and only features are written.
#include <algorithm>
#include <vector>

#include "smerf/hash_encoding.h"
#include "smerf/multisample.h"

SMERF_API int smerf_hash_encode_forward(const void*, int, int, const float*, const float*, const float*, int64_t,
                                        float*);
SMERF_API int smerf_hash_encode_backward(const void*, int, int, const float*, const float*, int64_t, const float*,
                                         float*);

namespace {

using smerf::FrustumSpec;
using smerf::HashLevel;

// Points of a block: their features fit in the second-level cache, and they are too few for hash encoding to split them
// over threads of its own.
constexpr int kForwardBlock = 256;
constexpr int kBackwardBlock = 2048;

struct Rays {
  const float *origins, *directions, *edges, *radii;
  int samples;
};

// Points and footprints of the intervals first .. first + count (all rays' intervals in a row).
void find_points(const FrustumSpec& spec, const Rays& rays, int64_t first, int64_t count, float* x, float* sigma) {
  int64_t ray = -1;
  smerf::Vec3 u = {}, v = {};
  for (int64_t i = 0; i < count; ++i) {
    const int64_t r = (first + i) / rays.samples;
    const int s = (int)(first + i - r * rays.samples);
    if (r != ray && spec.points > 1) smerf::across(rays.directions + 3 * r, &u, &v);
    ray = r;
    const float* edge = rays.edges + r * (rays.samples + 1) + s;
    const smerf::FrustumPattern pattern = smerf::frustum_pattern(spec, r, s);
    for (int k = 0; k < spec.points; ++k) {
      const int64_t point = i * spec.points + k;
      sigma[point] = smerf::frustum_point(spec, pattern, rays.origins + 3 * r, rays.directions + 3 * r, u, v, edge[0],
                                          edge[1], rays.radii[r], k, x + 3 * point);
    }
  }
}

}  // namespace

// spec: FrustumSpec. origins, directions: (rays, 3); edges: (rays, samples + 1); radii: (rays). levels, table: as in
// hash encoding. level_scales: (level_count) or null. out: (rays * samples, level_count * features [+ level_count]):
// the mean over the points of the faded features, then, with level_scales, of (2 fade - 1) * level_scale.
SMERF_API int smerf_multisample_forward(const void* spec_bytes, const float* origins, const float* directions,
                                        const float* edges, const float* radii, int64_t rays, int samples,
                                        const void* levels, int level_count, int features, const float* table,
                                        const float* level_scales, float* out) {
  const FrustumSpec& spec = *(const FrustumSpec*)spec_bytes;
  const Rays source = {origins, directions, edges, radii, samples};
  const int points = spec.points, width = level_count * features, stride = width + (level_scales ? level_count : 0);
  const int64_t total = rays * samples, blocks = (total + kForwardBlock - 1) / kForwardBlock;
  const float share = 1.0f / (float)points;
#pragma omp parallel if (total > 1024)
  {
    std::vector<float> x(3 * kForwardBlock * points), sigma(kForwardBlock * points);
    std::vector<float> encoded((size_t)kForwardBlock * points * width);
#pragma omp for schedule(dynamic)
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * kForwardBlock, count = std::min<int64_t>(kForwardBlock, total - first);
      find_points(spec, source, first, count, x.data(), sigma.data());
      smerf_hash_encode_forward(levels, level_count, features, table, x.data(), sigma.data(), count * points,
                                encoded.data());
      for (int64_t i = 0; i < count; ++i) {
        float* row = out + (first + i) * stride;
        const float* part = encoded.data() + i * points * width;
        for (int f = 0; f < width; ++f) {
          float sum = 0.0f;
          for (int k = 0; k < points; ++k) sum += part[k * width + f];
          row[f] = share * sum;
        }
        for (int l = 0; level_scales && l < level_count; ++l) {
          float sum = 0.0f;
          for (int k = 0; k < points; ++k)
            sum += smerf::level_fade(sigma[i * points + k], ((const HashLevel*)levels)[l].resolution);
          row[width + l] = (2.0f * share * sum - 1.0f) * level_scales[l];
        }
      }
    }
  }
  return 0;
}

// upstream: (rays * samples, stride), of which the first level_count * features columns are read. gradient: (entries,
// features), added to. A level belongs to one thread: the same sums on any number of threads.
SMERF_API int smerf_multisample_backward(const void* spec_bytes, const float* origins, const float* directions,
                                         const float* edges, const float* radii, int64_t rays, int samples,
                                         const void* levels, int level_count, int features, const float* upstream,
                                         int stride, float* gradient) {
  const FrustumSpec& spec = *(const FrustumSpec*)spec_bytes;
  const Rays source = {origins, directions, edges, radii, samples};
  const int points = spec.points, width = level_count * features;
  const int64_t total = rays * samples;
  const float share = 1.0f / (float)points;
  std::vector<float> x(3 * kBackwardBlock * points), sigma(kBackwardBlock * points);
  std::vector<float> spread((size_t)kBackwardBlock * points * width);
  for (int64_t first = 0; first < total; first += kBackwardBlock) {
    const int64_t count = std::min<int64_t>(kBackwardBlock, total - first);
#pragma omp parallel for schedule(static) if (count > 256)
    for (int64_t part = 0; part < 16; ++part) {
      const int64_t begin = count * part / 16, end = count * (part + 1) / 16;
      find_points(spec, source, first + begin, end - begin, x.data() + 3 * begin * points,
                  sigma.data() + begin * points);
      for (int64_t i = begin; i < end; ++i)
        for (int k = 0; k < points; ++k)
          for (int f = 0; f < width; ++f)
            spread[(i * points + k) * width + f] = share * upstream[(first + i) * stride + f];
    }
    smerf_hash_encode_backward(levels, level_count, features, x.data(), sigma.data(), count * points, spread.data(),
                               gradient);
  }
  return 0;
}
