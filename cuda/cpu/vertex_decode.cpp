// The hash form of the student on CPUs: from the rows of vertices to their bytes in one go, and the way back.
//
// A block of vertices is encoded level by level and decoded tile by tile without leaving the cache. The backward pass
// evaluates a block anew; it repeats exactly on any number of threads: ranges of blocks sum the decoder's gradient
// apart, and one thread at a time owns a level of the table.
#include <algorithm>
#include <vector>

#include "hash_tile.h"
#include "mlp_tile.h"
#include "smerf/vertices.h"

namespace {

using namespace smerf;

constexpr int kBlock = 1024;  // vertices whose features stay in the second-level cache
constexpr int kRanges = 16;   // parts in which the decoder's gradient is summed
constexpr int kRecord = 32;   // floats of a vertex record, its gradient first

// Positions by axis, padded to whole groups.
class Positions {
 public:
  explicit Positions(int64_t room) : room_(room + kGroup), values_(3 * room_, 0.5f) {}

  PointArrays fill(const VertexList& list, int64_t first, int count) {
    for (int i = 0; i < count; ++i) {
      float x[3];
      vertex_position(list, first + i, x);
      for (int axis = 0; axis < 3; ++axis) values_[axis * room_ + i] = x[axis];
    }
    return all();
  }
  PointArrays all() const { return {{values_.data(), values_.data() + room_, values_.data() + 2 * room_}, nullptr}; }
  void put(int64_t to, const PointArrays& from, int count) {
    for (int axis = 0; axis < 3; ++axis) std::copy_n(from.axis[axis], count, values_.begin() + axis * room_ + to);
  }

 private:
  int64_t room_;
  std::vector<float> values_;
};

// Encodes and decodes blocks of vertices; what one thread needs for it.
template <int F>
class BlockDecoder {
 public:
  BlockDecoder(const VertexList& list, const VertexDecoder& decoder, const Mlp& net)
      : list_(list), decoder_(decoder), net_(net), width_(decoder.level_count * F), positions_(kBlock), tile_(net),
        features_((size_t)kBlock * width_) {}

  // Fills the features of a block; returns its positions.
  PointArrays encode(int64_t first, int count) {
    const PointArrays points = positions_.fill(list_, first, count);
    for (int l = 0; l < decoder_.level_count; ++l) {
      const HashLevel& level = decoder_.levels[l];
      read_level<F>(level, decoder_.table + level.offset * F, points, count, features_.data() + l * F, width_);
    }
    for (int64_t i = 0; i < (int64_t)count * width_; ++i) features_[i] *= decoder_.gain;
    return points;
  }

  // Calls finish(vertex within the block, logits) for every vertex of the block.
  template <typename Finish>
  void decode(int count, const Finish& finish) {
    for (int start = 0; start < count; start += kTile) {
      const int here = std::min(kTile, count - start);
      net_.forward(row(start), width_, here, tile_);
      for (int r = 0; r < here; ++r) finish(start + r, logits(r));
    }
  }

  // Differentiates a block: slope(vertex within the block, logits, gradient of the logits) is asked for each, out
  // receives the gradients of the features (count, width).
  template <typename Slope>
  void differentiate(int count, const Slope& slope, Mlp::Gradient& total, float* out) {
    const int pad = net_.padded(net_.layers()), pad_in = net_.padded(0);
    for (int start = 0; start < count; start += kTile) {
      const int here = std::min(kTile, count - start);
      net_.forward(row(start), width_, here, tile_);
      for (int r = 0; r < here; ++r) {
        float* up = tile_.result_grad() + (size_t)r * pad;
        std::fill(up, up + pad, 0.0f);
        slope(start + r, logits(r), up);
      }
      net_.backward(row(start), width_, here, tile_, total, true);
      for (int r = 0; r < here; ++r)
        for (int f = 0; f < width_; ++f)
          out[(int64_t)(start + r) * width_ + f] = decoder_.gain * tile_.input_grad[(size_t)r * pad_in + f];
    }
  }

 private:
  const float* row(int i) const { return features_.data() + (int64_t)i * width_; }
  const float* logits(int r) { return tile_.result() + (size_t)r * net_.padded(net_.layers()); }

