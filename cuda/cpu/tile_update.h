// Bringing sample gradients to the grids, a tile of vertices at a time, with Adam at once.
//
// Samples are sorted by the tiles that they read: voxel blocks of 8^3 and plane tiles of 16^2. A tile's gradients add
// up in the cache, in the order of the samples, so that results repeat on any number of threads; then its touched
// vertices take their step.
#pragma once

#include <string.h>

#include <vector>

#include "smerf/student_adam.h"
#include "student_ray.h"

namespace smerf {

constexpr int kPlaneTile = 16;

// The samples of a step, sorted by the tiles of one space: the voxel blocks (plane -1) or one plane.
class TileOrder {
 public:
  // samples: (count) of which those between the shards' counts are absent; see for_each_sample.
  void sort(const GridView& grid, int plane, const SampleGradient* samples, const int64_t* firsts, const int* counts,
            int shards, int64_t tiles) {
    entries_.clear();
    starts_.assign(tiles + 1, 0);
    for (int shard = 0; shard < shards; ++shard)
      for (int64_t i = firsts[shard]; i < firsts[shard] + counts[shard]; ++i)
        plane < 0 ? add_voxels(grid, samples[i].s, (uint32_t)i) : add_texels(grid, plane, samples[i].s, (uint32_t)i);
    active_.clear();
    uint32_t total = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const uint32_t count = starts_[tile];
      starts_[tile] = total;
      total += count;
      if (count) active_.push_back((uint32_t)tile);
    }
    starts_[tiles] = total;
    sorted_.resize(total);
    for (const Entry& entry : entries_) sorted_[starts_[entry.tile]++] = {entry.sample, entry.corners};
    for (int64_t tile = tiles; tile > 0; --tile) starts_[tile] = starts_[tile - 1];
    if (tiles) starts_[0] = 0;
  }

  // A sample that a tile serves, and which of its corners lie there.
  struct Reader {
    uint32_t sample, corners;
  };

  size_t active() const { return active_.size(); }
  uint32_t tile(size_t i) const { return active_[i]; }
  const Reader* begin(uint32_t tile) const { return sorted_.data() + starts_[tile]; }
  const Reader* end(uint32_t tile) const { return sorted_.data() + starts_[tile + 1]; }

 private:
  struct Entry {
    uint32_t tile, sample, corners;
  };

  void add(uint32_t tile, uint32_t sample, uint32_t corners) {
    entries_.push_back({tile, sample, corners});
    ++starts_[tile];
  }

  // Groups the corners by tile; tiles[c] is negative where there is nothing.
  void add_groups(const int64_t* tiles, int corners, uint32_t sample) {
    uint32_t done = 0;
    for (int c = 0; c < corners; ++c) {
      if (tiles[c] < 0 || done >> c & 1u) continue;
      uint32_t mask = 0;
      for (int other = c; other < corners; ++other)
        if (tiles[other] == tiles[c]) mask |= 1u << other;
      done |= mask;
      add((uint32_t)tiles[c], sample, mask);
    }
  }

  void add_voxels(const GridView& grid, const Vec3& s, uint32_t sample) {
    int low[3], high[3];
    float f[3];
    split(s.x, grid.voxel_resolution, &low[0], &high[0], &f[0]);
    split(s.y, grid.voxel_resolution, &low[1], &high[1], &f[1]);
    split(s.z, grid.voxel_resolution, &low[2], &high[2], &f[2]);
    const int blocks = grid.voxel_resolution / kBlockEdge;
    int64_t tiles[8];
    const bool whole = low[0] >> 3 == high[0] >> 3 && low[1] >> 3 == high[1] >> 3 && low[2] >> 3 == high[2] >> 3;
    for (int c = 0; c < (whole ? 1 : 8); ++c) {
      const int x = (c & 4 ? high[0] : low[0]) >> 3, y = (c & 2 ? high[1] : low[1]) >> 3,
                z = (c & 1 ? high[2] : low[2]) >> 3;
      tiles[c] = grid.block_index[((int64_t)x * blocks + y) * blocks + z];
    }
    if (whole)
      add((uint32_t)tiles[0], sample, 255u);
    else
      add_groups(tiles, 8, sample);
  }

  void add_texels(const GridView& grid, int plane, const Vec3& s, uint32_t sample) {
    int low[2], high[2];
    float f[2];
    split(plane == 0 ? s.y : s.x, grid.plane_resolution, &low[0], &high[0], &f[0]);
    split(plane == 2 ? s.y : s.z, grid.plane_resolution, &low[1], &high[1], &f[1]);
    const int edge = (grid.plane_resolution + kPlaneTile - 1) / kPlaneTile;
    int64_t tiles[4];
    for (int c = 0; c < 4; ++c)
      tiles[c] = (int64_t)((c & 2 ? high[0] : low[0]) / kPlaneTile) * edge + (c & 1 ? high[1] : low[1]) / kPlaneTile;
    if (tiles[0] == tiles[3])
      add((uint32_t)tiles[0], sample, 15u);
    else
      add_groups(tiles, 4, sample);
  }

  std::vector<Entry> entries_;
  std::vector<Reader> sorted_;
  std::vector<uint32_t> starts_, active_;
};

// The gradients of one tile, in the cache of one thread.
class TileGradient {
 public:
  TileGradient() { memset(touched_, 0, sizeof(touched_)); }

