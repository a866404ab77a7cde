// The ray march of a baked scene: one ray in, one colour out. Mirrors smerf/render/reference.py.
//
// Frames: the submodel's frame on viewer axes; "contracted" is that frame through MERF's contraction, [-2, 2]^3.
// t is the ray parameter (t = 1 is the near plane), s the contracted arc length within one region of the contraction.
// Sources: MERF (arXiv 2302.12249), SMERF (arXiv 2312.07541), and the behaviour of the official viewer.
#pragma once

#include "smerf/march_objects.h"

namespace smerf {

// Samples below this add no colour (their opacity still counts); rays below that are opaque.
constexpr float kAlphaMin = 0.25f / 255.0f, kVisibilityMin = 1.0f / 255.0f;
// Photos support directions a little beyond their cone, and fade over the inverse of the ramp (in cosines).
constexpr float kKnownMargin = 1.7f, kKnownRamp = 5.0f;

// The straight piece of a ray inside one region of the contraction.
struct MarchPiece {
  Vec3 start, along, inverse;
  float enter, leave;
};

SMERF_FN Vec3 along_ray(const Vec3& o, const Vec3& d, float t) { return {o.x + t * d.x, o.y + t * d.y, o.z + t * d.z}; }

SMERF_FN Vec3 uncontract(const Vec3& y) {
  const float m = max_abs(y);
  if (!(m > 1.0f)) return y;
  const float scale = 1.0f / larger(1e-6f, 2.0f - m);
  const int axis = largest_axis(y);
  return {axis == 0 ? copysignf(scale, y.x) : y.x * scale, axis == 1 ? copysignf(scale, y.y) : y.y * scale,
          axis == 2 ? copysignf(scale, y.z) : y.z * scale};
}

// Keeps the part of [enter, leave] where a + t b >= 0.
SMERF_FN void clip_half_space(float a, float b, float& enter, float& leave) {
  const float t = -a / b;
  const float parallel = a < 0.0f ? -INFINITY : INFINITY;
  enter = larger(enter, b > 0.0f ? t : -INFINITY);
  leave = smaller(leave, b < 0.0f ? t : (b > 0.0f ? INFINITY : parallel));
}

// Where a ray leaves a region: infinity if it does not cross it. One that ends at the near plane has no two points to
// lay a line through.
SMERF_FN float exit_of(float enter, float leave, float near) {
  return leave > larger(enter, near * 1.000001f) ? leave : INFINITY;
}

// One outer region: a is the component along its outward axis, b and c are the others.
SMERF_FN float slab_exit(float oa, float da, float ob, float db, float oc, float dc, float near) {
  float enter = -INFINITY, leave = INFINITY;
  clip_half_space(oa - 1.0f, da, enter, leave);
  clip_half_space(1e4f - oa, -da, enter, leave);
  clip_half_space(oa + ob, da + db, enter, leave);
  clip_half_space(oa - ob, da - db, enter, leave);
  clip_half_space(oa + oc, da + dc, enter, leave);
  clip_half_space(oa - oc, da - dc, enter, leave);
  return exit_of(enter, leave, near);
}

SMERF_FN float cube_exit(const Vec3& o, const Vec3& d, float near) {
  float enter = -INFINITY, leave = INFINITY;
  clip_half_space(1.0f + o.x, d.x, enter, leave);
  clip_half_space(1.0f - o.x, -d.x, enter, leave);
  clip_half_space(1.0f + o.y, d.y, enter, leave);
  clip_half_space(1.0f - o.y, -d.y, enter, leave);
  clip_half_space(1.0f + o.z, d.z, enter, leave);
  clip_half_space(1.0f - o.z, -d.z, enter, leave);
  return exit_of(enter, leave, near);
}

// Parameters at which a ray leaves the regions of the contraction. Regions are convex: each is left at most once.
struct RegionExits {
  float t[7];
};

SMERF_FN RegionExits region_exits(const Vec3& o, const Vec3& d, float near) {
  return {{cube_exit(o, d, near), slab_exit(o.x, d.x, o.y, d.y, o.z, d.z, near),
           slab_exit(-o.x, -d.x, o.y, d.y, o.z, d.z, near), slab_exit(o.y, d.y, o.x, d.x, o.z, d.z, near),
           slab_exit(-o.y, -d.y, o.x, d.x, o.z, d.z, near), slab_exit(o.z, d.z, o.x, d.x, o.y, d.y, near),
           slab_exit(-o.z, -d.z, o.x, d.x, o.y, d.y, near)}};
}

// The first exit after t, infinity if there is none.
SMERF_FN float next_exit(const RegionExits& exits, float t) {
  float first = INFINITY;
  for (int i = 0; i < 7; ++i) first = exits.t[i] > t ? smaller(first, exits.t[i]) : first;
  return first;
}

// A direction component of exactly 0 on a cell border would give 0 * inf.
SMERF_FN float safe_inverse(float d) { return 1.0f / (fabsf(d) < 1e-9f ? copysignf(1e-9f, d) : d); }

SMERF_FN float box_exit(const Vec3& low, const Vec3& high, const MarchPiece& p) {
  const float x = larger((low.x - p.start.x) * p.inverse.x, (high.x - p.start.x) * p.inverse.x);
  const float y = larger((low.y - p.start.y) * p.inverse.y, (high.y - p.start.y) * p.inverse.y);
  const float z = larger((low.z - p.start.z) * p.inverse.z, (high.z - p.start.z) * p.inverse.z);
  return smaller(x, smaller(y, z));
}

SMERF_FN float box_enter(const Vec3& low, const Vec3& high, const MarchPiece& p) {
  const float x = smaller((low.x - p.start.x) * p.inverse.x, (high.x - p.start.x) * p.inverse.x);
  const float y = smaller((low.y - p.start.y) * p.inverse.y, (high.y - p.start.y) * p.inverse.y);
  const float z = smaller((low.z - p.start.z) * p.inverse.z, (high.z - p.start.z) * p.inverse.z);
  return larger(x, larger(y, z));
}

// Two parameters inside one region give its contracted line; its box gives where the line enters and leaves it.
SMERF_FN MarchPiece enter_region(const Vec3& o, const Vec3& d, float t_first, float t_second) {
  MarchPiece p;
  const Vec3 x = along_ray(o, d, t_first);
  p.start = contract(x);
  const Vec3 end = contract(along_ray(o, d, t_second));
  const Vec3 chord = {end.x - p.start.x, end.y - p.start.y, end.z - p.start.z};
  const float inv = 1.0f / sqrtf(chord.x * chord.x + chord.y * chord.y + chord.z * chord.z);
  p.along = {chord.x * inv, chord.y * inv, chord.z * inv};
  p.inverse = {safe_inverse(p.along.x), safe_inverse(p.along.y), safe_inverse(p.along.z)};
  Vec3 low = {-1.0f, -1.0f, -1.0f}, high = {1.0f, 1.0f, 1.0f};
  if (max_abs(x) > 1.0f) {
    const int axis = largest_axis(x);
    if (axis == 0) low.x = x.x > 0.0f ? 1.0f : -2.0f, high.x = low.x + 1.0f;
    if (axis == 1) low.y = x.y > 0.0f ? 1.0f : -2.0f, high.y = low.y + 1.0f;
    if (axis == 2) low.z = x.z > 0.0f ? 1.0f : -2.0f, high.z = low.z + 1.0f;
  }
  p.enter = box_enter(low, high, p);
  p.leave = box_exit(low, high, p);
  return p;
}

SMERF_FN float cells_per_unit(const MarchScene& m) { return 0.03125f * (float)m.texels; }

// Number of the cell of the distance and occupancy grids that holds a contracted point.
SMERF_FN int cell_number(const MarchScene& m, const Vec3& z) {
  const float inv = cells_per_unit(m);
  const int n = m.cells;
  const int x = clamp_whole((z.x + 2.0f) * inv, 0, n - 1);
  const int y = clamp_whole((z.y + 2.0f) * inv, 0, n - 1);
  const int w = clamp_whole((z.z + 2.0f) * inv, 0, n - 1);
  return (x * n + y) * n + w;
}

// Whether the child of an occupancy cell (byte) that holds z is occupied, and where the ray leaves it. A cell without
// any child is left as a whole.
SMERF_FN int test_occupancy(const MarchScene& m, const MarchPiece& p, const Vec3& z, int byte, float& end) {
  const float size = 8.0f * m.voxel, inv = cells_per_unit(m);
  const float px = (z.x + 2.0f) * inv, py = (z.y + 2.0f) * inv, pz = (z.z + 2.0f) * inv;
  const float lx = floorf(px), ly = floorf(py), lz = floorf(pz);
  const int dx = px - lx > 0.5f, dy = py - ly > 0.5f, dz = pz - lz > 0.5f;
  const float half = byte ? 0.5f : 0.0f, edge = byte ? 0.5f * size : size;
  const Vec3 low = {(lx + half * (float)dx) * size - 2.0f, (ly + half * (float)dy) * size - 2.0f,
                    (lz + half * (float)dz) * size - 2.0f};
  end = box_exit(low, {low.x + edge, low.y + edge, low.z + edge}, p);
  return (byte >> (4 * dx + 2 * dy + dz)) & 1;
}

// Length of the next step, longer behind content that the running visibility finds nearly opaque.
SMERF_FN float enlarged_step(const MarchScene& m, float visibility, float& average) {
  average = m.visibility_delay * average + (1.0f - m.visibility_delay) * visibility;
  return m.step * (10.0f - 9.0f * sqrtf(smaller(1.0f, average * 1.25f)));
}

// World length of the step from z to after, both contracted.
SMERF_FN float step_length(const MarchScene& m, const Vec3& z, const Vec3& after) {
  const Vec3 a = uncontract(z), b = uncontract(after);
  const float x = b.x - a.x, y = b.y - a.y, w = b.z - a.z;
  return sqrtf(x * x + y * y + w * w) * m.inv_submodel_scale;
}

SMERF_FN float alpha_of(float density, float length) { return 1.0f - fast_exp(-fast_exp(density - 1.0f) * length); }

// One axis of a position in the known region: the cell below, and the weight of the one above.
SMERF_FN int known_corner(const MarchScene& m, float z, float& weight) {
  const float g = clampf((z + 2.0f) * (0.25f * (float)m.known_cells) - 0.5f, 0.0f, (float)(m.known_cells - 1));
  const int low = clamp_whole(g, 0, m.known_cells - 2);
  weight = g - (float)low;
  return low;
}

// How well photos support what a ray along the unit direction `view` meets at a contracted point, in [0, 1]. Cells hold
// the mean direction r of the photos' rays; those of a cone of half-angle a have |r| = (1 + cos a) / 2.
SMERF_FN float support_at(const MarchScene& m, const Vec3& z, const Vec3& view) {
  float wx, wy, wz, mean[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  const int x = known_corner(m, z.x, wx), y = known_corner(m, z.y, wy), w = known_corner(m, z.z, wz);
  for (int corner = 0; corner < 8; ++corner) {
    const int dx = corner >> 2, dy = corner >> 1 & 1, dz = corner & 1;
    const uint8_t* cell = m.known + (((size_t)(x + dx) * m.known_cells + y + dy) * m.known_cells + w + dz) * 4;
    const float weight = (dx ? wx : 1.0f - wx) * (dy ? wy : 1.0f - wy) * (dz ? wz : 1.0f - wz) * (1.0f / 255.0f);
    for (int c = 0; c < 4; ++c) mean[c] += weight * (float)cell[c];
  }
  const Vec3 r = {2.0f * mean[0] - 1.0f, 2.0f * mean[1] - 1.0f, 2.0f * mean[2] - 1.0f};
  const float spread = sqrtf(r.x * r.x + r.y * r.y + r.z * r.z);
  const float facing = r.x * view.x + r.y * view.y + r.z * view.z + spread * (kKnownMargin - 2.0f * spread);
  return mean[3] * clampf(facing * kKnownRamp + 1.0f, 0.0f, 1.0f);
}

// Blended channels of a ray: lanes r, g, b, f0 .. f3 (lane 0 is unused), the visibility left, how much of the pixel no
// photo supports, how much of the highlight it gets, and the object that it shows.
struct MarchResult {
  Lanes8 fine, coarse;
  float visibility, unknown, lit;
  int32_t object;
};

SMERF_FN Vec3 unit_of(const Vec3& d) {
  const float inv = 1.0f / sqrtf(d.x * d.x + d.y * d.y + d.z * d.z);
  return {d.x * inv, d.y * inv, d.z * inv};
}

// World distance of a contracted point from a ray's origin.
SMERF_FN float distance_from(const MarchScene& m, const Vec3& o, const Vec3& z) {
  const Vec3 x = uncontract(z);
  const float dx = x.x - o.x, dy = x.y - o.y, dz = x.z - o.z;
  return sqrtf(dx * dx + dy * dy + dz * dz) * m.inv_submodel_scale;
}

// The first piece of a ray that crosses a region: from the near plane to `exit`.
SMERF_FN MarchPiece first_piece(const MarchScene& m, const Vec3& o, const Vec3& d, float exit) {
  return enter_region(o, d, m.near, m.near + 0.5f * (exit - m.near));
}

// Steps (in t) that a region takes at least, or it is passed over: the 16 of official scenes, 2048 texels wide, and as
// long a piece in smaller ones, where it is fewer steps.
SMERF_FN float least_steps(const MarchScene& m) { return fminf(16.0f, fmaxf(4.0f, 0.03125f / m.voxel)); }

// Sets up the next region that is long enough; false when the ray has left the scene. exit: where the last one ended.
SMERF_FN bool next_region(const MarchScene& m, const Vec3& o, const Vec3& d, const RegionExits& exits, float stride,
                          float& exit, MarchPiece& p) {
  if (max_abs(along_ray(p.start, p.along, p.leave)) >= 2.0f - 1e-3f) return false;
  float before = exit;
  exit = next_exit(exits, before);
  while (exit < INFINITY && before >= exit - least_steps(m) * stride) {
    before = exit;
    exit = next_exit(exits, before);
  }
  if (!(exit < INFINITY)) return false;
  p = enter_region(o, d, before + 0.1f * (exit - before), before + 0.9f * (exit - before));
  return true;
}

// One ray from its near plane until it has left the scene or is opaque. kObjects: somebody asks for objects. depth:
// [spent_count] zeros or null, gets the world distances at which the ray is spent.
template <bool kObjects>
SMERF_FN MarchResult march_ray(const MarchScene& m, const Vec3& o, const Vec3& d, float* depth) {
  MarchResult result = {zero_lanes(), zero_lanes(), 1.0f, 0.0f, 0.0f, 0};
  Owners owners = no_owners();
  const Vec3 view = unit_of(d);
  const RegionExits exits = region_exits(o, d, m.near);
  float exit = next_exit(exits, -INFINITY);
  if (!(exit < INFINITY)) return result;
  MarchPiece p = first_piece(m, o, d, exit);
  float s = 0.0f, cell_end = -INFINITY, average = 1.0f, visibility = 1.0f;
  for (int i = 0; i < m.max_steps && visibility > kVisibilityMin; ++i) {
    const float stride = m.is_enlarging ? enlarged_step(m, visibility, average) : m.step;
    if (s > p.leave) {
      if (!next_region(m, o, d, exits, stride, exit, p)) break;
      s = p.enter + 0.5f * stride;
      cell_end = -INFINITY;
    }
    const Vec3 z = along_ray(p.start, p.along, s);
    const int cell = cell_number(m, z), skip = m.distance[cell];
    if (skip) {
      s += (float)skip * (8.0f * m.voxel);
      continue;
    }
    if (s > cell_end && !test_occupancy(m, p, z, m.occupancy[cell], cell_end)) {
      s = larger(s, cell_end) + 0.5f * stride;
      continue;
    }
    Lanes8 fine, coarse;
    const uint8_t* slot = m.blocks + (size_t)block_number(m, z) * 3;
    const int id = kObjects && slot[0] != 255 ? object_at(m, z, slot) : 0;
    if (slot[0] != 255 && !(kObjects && m.object_states[id] & kHidden)) {
      read_assets(m, locate(m, z, slot[0], slot[1], slot[2]), fine, coarse);
      const Vec3 after = along_ray(p.start, p.along, smaller(s + stride, p.leave));
      const float alpha = alpha_of(lane(fine, 0), step_length(m, z, after));
      if (alpha > kAlphaMin) {
        const float weight = visibility * alpha;
        result.fine += weight * sigmoid(fine);
        if (m.has_coarse) result.coarse += weight * sigmoid(coarse);
        if (m.known) result.unknown += weight * (1.0f - support_at(m, z, view));
        if (kObjects) add_owner(owners, id, weight);
        if (kObjects && m.object_states[id] & kLit) result.lit += kHighlightShare * weight;
      }
      const float left = visibility * (1.0f - alpha);
      for (int k = 0; depth && k < m.spent_count; ++k)
        if (visibility > m.spent[k] && left <= m.spent[k]) depth[k] = distance_from(m, o, z);
      visibility = left;
    }
    s += stride;
  }
  result.visibility = visibility;
  if (kObjects) result.object = owner_of(owners, visibility);
  if (m.known) result.unknown += visibility * (1.0f - support_at(m, along_ray(p.start, p.along, p.leave), view));
  return result;
}

}  // namespace smerf