  const VertexList& list_;
  const VertexDecoder& decoder_;
  const Mlp& net_;
  const int width_;
  Positions positions_;
  Mlp::Tile tile_;
  std::vector<float> features_;
};

template <int F>
void forward(const VertexList& list, const VertexDecoder& decoder, uint8_t* voxels, uint8_t* planes) {
  const Mlp net(decoder.dims, decoder.layers, decoder.params);
  const int64_t count = vertex_count(list);
#pragma omp parallel if (count > kBlock)
  {
    BlockDecoder<F> block(list, decoder, net);
#pragma omp for schedule(dynamic, 1)
    for (int64_t first = 0; first < count; first += kBlock) {
      const int here = (int)std::min<int64_t>(kBlock, count - first);
      block.encode(first, here);
      block.decode(here, [&](int i, const float* logits) {
        uint8_t* bytes = vertex_row(list, first + i, voxels, planes, kChannels);
        for (int c = 0; c < kChannels; ++c) bytes[c] = (uint8_t)lrintf(255.0f / (1.0f + fast_exp(-logits[c])));
      });
    }
  }
}

struct Ranges {
  float density, feature;
};

// Blocks are differentiated a chunk of them at a time: the features' gradients of a chunk wait for the levels' owners.
template <int F>
void backward(const VertexList& list, const VertexDecoder& decoder, float* voxels, float* planes, const Ranges& ranges,
              float* grad_table, float* grad_params) {
  constexpr int kChunk = 64 * kBlock;
  const Mlp net(decoder.dims, decoder.layers, decoder.params);
  const int width = decoder.level_count * F;
  const int64_t count = vertex_count(list);
  std::vector<Mlp::Gradient> parts(kRanges, Mlp::Gradient(net));
  const int64_t room = std::min<int64_t>(count, kChunk);
  std::vector<float> features((size_t)room * width);
  Positions positions(room);
#pragma omp parallel if (count > kBlock)
  {
    BlockDecoder<F> block(list, decoder, net);
    for (int64_t chunk = 0; chunk < count; chunk += kChunk) {
      const int64_t size = std::min<int64_t>(kChunk, count - chunk), blocks = (size + kBlock - 1) / kBlock;
#pragma omp for schedule(dynamic, 1)
      for (int range = 0; range < kRanges; ++range) {
        for (int64_t b = blocks * range / kRanges; b < blocks * (range + 1) / kRanges; ++b) {
          const int64_t start = b * kBlock;
          const int here = (int)std::min<int64_t>(kBlock, size - start);
          positions.put(start, block.encode(chunk + start, here), here);
          const auto slope = [&](int i, const float* logits, float* up) {
            float* gradient = vertex_row(list, chunk + start + i, voxels, planes, kRecord);
            for (int c = 0; c < kChannels; ++c) {
              const float share = 1.0f / (1.0f + fast_exp(-logits[c])), reach = c ? ranges.feature : ranges.density;
              const float value = gradient[c] * reach * share * (1.0f - share);
              up[c] = fabsf(value) <= 3e38f ? value : 0.0f;  // rounding to a byte counts as the identity
              gradient[c] = 0.0f;
            }
          };
          block.differentiate(here, slope, parts[range], features.data() + start * width);
        }
      }
#pragma omp for schedule(dynamic, 1)
      for (int reverse = 0; reverse < decoder.level_count; ++reverse) {
        const int l = decoder.level_count - 1 - reverse;
        const HashLevel& level = decoder.levels[l];
        write_level<F>(level, grad_table + level.offset * F, positions.all(), size, features.data() + l * F, width);
      }
    }
  }
  for (const auto& part : parts) net.add_gradient(part, grad_params);
}

}  // namespace

#define SMERF_BY_FEATURES(call)                                                                                    \
  if (decoder->dims[0] != decoder->level_count * decoder->features || decoder->dims[decoder->layers] != kChannels) \
    return 1;                                                                                                      \
  switch (decoder->features) {                                                                                     \
    case 1: call(1); return 0;                                                                                     \
    case 2: call(2); return 0;                                                                                     \
    case 4: call(4); return 0;                                                                                     \
    case 8: call(8); return 0;                                                                                     \
    default: return 1;                                                                                             \
  }

// Writes the bytes of the listed vertices: voxels (.., 8) and planes (.., 8), by storage row.
SMERF_API int smerf_vertex_decode_forward(const VertexList* list, const VertexDecoder* decoder, uint8_t* voxels,
                                          uint8_t* planes) {
#define SMERF_CALL(F) forward<F>(*list, *decoder, voxels, planes)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}

// Takes dL/d(value) out of the first 8 floats of the vertices' records (.., 32), leaving zeros, and adds to the
// gradients of the table (entries, features) and of the network (flat).
SMERF_API int smerf_vertex_decode_backward(const VertexList* list, const VertexDecoder* decoder, float* voxels,
                                           float* planes, float density_range, float feature_range, float* grad_table,
                                           float* grad_params) {
  const Ranges ranges = {density_range, feature_range};
#define SMERF_CALL(F) backward<F>(*list, *decoder, voxels, planes, ranges, grad_table, grad_params)
  SMERF_BY_FEATURES(SMERF_CALL)
#undef SMERF_CALL
}
