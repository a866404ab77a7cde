// Gaussian splats along single rays: a walk through the size-classed tree collects all hits, which are sorted by the
// distance of their centres and composited.
#include <algorithm>
#include <vector>

#include "smerf/splat.h"

namespace smerf {
namespace {

struct Hit {
  float key, alpha, t, variance;
  int32_t splat;
  bool operator<(const Hit& other) const { return key < other.key || (key == other.key && splat < other.splat); }
};

struct Ray {
  float o[3], d[3], u[3], v[3];
};

SMERF_FN Lanes8 load8(const float* p) {
  Lanes8 r;
  memcpy(&r, p, sizeof(r));
  return r;
}
SMERF_FN Lanes8 abs8(const Lanes8& a) { return a < 0.0f ? -a : a; }

SMERF_FN int bits_of(const IntLanes8& mask) {
  int bits = 0;
#if defined(__AVX2__)
  bits = _mm256_movemask_ps((__m256)mask);
#else
  for (int i = 0; i < 8; ++i) bits |= (mask[i] & 1) << i;
#endif
  return bits;
}

// Which of eight boxes the line of a ray meets ahead of the eye, each widened by the cone of the dilation.
SMERF_FN int boxes_hit(const float* node, const Ray& ray, float near, float widening) {
  Lanes8 rel[3], half[3];
  for (int a = 0; a < 3; ++a) {
    const Lanes8 low = load8(node + 8 * a), high = load8(node + 24 + 8 * a);
    rel[a] = 0.5f * (low + high) - ray.o[a];
    half[a] = 0.5f * (high - low);
  }
  const float dx = fabsf(ray.d[0]), dy = fabsf(ray.d[1]), dz = fabsf(ray.d[2]);
  const Lanes8 far =
      rel[0] * ray.d[0] + rel[1] * ray.d[1] + rel[2] * ray.d[2] + half[0] * dx + half[1] * dy + half[2] * dz;
  const Lanes8 wide = widening * (far > 0.0f ? far : Lanes8{});
  const Lanes8 hx = half[0] + wide, hy = half[1] + wide, hz = half[2] + wide;
  const IntLanes8 hit = (far > near) & (abs8(ray.d[1] * rel[2] - ray.d[2] * rel[1]) <= hy * dz + hz * dy) &
                        (abs8(ray.d[2] * rel[0] - ray.d[0] * rel[2]) <= hz * dx + hx * dz) &
                        (abs8(ray.d[0] * rel[1] - ray.d[1] * rel[0]) <= hx * dy + hy * dx);
  return bits_of(hit);
}

void test_leaf(const SplatTree& tree, int32_t leaf, const Ray& ray, std::vector<Hit>& hits) {
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

void collect(const SplatTree& tree, const Ray& ray, std::vector<Hit>& hits) {
  // 2 ln(255) bounds the squared deviations at which a splat counts.
  const float widening = 3.3291f * sqrtf(tree.dilation);
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
  std::sort(hits.begin(), hits.end());
}

// Composites sorted hits over black into colour, and returns their weights as boxes.
void composite(const SplatTree& tree, const RaySpacing& spacing, float min_half, const Ray& ray,
               const std::vector<Hit>& hits, float* colour, std::vector<SplatBox>& boxes) {
  float light = 1.0f;
  boxes.clear();
  for (int c = 0; c < 3; ++c) colour[c] = 0.0f;
  for (const Hit& hit : hits) {
    const float rest = light * (1.0f - hit.alpha), weight = light * hit.alpha;
    if (rest < kSplatStop) break;
    const float* rows = tree.leaves + (int64_t)(hit.splat >> 3) * kSplatRows * 8 + (hit.splat & 7);
    float rgb[3];
    splat_colour(tree.sh + (int64_t)hit.splat * tree.coefficients * 3, tree.coefficients, tree.sh_rotation,
                 rows[0] - ray.o[0], rows[8] - ray.o[1], rows[16] - ray.o[2], rgb);
    for (int c = 0; c < 3; ++c) colour[c] += weight * rgb[c];
    boxes.push_back(splat_box(spacing, hit.t, sqrtf(hit.variance), weight, min_half));
    light = rest;
  }
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
    std::vector<Hit> hits;
    std::vector<SplatBox> boxes;
    float cumulative[kSplatBins + 1];
#pragma omp for schedule(dynamic, 64)
    for (int64_t r = 0; r < rays; ++r) {
      Ray ray;
      for (int a = 0; a < 3; ++a) ray.o[a] = origins[3 * r + a], ray.d[a] = directions[3 * r + a];
      across(ray.d, ray.u, ray.v);
      collect(*tree, ray, hits);
      composite(*tree, *spacing, min_half, ray, hits, colours + 3 * r, boxes);
      float* ends = edges + r * (samples + 1);
      deposit(boxes.data(), (int)boxes.size(), samples, mix, cumulative, ends, weights + r * samples);
      for (int j = 0; j <= samples; ++j) ends[j] = t_from_s(*spacing, ends[j]);
      ends[0] = spacing->near_t, ends[samples] = spacing->far_t;
    }
  }
  return 0;
}
