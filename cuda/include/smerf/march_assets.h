// A baked submodel as the ray march reads it, and its samples: the block-sparse atlas plus three planes. Mirrors
// smerf/render/assets.py.
#pragma once

#include "smerf/contraction.h"
#include "smerf/lanes.h"

namespace smerf {

constexpr int kMaxSpent = 8;

struct MarchScene {
  const uint8_t* atlas;          // [atlas_x][atlas_y][atlas_z][8]: density, r, g, b, f0, f1, f2, gate
  const uint8_t* planes;         // [3][texels][texels][8], planes yz, xz, xy
  const uint8_t* blocks;         // [num_blocks]^3 [3]: atlas slot of a macroblock, 255 = empty
  const uint8_t* distance;       // [cells]^3: cells that a ray may skip
  const uint8_t* occupancy;      // [cells]^3: eight children a byte, bit 4 dx + 2 dy + dz
  const uint8_t* known;          // [known_cells]^3 [4]: mean direction of the photos' rays, support; null: all is known
  const uint8_t* object_ids;     // [atlas_x][atlas_y][atlas_z]: object of a voxel, 0 = none; null: nobody asks
  const uint8_t* object_states;  // [256], by id: kHidden, kLit
  const float* kernels[3];       // appearance network, [in][out]
  const float* biases[3];
  int32_t atlas_x, atlas_y, atlas_z;
  int32_t texels;                    // T, texels per plane edge
  int32_t num_blocks;                // S / B, macroblocks per axis
  int32_t block_size;                // B, sparse voxels per macroblock edge
  int32_t cells;                     // cells of the distance and occupancy grids per axis
  int32_t known_cells;               // cells of the known region per axis, at least 2
  int32_t hidden[2];                 // widths of the hidden layers
  int32_t is_gated;                  // planes are multiplied by the gate
  int32_t has_coarse;                // the sparse grid alone is blended too: 14 channels instead of 7
  int32_t is_relu;                   // hidden activation relu, else elu
  int32_t is_vfr;                    // the network gives the whole colour, else a residual
  int32_t is_exposed;                // log_exposure conditions the network
  int32_t is_enlarging;              // lengthen steps behind nearly opaque content
  int32_t max_steps;                 // iterations of the march
  float voxel;                       // 4 / T
  float sparse_voxel;                // 4 / S
  float step;                        // contracted length of a step
  float near;                        // ray parameter at which the march starts
  float density_low, density_scale;  // value = low + byte * scale
  float feature_low, feature_scale;
  float inv_submodel_scale;  // world units per submodel unit
  float visibility_delay;    // of the running visibility that enlarges steps
  float log_exposure;
  float background[3];
  float unknown_colours[9];  // what no photo supports fades into: ahead, above, below
  int32_t spent_count;       // depths of a ray
  float spent[kMaxSpent];    // visibilities at which they are taken
};

// Where a sample reads: the record of its lowest corner in the atlas and in each plane, and weights. The atlas is
// summed over four columns along z, the planes over rows.
struct AssetSpot {
  int32_t voxel;
  int32_t texel[3];
  float column[4], upper_voxel;  // (x, y), (x, y + 1), (x + 1, y), (x + 1, y + 1); z + 1
  Vec3 upper, lower;             // the next texel along each axis, and the first
};

// The contracted scene is four units long.
SMERF_FN float voxels_per_unit(const MarchScene& m) { return 0.25f * (float)(m.num_blocks * m.block_size); }

// Number of the macroblock that serves a contracted point. Blocks are sample-centred.
SMERF_FN int block_number(const MarchScene& m, const Vec3& z) {
  const float inv = voxels_per_unit(m), inv_block = 1.0f / (float)m.block_size;
  const int n = m.num_blocks;
  const int x = clamp_whole(((z.x + 2.0f) * inv - 0.5f) * inv_block, 0, n - 1);
  const int y = clamp_whole(((z.y + 2.0f) * inv - 0.5f) * inv_block, 0, n - 1);
  const int w = clamp_whole(((z.z + 2.0f) * inv - 0.5f) * inv_block, 0, n - 1);
  return (x * n + y) * n + w;
}

// One axis of a position in the atlas: the sample below, and the weight of the one above. slot: the block's in the
// atlas.
SMERF_FN int atlas_corner(const MarchScene& m, float z, int slot, float& weight) {
  const float g = (z + 2.0f) * voxels_per_unit(m) - 0.5f, edge = (float)m.block_size;
  const float local = clampf(g - edge * floorf(g * (1.0f / edge)), 0.0f, edge);
  const int low = clamp_whole(local, 0, m.block_size - 1);
  weight = local - (float)low;
  return low + slot * (m.block_size + 1);
}

// One axis of a position in a plane: the texel below, and the weight of the one above. Edges repeat.
SMERF_FN int plane_corner(const MarchScene& m, float z, float& weight) {
  const float g = clampf((z + 2.0f) * (0.25f * (float)m.texels) - 0.5f, 0.0f, (float)(m.texels - 1));
  const int low = clamp_whole(g, 0, m.texels - 2);
  weight = g - (float)low;
  return low;
}

SMERF_FN AssetSpot locate(const MarchScene& m, const Vec3& z, int slot_x, int slot_y, int slot_z) {
  AssetSpot spot;
  float wx, wy;
  const int ax = atlas_corner(m, z.x, slot_x, wx), ay = atlas_corner(m, z.y, slot_y, wy);
  spot.voxel = (ax * m.atlas_y + ay) * m.atlas_z + atlas_corner(m, z.z, slot_z, spot.upper_voxel);
  spot.column[3] = wx * wy;
  spot.column[2] = wx - spot.column[3];
  spot.column[1] = wy - spot.column[3];
  spot.column[0] = 1.0f - wx - spot.column[1];
  const int x = plane_corner(m, z.x, spot.upper.x), y = plane_corner(m, z.y, spot.upper.y);
  const int w = plane_corner(m, z.z, spot.upper.z), n = m.texels;
  spot.lower = {1.0f - spot.upper.x, 1.0f - spot.upper.y, 1.0f - spot.upper.z};
  spot.texel[0] = y * n + w;
  spot.texel[1] = (n + x) * n + w;
  spot.texel[2] = (2 * n + x) * n + y;
  return spot;
}

// Trilinear sum of bytes of the atlas.
SMERF_FN Lanes8 read_atlas(const MarchScene& m, const AssetSpot& spot) {
  const size_t step_y = (size_t)m.atlas_z * 8, step_x = step_y * m.atlas_y;
  const uint8_t* p = m.atlas + (size_t)spot.voxel * 8;
  LanePair total = zero_pair();
  add_pair(total, p, spot.column[0]);
  add_pair(total, p + step_y, spot.column[1]);
  add_pair(total, p + step_x, spot.column[2]);
  add_pair(total, p + step_x + step_y, spot.column[3]);
  return mix_pair(total, spot.upper_voxel);
}

// Sum of bytes of the three planes, each bilinear.
SMERF_FN Lanes8 read_planes(const MarchScene& m, const AssetSpot& spot) {
  const size_t row = (size_t)m.texels * 8;
  const uint8_t* yz = m.planes + (size_t)spot.texel[0] * 8;
  const uint8_t* xz = m.planes + (size_t)spot.texel[1] * 8;
  const uint8_t* xy = m.planes + (size_t)spot.texel[2] * 8;
  // The first two share their inner axis.
  LanePair along_z = zero_pair(), along_y = zero_pair();
  add_pair(along_z, yz, spot.lower.y);
  add_pair(along_z, yz + row, spot.upper.y);
  add_pair(along_z, xz, spot.lower.x);
  add_pair(along_z, xz + row, spot.upper.x);
  add_pair(along_y, xy, spot.lower.x);
  add_pair(along_y, xy + row, spot.upper.x);
  return mix_pair(along_z, spot.upper.z) + mix_pair(along_y, spot.upper.y);
}

// Sparse grid and sparse grid plus gated planes, dequantised.
SMERF_FN void read_assets(const MarchScene& m, const AssetSpot& spot, Lanes8& fine, Lanes8& coarse) {
  const Lanes8 low = first_and_rest(m.density_low, m.feature_low);
  const Lanes8 scale = first_and_rest(m.density_scale, m.feature_scale);
  coarse = low + scale * read_atlas(m, spot);
  const float gate = m.is_gated ? lane(coarse, 7) : 1.0f;
  fine = coarse + gate * (3.0f * low + scale * read_planes(m, spot));
}

// The same at a contracted point; false in an empty macroblock.
SMERF_FN bool sample_assets(const MarchScene& m, const Vec3& z, Lanes8& fine, Lanes8& coarse) {
  const uint8_t* slot = m.blocks + (size_t)block_number(m, z) * 3;
  if (slot[0] == 255) return false;
  read_assets(m, locate(m, z, slot[0], slot[1], slot[2]), fine, coarse);
  return true;
}

}  // namespace smerf