  void add(int vertex, float weight, const Lanes8& gradient) {
    if (!touched_[vertex]) {
      touched_[vertex] = 1;
      list_[count_++] = (uint16_t)vertex;
      sums_[vertex] = weight * gradient;
    } else {
      sums_[vertex] += weight * gradient;
    }
  }

  void add_voxels(const GridView& grid, const SampleGradient& sample, uint32_t corners) {
    int low[3], high[3];
    float f[3];
    split(sample.s.x, grid.voxel_resolution, &low[0], &high[0], &f[0]);
    split(sample.s.y, grid.voxel_resolution, &low[1], &high[1], &f[1]);
    split(sample.s.z, grid.voxel_resolution, &low[2], &high[2], &f[2]);
    for (int corner = 0; corner < 8; ++corner) {
      if (!(corners >> corner & 1u)) continue;
      const int a = corner & 4 ? high[0] : low[0], b = corner & 2 ? high[1] : low[1], c = corner & 1 ? high[2] : low[2];
      const float weight =
          (corner & 4 ? f[0] : 1.0f - f[0]) * (corner & 2 ? f[1] : 1.0f - f[1]) * (corner & 1 ? f[2] : 1.0f - f[2]);
      add(((a & 7) * kBlockEdge + (b & 7)) * kBlockEdge + (c & 7), weight, sample.v);
    }
  }

  void add_texels(const GridView& grid, int plane, const SampleGradient& sample, uint32_t corners) {
    int low[2], high[2];
    float f[2];
    split(plane == 0 ? sample.s.y : sample.s.x, grid.plane_resolution, &low[0], &high[0], &f[0]);
    split(plane == 2 ? sample.s.y : sample.s.z, grid.plane_resolution, &low[1], &high[1], &f[1]);
    for (int corner = 0; corner < 4; ++corner) {
      if (!(corners >> corner & 1u)) continue;
      const int a = corner & 2 ? high[0] : low[0], b = corner & 1 ? high[1] : low[1];
      const float weight = (corner & 2 ? f[0] : 1.0f - f[0]) * (corner & 1 ? f[1] : 1.0f - f[1]);
      add((a % kPlaneTile) * kPlaneTile + b % kPlaneTile, weight, sample.t);
    }
  }

  // address(vertex) is the vertex's place in the arrays. Clears the tile.
  template <typename Address>
  void update(Vertex* vertices, uint8_t* bytes, const Lanes8& range, const AdamStep& adam, Address address) {
    constexpr int kAhead = 8;
    for (int i = 0; i < count_ && i < kAhead; ++i) __builtin_prefetch(vertices + address(list_[i]), 1);
    for (int i = 0; i < count_; ++i) {
      if (i + kAhead < count_) __builtin_prefetch(vertices + address(list_[i + kAhead]), 1);
      const int64_t at = address(list_[i]);
      adam_step(vertices[at], bytes + at * kChannels, sums_[list_[i]], range, adam);
      touched_[list_[i]] = 0;
    }
    count_ = 0;
  }

 private:
  Lanes8 sums_[kBlockVoxels];
  uint8_t touched_[kBlockVoxels];
  uint16_t list_[kBlockVoxels];
  int count_ = 0;
};

// Updates what the samples of all shards read. Shard i holds counts[i] samples, from number firsts[i].
inline void update_grids(const GridView& grid, const StudentGrids& grids, const AdamStep& adam,
                         const SampleGradient* samples, const int64_t* firsts, const int* counts, int shards) {
  const int edge = (grid.plane_resolution + kPlaneTile - 1) / kPlaneTile;
  const int64_t r = grid.plane_resolution;
  const Lanes8 range = first_and_rest(grid.density_high - grid.density_low, grid.feature_high - grid.feature_low);
  static thread_local TileOrder orders[4];  // kept between steps: their memory is large
  TileOrder* order = orders;
#pragma omp parallel
  {
#pragma omp for schedule(dynamic, 1)
    for (int space = 0; space < 4; ++space)
      order[space].sort(grid, space - 1, samples, firsts, counts, shards, space ? (int64_t)edge * edge : grids.blocks);
    TileGradient gradient;
    for (int space = 0; space < 4; ++space) {
      const int plane = space - 1;
#pragma omp for schedule(dynamic, 32) nowait
      for (int64_t i = 0; i < (int64_t)order[space].active(); ++i) {
        const uint32_t tile = order[space].tile(i);
        const TileOrder::Reader *reader = order[space].begin(tile), *end = order[space].end(tile);
        for (; reader != end; ++reader) {
          if (end - reader > 4) __builtin_prefetch(samples + reader[4].sample);
          if (space == 0)
            gradient.add_voxels(grid, samples[reader->sample], reader->corners);
          else
            gradient.add_texels(grid, plane, samples[reader->sample], reader->corners);
        }
        if (space == 0) {
          const int64_t base = (int64_t)tile * kBlockVoxels;
          gradient.update(grids.voxels, grids.voxel_bytes, range, adam, [base](int v) { return base + v; });
        } else {
          const int64_t row = (int64_t)(tile / edge) * kPlaneTile, column = (int64_t)(tile % edge) * kPlaneTile;
          gradient.update(grids.planes, grids.plane_bytes, range, adam, [=](int v) {
            return ((int64_t)plane * r + row + v / kPlaneTile) * r + column + v % kPlaneTile;
          });
        }
      }
    }
  }
}

}  // namespace smerf
