// The intervals of a ray that meets surfaces: thin where it crosses one, dense where it passes close to one.
#pragma once

#include "smerf/spacing.h"

namespace smerf {

constexpr int kStretches = 128;            // of equal length of s, each of which is near a surface or is not
constexpr float kStretchAnywhere = 0.25f;  // fraction of the free intervals that lie evenly along the ray
constexpr float kStretchInside = 1e-3f, kStretchBehind = 0.1f;  // how much free intervals count within and behind
constexpr float kSurfaceBegin = -0.1f, kSurfaceEnd = 1.5f;      // in half widths behind what the ray meets
constexpr float kSurfaceLeast = 1e-4f;                          // smallest width of a surface in s
constexpr int kSurfaceShare = 4;                                // one of so many intervals lies inside surfaces
constexpr float kSurfaceGap = 5e-7f;                            // what keeps ends apart that fall together

// The cells of the cube [-1, 1]^3 that are near a surface, with an empty border: (cells + 2)^2 rows of bits along z.
struct NearCells {
  const int32_t* bits;
  const float* middles;  // distances of the middles of the stretches
  int32_t cells, words;  // words of a row
};

// Stretches of a ray; none is near before begin, or from end on.
struct NearStretches {
  int begin, end;
  int32_t is_near[kStretches];  // 0 or 1
};

SMERF_FN float stretch_middle(int k) { return ((float)k + 0.5f) / kStretches; }

// The point at distance t is origin + t * direction.
SMERF_FN void find_near(const NearCells& grid, const RaySpacing& spacing, const float* origin, const float* direction,
                        NearStretches& found) {
  const float half = 0.5f * (float)grid.cells;
  float enter = spacing.near_t, leave = spacing.far_t, start[3], slope[3];
  for (int a = 0; a < 3; ++a) {
    const float inverse = fabsf(direction[a]) > 1e-20f ? 1.0f / direction[a] : 1e20f;
    const float one = (-1.0f - origin[a]) * inverse, other = (1.0f - origin[a]) * inverse;
    enter = larger(smaller(one, other), enter), leave = smaller(larger(one, other), leave);
    start[a] = half * origin[a] + half + 1.0f, slope[a] = half * direction[a];
  }
  found.begin = found.end = 0;
  if (!(enter <= leave)) return;
  // One stretch more at either side, for rounding, and whole vectors.
  found.begin = clamp_whole(s_from_t(spacing, enter) * kStretches - 1.5f, 0, kStretches) & -16;
  found.end = clamp_whole(s_from_t(spacing, leave) * kStretches + 17.5f, 0, kStretches) & -16;
  const int last = grid.cells + 1;
  for (int k = found.begin; k < found.end; ++k) {
    const float t = grid.middles[k];
    const int x = clamp_whole(start[0] + slope[0] * t, 0, last), y = clamp_whole(start[1] + slope[1] * t, 0, last),
              z = clamp_whole(start[2] + slope[2] * t, 0, last);
    found.is_near[k] = grid.bits[(x * (last + 1) + y) * grid.words + (z >> 5)] >> (z & 31) & 1;
  }
}

// Sets count ascending ends from 0 to 1 where a ray is free: dense near surfaces, sparse within them, from first to
// last of s, and behind all of them.
SMERF_FN void free_ends(const NearStretches& found, float first, float last, int count, float* ends) {
  const int inside = clamp_whole(ceilf(first * kStretches - 0.5f), 0, kStretches),
            behind = clamp_whole(floorf(last * kStretches - 0.5f) + 1.0f, inside, kStretches);
  int near = 0, near_before = 0, near_behind = 0;
  for (int k = found.begin; k < found.end; ++k) {
    near += found.is_near[k];
    near_before += k < inside ? found.is_near[k] : 0;
    near_behind += k < behind ? 0 : found.is_near[k];
  }
  const int near_inside = near - near_before - near_behind;
  const float even = kStretchAnywhere / kStretches, share = (1.0f - kStretchAnywhere) / (float)(near > 1 ? near : 1);
  const float total = even * inside + share * near_before +
                      kStretchInside * (even * (behind - inside) + share * near_inside) +
                      kStretchBehind * (even * (kStretches - behind) + share * near_behind);
  const float step = total / (float)(count - 1);
  float low = 0.0f;
  int made = 1, k = 0;
  ends[0] = 0.0f;
  // Runs of stretches that count the same.
  while (k < kStretches && made < count - 1) {
    const bool is_within = k >= found.begin && k < found.end, is_near = is_within && found.is_near[k] != 0;
    int stop = k < inside ? inside : k < behind ? behind : kStretches;
    const int known = k < found.begin ? found.begin : is_within ? found.end : kStretches;
    if (known < stop) stop = known;
    const float factor = k < inside ? 1.0f : k < behind ? kStretchInside : kStretchBehind;
    const float mass = factor * (is_near ? even + share : even), per_mass = 1.0f / mass;
    int next = k + 1;
    if (is_within)
      while (next < stop && found.is_near[next] == (int)is_near) ++next;
    else
      next = stop;
    const float high = low + mass * (float)(next - k);
    for (; made < count - 1 && (float)made * step < high; ++made)
      ends[made] = smaller((float)k + ((float)made * step - low) * per_mass, (float)next) * (1.0f / kStretches);
    low = high, k = next;
  }
  for (; made < count; ++made) ends[made] = 1.0f;
}

// Where a surface begins and ends in s.
SMERF_FN void surface_span(const RaySpacing& spacing, float t, float half_width, float* span) {
  const float half = larger(1e-4f * t, half_width);
  const float low = s_from_t(spacing, t + kSurfaceBegin * half), high = s_from_t(spacing, t + kSurfaceEnd * half);
  // A surface at an end of the ray has a width all the same.
  span[0] = smaller(low, 1.0f - 2.0f * larger(high - low, kSurfaceLeast));
  span[1] = larger(high, span[0] + kSurfaceLeast);
}

// Puts inside + 1 even ends from span[0] to span[1] among count ascending ones.
SMERF_FN void insert_ends(const float* span, int inside, float* ends, int count) {
  const float step = (span[1] - span[0]) / (float)inside;
  int from = count - 1;
  for (int left = inside, to = count + inside; left >= 0; --to) {
    const float end = span[0] + step * (float)left;
    const bool is_old = from >= 0 && ends[from] > end;
    ends[to] = is_old ? ends[from] : end;
    from -= is_old, left -= !is_old;
  }
}

// Adds a surface's weight to the intervals, spread evenly over its span.
SMERF_FN void add_share(const float* span, float weight, const float* ends, int samples, float* weights) {
  const float low = span[0], slope = 1.0f / (span[1] - span[0]);
  for (int j = 0; j < samples; ++j)
    weights[j] +=
        weight * (clampf((ends[j + 1] - low) * slope, 0.0f, 1.0f) - clampf((ends[j] - low) * slope, 0.0f, 1.0f));
}

// Sets the intervals of a ray: metric ends (samples + 1) and weights (samples). met, opacity: distances and weights of
// the surfaces (layers) that it crosses; none comes after one without weight. Each weight is spread evenly over the
// width of its surface. 2 * layers < samples.
SMERF_FN void surface_intervals(const NearCells& grid, const RaySpacing& spacing, const float* origin,
                                const float* direction, const float* met, const float* opacity, int layers, int samples,
                                float half_width, float* edges, float* weights) {
  NearStretches found;
  find_near(grid, spacing, origin, direction, found);
  float first = 1.0f, last = 0.0f, span[2];
  int count = 0;
  for (; count < layers && opacity[count] > 0.0f; ++count) {
    surface_span(spacing, met[count], half_width, span);
    first = smaller(span[0], first), last = larger(span[1], last);
  }
  if (!count) last = 1.0f;
  const int share = count ? samples / (kSurfaceShare * count) : 0, inside = share > 1 ? share : 1;
  int made = samples + 1 - count * (inside + 1);
  free_ends(found, first, last, made, edges);
  for (int i = 0; i < count; ++i, made += inside + 1) {
    surface_span(spacing, met[i], half_width, span);
    insert_ends(span, inside, edges, made);
  }
  for (int j = 0; j < samples; ++j) weights[j] = 0.0f;
  for (int i = 0; i < count; ++i) {
    surface_span(spacing, met[i], half_width, span);
    add_share(span, opacity[i], edges, samples, weights);
  }
  const float all = 1.0f / (1.0f + kSurfaceGap * (float)samples);
  for (int j = 0; j <= samples; ++j) edges[j] = t_from_s(spacing, (edges[j] + kSurfaceGap * (float)j) * all);
}

}  // namespace smerf
