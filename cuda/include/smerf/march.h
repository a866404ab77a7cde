// The ray march of a baked scene: one ray in, one colour out. Mirrors smerf/render/reference.py.
//
// Frames: the submodel's frame on viewer axes; "contracted" is that frame through MERF's contraction, [-2, 2]^3.
// t is the ray parameter (t = 1 is the near plane), s the contracted arc length within one region of the contraction.
// Sources: MERF (arXiv 2302.12249), SMERF (arXiv 2312.07541), and the behaviour of the official viewer.
#pragma once

#include "smerf/contraction.h"
#include "smerf/lanes.h"

namespace smerf {

constexpr int kMarchMaxHidden = 64;
constexpr int kMarchMaxInputs = 44;

// Field order and types are mirrored by smerf/kernels/march.py.
struct MarchScene {
  const uint8_t* atlas;      // [atlas_x][atlas_y][atlas_z][8]: density, r, g, b, f0, f1, f2, gate
  const uint8_t* planes;     // [3][texels][texels][8], planes yz, xz, xy
  const uint8_t* blocks;     // [num_blocks]^3 [3]: atlas slot of a macroblock, 255 = empty
  const uint8_t* distance;   // [cells]^3: cells that a ray may skip
  const uint8_t* occupancy;  // [cells]^3: eight children a byte, bit 4 dx + 2 dy + dz
  const float* kernels[3];   // appearance network, [in][out]
  const float* biases[3];
  int32_t atlas_x, atlas_y, atlas_z;
  int32_t texels;             // T, texels per plane edge
  int32_t num_blocks;         // S / B, macroblocks per axis
  int32_t block_size;         // B, sparse voxels per macroblock edge
  int32_t cells;              // cells of the distance and occupancy grids per axis
  int32_t hidden[2];          // widths of the hidden layers
  int32_t is_gated;           // planes are multiplied by the gate
  int32_t has_coarse;         // the sparse grid alone is blended too: 14 channels instead of 7
  int32_t is_relu;            // hidden activation relu, else elu
  int32_t is_vfr;             // the network gives the whole colour, else a residual
  int32_t is_exposed;         // log_exposure conditions the network
  int32_t is_enlarging;       // lengthen steps behind nearly opaque content
  int32_t max_steps;          // iterations of the march
  float voxel;                // 4 / T
  float sparse_voxel;         // 4 / S
  float step;                 // contracted length of a step
  float near;                 // ray parameter at which the march starts
  float density_low, density_scale;  // value = low + byte * scale
  float feature_low, feature_scale;
  float inv_submodel_scale;   // world units per submodel unit
  float visibility_delay;     // of the running visibility that enlarges steps
  float log_exposure;
  float background[3];
};

// The straight piece of a ray inside one region of the contraction.
struct MarchPiece {
  Vec3 start, along, inverse;
  float enter, leave;
};

SMERF_FN Vec3 along_ray(const Vec3& o, const Vec3& d, float t) {
  return {o.x + t * d.x, o.y + t * d.y, o.z + t * d.z};
}

SMERF_FN float max_abs(const Vec3& p) { return fmaxf(fabsf(p.x), fmaxf(fabsf(p.y), fabsf(p.z))); }

SMERF_FN Vec3 uncontract(const Vec3& y) {
  const float m = max_abs(y);
  if (!(m > 1.0f)) return y;
  const float scale = 1.0f / fmaxf(1e-6f, 2.0f - m);
  const int axis = largest_axis(y);
  return {axis == 0 ? copysignf(scale, y.x) : y.x * scale, axis == 1 ? copysignf(scale, y.y) : y.y * scale,
          axis == 2 ? copysignf(scale, y.z) : y.z * scale};
}

// Keeps the part of [enter, leave] where a + t b >= 0.
SMERF_FN void clip_half_space(float a, float b, float& enter, float& leave) {
  const float t = -a / b;
  if (b > 0.0f)
    enter = fmaxf(enter, t);
  else if (b < 0.0f)
    leave = fminf(leave, t);
  else if (a < 0.0f)
    leave = -INFINITY;
}

SMERF_FN void add_exit(float enter, float leave, float near, float* exits, int& count) {
  // A region that ends at the near plane has no two points to lay a line through.
  if (!(leave > enter && leave > near * 1.000001f)) return;
  int i = count++;
  for (; i > 0 && exits[i - 1] > leave; --i) exits[i] = exits[i - 1];
  exits[i] = leave;
}

// One outer region: a is the component along its outward axis, b and c are the others.
SMERF_FN void add_slab_exit(float oa, float da, float ob, float db, float oc, float dc, float near, float* exits,
                            int& count) {
  float enter = -INFINITY, leave = INFINITY;
  clip_half_space(oa - 1.0f, da, enter, leave);
  clip_half_space(1e4f - oa, -da, enter, leave);
  clip_half_space(oa + ob, da + db, enter, leave);
  clip_half_space(oa - ob, da - db, enter, leave);
  clip_half_space(oa + oc, da + dc, enter, leave);
  clip_half_space(oa - oc, da - dc, enter, leave);
  add_exit(enter, leave, near, exits, count);
}

// Parameters at which a ray leaves a region, ascending. Regions are convex: each is left at most once.
SMERF_FN int region_exits(const Vec3& o, const Vec3& d, float near, float* exits) {
  int count = 0;
  float enter = -INFINITY, leave = INFINITY;
  clip_half_space(1.0f + o.x, d.x, enter, leave);
  clip_half_space(1.0f - o.x, -d.x, enter, leave);
  clip_half_space(1.0f + o.y, d.y, enter, leave);
  clip_half_space(1.0f - o.y, -d.y, enter, leave);
  clip_half_space(1.0f + o.z, d.z, enter, leave);
  clip_half_space(1.0f - o.z, -d.z, enter, leave);
  add_exit(enter, leave, near, exits, count);
  add_slab_exit(o.x, d.x, o.y, d.y, o.z, d.z, near, exits, count);
  add_slab_exit(-o.x, -d.x, o.y, d.y, o.z, d.z, near, exits, count);
  add_slab_exit(o.y, d.y, o.x, d.x, o.z, d.z, near, exits, count);
  add_slab_exit(-o.y, -d.y, o.x, d.x, o.z, d.z, near, exits, count);
  add_slab_exit(o.z, d.z, o.x, d.x, o.y, d.y, near, exits, count);
  add_slab_exit(-o.z, -d.z, o.x, d.x, o.y, d.y, near, exits, count);
  return count;
}

// A direction component of exactly 0 on a cell border would give 0 * inf.
SMERF_FN float safe_inverse(float d) { return 1.0f / (fabsf(d) < 1e-9f ? copysignf(1e-9f, d) : d); }

SMERF_FN float box_exit(const Vec3& low, const Vec3& high, const MarchPiece& p) {
  const float x = fmaxf((low.x - p.start.x) * p.inverse.x, (high.x - p.start.x) * p.inverse.x);
  const float y = fmaxf((low.y - p.start.y) * p.inverse.y, (high.y - p.start.y) * p.inverse.y);
  const float z = fmaxf((low.z - p.start.z) * p.inverse.z, (high.z - p.start.z) * p.inverse.z);
  return fminf(x, fminf(y, z));
}

SMERF_FN float box_enter(const Vec3& low, const Vec3& high, const MarchPiece& p) {
  const float x = fminf((low.x - p.start.x) * p.inverse.x, (high.x - p.start.x) * p.inverse.x);
  const float y = fminf((low.y - p.start.y) * p.inverse.y, (high.y - p.start.y) * p.inverse.y);
  const float z = fminf((low.z - p.start.z) * p.inverse.z, (high.z - p.start.z) * p.inverse.z);
  return fmaxf(x, fmaxf(y, z));
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

// Bilinear sum of bytes of one plane at texel coordinates (u, v), texel centres at whole numbers.
SMERF_FN void add_plane(const MarchScene& m, int plane, float u, float v, Lanes8& total) {
  const int last = m.texels - 1;
  const float fu = floorf(u), fv = floorf(v);
  const float wu = u - fu, wv = v - fv;
  const int u0 = clampi((int)fu, 0, last), u1 = clampi((int)fu + 1, 0, last);
  const int v0 = clampi((int)fv, 0, last), v1 = clampi((int)fv + 1, 0, last);
  const uint8_t* base = m.planes + (size_t)plane * m.texels * m.texels * 8;
  const uint8_t* row0 = base + (size_t)u0 * m.texels * 8;
  const uint8_t* row1 = base + (size_t)u1 * m.texels * 8;
  add_bytes(total, row0 + v0 * 8, (1.0f - wu) * (1.0f - wv));
  add_bytes(total, row0 + v1 * 8, (1.0f - wu) * wv);
  add_bytes(total, row1 + v0 * 8, wu * (1.0f - wv));
  add_bytes(total, row1 + v1 * 8, wu * wv);
}

// Trilinear sum of bytes of the atlas; x, y, z are voxel coordinates inside one block's samples.
SMERF_FN Lanes8 read_atlas(const MarchScene& m, float x, float y, float z) {
  const int x0 = clampi((int)x, 0, m.atlas_x - 2), y0 = clampi((int)y, 0, m.atlas_y - 2);
  const int z0 = clampi((int)z, 0, m.atlas_z - 2);
  const float wx = x - (float)x0, wy = y - (float)y0, wz = z - (float)z0;
  const size_t step_y = (size_t)m.atlas_z * 8, step_x = step_y * m.atlas_y;
  const uint8_t* p = m.atlas + x0 * step_x + y0 * step_y + (size_t)z0 * 8;
  Lanes8 total = zero_lanes();
  const float a = (1.0f - wx) * (1.0f - wy), b = (1.0f - wx) * wy, c = wx * (1.0f - wy), e = wx * wy;
  add_bytes(total, p, a * (1.0f - wz));
  add_bytes(total, p + 8, a * wz);
  add_bytes(total, p + step_y, b * (1.0f - wz));
  add_bytes(total, p + step_y + 8, b * wz);
  add_bytes(total, p + step_x, c * (1.0f - wz));
  add_bytes(total, p + step_x + 8, c * wz);
  add_bytes(total, p + step_x + step_y, e * (1.0f - wz));
  add_bytes(total, p + step_x + step_y + 8, e * wz);
  return total;
}

// Finds the macroblock that serves a contracted point; false if it is empty. Blocks are sample-centred.
SMERF_FN bool find_block(const MarchScene& m, const Vec3& z, Vec3& voxel) {
  const float inv = 1.0f / m.sparse_voxel, inv_block = 1.0f / (float)m.block_size;
  const float gx = (z.x + 2.0f) * inv - 0.5f, gy = (z.y + 2.0f) * inv - 0.5f, gz = (z.z + 2.0f) * inv - 0.5f;
  const float bx = floorf(gx * inv_block), by = floorf(gy * inv_block), bz = floorf(gz * inv_block);
  const int n = m.num_blocks, last = n - 1;
  const int ix = clampi((int)bx, 0, last), iy = clampi((int)by, 0, last), iz = clampi((int)bz, 0, last);
  const uint8_t* slot = m.blocks + (((size_t)ix * n + iy) * n + iz) * 3;
  if (slot[0] == 255) return false;
  const float edge = (float)m.block_size;
  voxel.x = clampf(gx - edge * bx, 0.0f, edge) + (float)(slot[0] * (m.block_size + 1));
  voxel.y = clampf(gy - edge * by, 0.0f, edge) + (float)(slot[1] * (m.block_size + 1));
  voxel.z = clampf(gz - edge * bz, 0.0f, edge) + (float)(slot[2] * (m.block_size + 1));
  return true;
}

// Sparse grid and sparse grid plus gated planes, dequantised, at a contracted point; false in an empty macroblock.
SMERF_FN bool sample_assets(const MarchScene& m, const Vec3& z, Lanes8& fine, Lanes8& coarse) {
  Vec3 voxel;
  if (!find_block(m, z, voxel)) return false;
  const Lanes8 low = first_and_rest(m.density_low, m.feature_low);
  const Lanes8 scale = first_and_rest(m.density_scale, m.feature_scale);
  coarse = low + scale * read_atlas(m, voxel.x, voxel.y, voxel.z);
  const float inv = 1.0f / m.voxel;
  const float x = (z.x + 2.0f) * inv - 0.5f, y = (z.y + 2.0f) * inv - 0.5f, w = (z.z + 2.0f) * inv - 0.5f;
  Lanes8 bytes = zero_lanes();
  add_plane(m, 0, y, w, bytes);
  add_plane(m, 1, x, w, bytes);
  add_plane(m, 2, x, y, bytes);
  const float gate = m.is_gated ? lane(coarse, 7) : 1.0f;
  fine = coarse + gate * (3.0f * low + scale * bytes);
  return true;
}

// Moves s past an empty cell of the packed occupancy grid (true), or remembers how far a full one reaches (false).
SMERF_FN bool skip_empty_cell(const MarchScene& m, const MarchPiece& p, const Vec3& z, float stride, float& s,
                              float& cell_end) {
  const float size = 8.0f * m.voxel, inv = 1.0f / size;
  const float px = (z.x + 2.0f) * inv, py = (z.y + 2.0f) * inv, pz = (z.z + 2.0f) * inv;
  const float lx = floorf(px), ly = floorf(py), lz = floorf(pz);
  const int n = m.cells, last = n - 1;
  const int ix = clampi((int)lx, 0, last), iy = clampi((int)ly, 0, last), iz = clampi((int)lz, 0, last);
  const int byte = m.occupancy[((size_t)ix * n + iy) * n + iz];
  const int dx = px - lx > 0.5f, dy = py - ly > 0.5f, dz = pz - lz > 0.5f;
  // A cell without any child is left as a whole.
  const float half = byte ? 0.5f : 0.0f, edge = byte ? 0.5f * size : size;
  const Vec3 low = {(lx + half * dx) * size - 2.0f, (ly + half * dy) * size - 2.0f, (lz + half * dz) * size - 2.0f};
  cell_end = box_exit(low, {low.x + edge, low.y + edge, low.z + edge}, p);
  if ((byte >> (4 * dx + 2 * dy + dz)) & 1) return false;
  s = fmaxf(s, cell_end) + 0.5f * stride;
  return true;
}

// Blended channels of a ray: lanes r, g, b, f0 .. f3 (lane 0 is unused), and the visibility left.
struct MarchResult {
  Lanes8 fine, coarse;
  float visibility;
};

// Sets up the next region that is long enough; false when the ray has left the scene.
SMERF_FN bool next_region(const Vec3& o, const Vec3& d, const float* exits, int count, float stride, int& piece,
                          MarchPiece& p) {
  if (max_abs(along_ray(p.start, p.along, p.leave)) >= 2.0f - 1e-3f) return false;
  while (piece < count && exits[piece - 1] >= exits[piece] - 16.0f * stride) ++piece;
  if (piece >= count) return false;
  const float t0 = exits[piece - 1], t1 = exits[piece];
  p = enter_region(o, d, t0 + 0.1f * (t1 - t0), t0 + 0.9f * (t1 - t0));
  ++piece;
  return true;
}

SMERF_FN MarchResult march_ray(const MarchScene& m, const Vec3& o, const Vec3& d) {
  MarchResult result = {zero_lanes(), zero_lanes(), 1.0f};
  float exits[7];
  const int count = region_exits(o, d, m.near, exits);
  if (count == 0) return result;
  MarchPiece p = enter_region(o, d, m.near, m.near + 0.5f * (exits[0] - m.near));
  const float cell = 8.0f * m.voxel, inv_cell = 1.0f / cell;
  const int n = m.cells, last = n - 1;
  float s = 0.0f, cell_end = -INFINITY, average = 1.0f, visibility = 1.0f;
  int piece = 1;
  for (int i = 0; i < m.max_steps && visibility > 1.0f / 255.0f; ++i) {
    float stride = m.step;
    if (m.is_enlarging) {
      average = m.visibility_delay * average + (1.0f - m.visibility_delay) * visibility;
      stride *= 10.0f - 9.0f * sqrtf(fminf(1.0f, average * 1.25f));
    }
    if (s > p.leave) {
      if (!next_region(o, d, exits, count, stride, piece, p)) break;
      s = p.enter + 0.5f * stride;
      cell_end = -INFINITY;
    }
    const Vec3 z = along_ray(p.start, p.along, s);
    const int cx = clampi((int)((z.x + 2.0f) * inv_cell), 0, last);
    const int cy = clampi((int)((z.y + 2.0f) * inv_cell), 0, last);
    const int cz = clampi((int)((z.z + 2.0f) * inv_cell), 0, last);
    const int skip = m.distance[((size_t)cx * n + cy) * n + cz];
    if (skip) {
      s += (float)skip * cell;
      continue;
    }
    if (s > cell_end && skip_empty_cell(m, p, z, stride, s, cell_end)) continue;
    Lanes8 fine, coarse;
    if (!sample_assets(m, z, fine, coarse)) {
      s += stride;
      continue;
    }
    const Vec3 here = uncontract(z), there = uncontract(along_ray(p.start, p.along, fminf(s + stride, p.leave)));
    const float ex = there.x - here.x, ey = there.y - here.y, ez = there.z - here.z;
    const float delta = sqrtf(ex * ex + ey * ey + ez * ez) * m.inv_submodel_scale;
    const float alpha = 1.0f - fast_exp(-fast_exp(lane(fine, 0) - 1.0f) * delta);
    if (alpha > 0.25f / 255.0f) {
      const float weight = visibility * alpha;
      result.fine += weight * sigmoid(fine);
      if (m.has_coarse) result.coarse += weight * sigmoid(coarse);
    }
    visibility *= 1.0f - alpha;
    s += stride;
  }
  result.visibility = visibility;
  return result;
}

// One layer of the appearance network: y = x W + b; kOut is the width, or 0 where it is only known at run time.
template <int kOut>
SMERF_FN void dense_layer(const float* x, int in, const float* kernel, const float* bias, int out, float* y) {
  const int width = kOut ? kOut : out;
  for (int j = 0; j < width; ++j) y[j] = bias[j];
  for (int i = 0; i < in; ++i)
    for (int j = 0; j < width; ++j) y[j] += x[i] * kernel[i * width + j];
}

SMERF_FN void activate(float* x, int count, int is_relu) {
  for (int j = 0; j < count; ++j) x[j] = x[j] >= 0.0f ? x[j] : (is_relu ? 0.0f : fast_exp(x[j]) - 1.0f);
}

template <int kHidden>
SMERF_FN void run_network(const MarchScene& m, const float* x, int in, float* rgb) {
  float a[kHidden ? kHidden : kMarchMaxHidden], b[kHidden ? kHidden : kMarchMaxHidden];
  const int first = kHidden ? kHidden : m.hidden[0], second = kHidden ? kHidden : m.hidden[1];
  dense_layer<kHidden>(x, in, m.kernels[0], m.biases[0], first, a);
  activate(a, first, m.is_relu);
  dense_layer<kHidden>(a, first, m.kernels[1], m.biases[1], second, b);
  activate(b, second, m.is_relu);
  dense_layer<3>(b, second, m.kernels[2], m.biases[2], 3, rgb);
  for (int c = 0; c < 3; ++c) rgb[c] = 1.0f / (1.0f + fast_exp(-rgb[c]));
}

// Appends the unit view direction in training axes, then sin and cos of its first four octaves.
SMERF_FN int append_direction(const Vec3& d, float* x) {
  const float inv = 1.0f / sqrtf(d.x * d.x + d.y * d.y + d.z * d.z);
  const float v[3] = {-d.x * inv, d.z * inv, d.y * inv};
  for (int c = 0; c < 3; ++c) {
    x[c] = v[c];
    float sine = sinf(v[c]), cosine = cosf(v[c]);
    for (int k = 0; k < 4; ++k) {
      x[3 + 3 * k + c] = sine;
      x[15 + 3 * k + c] = cosine;
      const float doubled = 2.0f * sine * cosine;
      cosine = 1.0f - 2.0f * sine * sine;
      sine = doubled;
    }
  }
  return 27;
}

// Colour of a pixel, not clamped.
SMERF_FN void shade(const MarchScene& m, const MarchResult& r, const Vec3& d, float* rgb) {
  float x[kMarchMaxInputs];
  int in = 7;
  for (int c = 0; c < 7; ++c) x[c] = lane(r.fine, c + 1);
  if (m.has_coarse)
    for (int c = 0; c < 7; ++c) x[in++] = lane(r.coarse, c + 1);
  float shown[3];
  for (int c = 0; c < 3; ++c) {
    const float backdrop = r.visibility * m.background[c];
    shown[c] = m.is_vfr ? backdrop : x[c];
    if (!m.is_vfr) x[c] += backdrop;
  }
  if (m.is_exposed)
    for (int c = 0; c < in; ++c) {
      const float clamped = clampf(x[c], 1e-7f, 1.0f - 1.1920929e-7f);
      x[c] = logf(clamped / (1.0f - clamped)) + m.log_exposure;
    }
  in += append_direction(d, x + in);
  if (m.hidden[0] == 16 && m.hidden[1] == 16)
    run_network<16>(m, x, in, rgb);
  else
    run_network<0>(m, x, in, rgb);
  for (int c = 0; c < 3; ++c) rgb[c] += shown[c];
}

}  // namespace smerf
