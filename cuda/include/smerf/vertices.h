// Where the stored vertices of a submodel's grids lie: voxels in blocks, and texels of three planes.
//
// A plane is the slice at index 0 of the axis that it lacks (SMERF, arXiv 2312.07541, section 5). Mirrors
// smerf/kernels/vertices.py.
#pragma once

#include "smerf/grid.h"
#include "smerf/hash_encoding.h"

namespace smerf {

struct VertexList {
  const int64_t* voxels;  // storage rows
  const int64_t* texels;  // storage rows
  int64_t voxel_count;
  int64_t texel_count;
  const int32_t* blocks;  // (blocks, 3) coordinates of the voxel blocks, by number
  int32_t voxel_resolution;
  int32_t plane_resolution;
};

// What turns positions into logits, in host memory: hash encoding, then a network of `layers` layers with eight
// outputs.
struct VertexDecoder {
  const HashLevel* levels;
  const float* table;
  const float* params;
  const int32_t* dims;
  int32_t level_count, features, layers;
  float gain;  // between table and network
};

SMERF_FN int64_t vertex_count(const VertexList& list) { return list.voxel_count + list.texel_count; }

// The eight bytes, or the record, of vertex i of the list: voxels come first.
template <typename Value>
SMERF_FN Value* vertex_row(const VertexList& list, int64_t i, Value* voxels, Value* planes, int width) {
  return i < list.voxel_count ? voxels + list.voxels[i] * width : planes + list.texels[i - list.voxel_count] * width;
}

// Position of vertex i in [0, 1]^3, contracted space on viewer axes.
SMERF_FN void vertex_position(const VertexList& list, int64_t i, float* x) {
  int cell[3] = {0, 0, 0}, resolution = list.plane_resolution;
  if (i < list.voxel_count) {
    const int64_t row = list.voxels[i];
    const int inside = (int)(row % kBlockVoxels);
    const int32_t* block = list.blocks + 3 * (row / kBlockVoxels);
    resolution = list.voxel_resolution;
    cell[0] = block[0] * kBlockEdge + inside / (kBlockEdge * kBlockEdge);
    cell[1] = block[1] * kBlockEdge + inside / kBlockEdge % kBlockEdge;
    cell[2] = block[2] * kBlockEdge + inside % kBlockEdge;
  } else {
    const int64_t row = list.texels[i - list.voxel_count], size = resolution;
    const int plane = (int)(row / (size * size));
    cell[plane == 0 ? 1 : 0] = (int)(row / size % size);
    cell[plane == 2 ? 1 : 2] = (int)(row % size);
  }
  for (int axis = 0; axis < 3; ++axis) x[axis] = ((float)cell[axis] + 0.5f) / (float)resolution;
}

}  // namespace smerf
