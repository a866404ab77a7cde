// Gaussian splats along single rays: a walk through the size-classed tree collects all hits, which are sorted by the
// distance of their centres and composited.
#include <algorithm>
#include <vector>

#include "smerf/splat.h"

namespace smerf {
namespace {

SMERF_FN Lanes8 load8(const float* p) {
  Lanes8 r;
  memcpy(&r, p, sizeof(r));
  return r;
}

SMERF_FN int bits_of(const IntLanes8& mask) {
  int bits = 0;
#if defined(__AVX2__)
  bits = _mm256_movemask_ps((__m256)mask);
#else
  for (int i = 0; i < 8; ++i) bits |= (mask[i] & 1) << i;
#endif
  return bits;
}

// Which of eight boxes a ray meets.
SMERF_FN int boxes_hit(const float* node, const SplatRay& ray, float near, float widening) {
  Lanes8 low[3], high[3];
  for (int a = 0; a < 3; ++a) low[a] = load8(node + 8 * a), high[a] = load8(node + 24 + 8 * a);
  return bits_of(splat_box_hit<Lanes8>(low, high, ray, near, widening));
}

void test_leaf(const SplatTree& tree, int32_t leaf, const SplatRay& ray, std::vector<SplatHit>& hits) {
  const float* rows = tree.leaves + (int64_t)leaf * kSplatRows * 8;
  SplatShape<Lanes8> s;
  Lanes8* parts[] = {&s.x, &s.y, &s.z, &s.xx, &s.xy, &s.xz, &s.yy, &s.yz, &s.zz};
  for (int i = 0; i < 9; ++i) *parts[i] = load8(rows + 8 * i);
  const SplatResponse<Lanes8> r = splat_response<Lanes8>(s, ray.o, ray.d, ray.u, ray.v, tree.dilation);
  int bits = bits_of((r.q <= load8(rows + 80)) & (r.tau > tree.near));
  for (; bits; bits &= bits - 1) {
    const int i = __builtin_ctz(bits);
    float opacity = rows[72 + i];
    if (tree.is_antialiased) opacity *= sqrtf(r.factor[i]);
    const float alpha = smaller(opacity * fast_exp(-0.5f * r.q[i]), kSplatAlphaMax);
    if (!(alpha >= kSplatAlphaMin)) continue;
    const float x = s.x[i] - ray.o[0], y = s.y[i] - ray.o[1], z = s.z[i] - ray.o[2];
    hits.push_back({x * x + y * y + z * z, alpha, r.t[i], r.variance[i], leaf * 8 + i});
  }
}

void collect(const SplatTree& tree, const SplatRay& ray, std::vector<SplatHit>& hits) {
  const float widening = splat_widening(tree);
  struct Entry {
    int32_t level, index;
  } stack[8 * kSplatLevels];
  hits.clear();
  for (int c = 0; c < tree.classes; ++c) {
    const int32_t* levels = tree.levels + c * kSplatLevels;
    int height = 0;
    stack[height++] = {levels[0] - 1, 0};
    while (height) {
      const Entry e = stack[--height];
      const float* node = tree.nodes + ((int64_t)levels[2 + e.level] + e.index) * 48;
      for (int bits = boxes_hit(node, ray, tree.near, widening); bits; bits &= bits - 1) {
        const int32_t child = e.index * 8 + __builtin_ctz(bits);
        if (e.level)
          stack[height++] = {e.level - 1, child};
        else
          test_leaf(tree, levels[1] + child, ray, hits);
      }
    }
  }
  std::sort(hits.begin(), hits.end(), splat_before);
}

}  // namespace
}  // namespace smerf

// origins, unit directions: (rays, 3). Sets edges (rays, samples + 1), metric and ascending; weights (rays, samples);
// colours (rays, 3) over black. min_half: half of the smallest width of a splat along the ray, in s; mix: fraction of
// the intervals that is spread evenly.
SMERF_API int smerf_splat_rays(const smerf::SplatTree* tree, const smerf::RaySpacing* spacing, const float* origins,
                               const float* directions, int64_t rays, int samples, float min_half, float mix,
                               float* edges, float* weights, float* colours) {
  using namespace smerf;
  if (samples < 1 || samples > 256 || tree->coefficients > 16) return -1;
#pragma omp parallel
  {
    std::vector<SplatHit> hits;
    std::vector<SplatBox> boxes;
    float cumulative[kSplatBins + 1];
#pragma omp for schedule(dynamic, 64)
    for (int64_t r = 0; r < rays; ++r) {
      const SplatRay ray = splat_ray(origins + 3 * r, directions + 3 * r);
      collect(*tree, ray, hits);
      boxes.resize(hits.size());
      const int used = splat_composite(*tree, *spacing, min_half, ray.o, hits.data(), (int)hits.size(), colours + 3 * r,
                                       boxes.data());
      splat_intervals(*spacing, boxes.data(), used, samples, mix, cumulative, edges + r * (samples + 1),
                      weights + r * samples);
    }
  }
  return 0;
}
