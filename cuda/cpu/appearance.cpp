// The deferred appearance network on CPUs, ray by ray.
//
// Rays are sorted by the cell of the lattice that they start in. Rays that start from one place share a network, and
// the networks of a few places of a cell are mixed together, so that the vertices' parameters are read once for them.
// Gradients are summed over a fixed number of ranges of rays and then over the ranges in order: the result is the same
// on any number of threads.
#include "smerf/appearance.h"

#include <string.h>

#include <vector>

namespace {

using namespace smerf;

constexpr int kRanges = 32;
constexpr int kPlaces = 4;
constexpr int kAhead = 8;  // rays whose values are on their way while one is taken

// Numbers of the rays, those of a cell in a row; otherwise in their order.
std::vector<int32_t> sort_by_cell(const AppearanceRays& rays, int lattice) {
  const int edge = lattice + 1;
  std::vector<int32_t> cell(rays.rays), order(rays.rays);
  std::vector<int32_t> start(edge * edge * edge + 1, 0);
  for (int64_t r = 0; r < rays.rays; ++r) {
    cell[r] = 0;
    for (int c = 2; c >= 0; --c)
      cell[r] = cell[r] * edge + clamp_whole(lattice_place(rays.positions[3 * r + c], lattice) + 1.0f, 0, lattice);
    ++start[cell[r] + 1];
  }
  for (size_t i = 1; i < start.size(); ++i) start[i] += start[i - 1];
  for (int64_t r = 0; r < rays.rays; ++r) order[start[cell[r]]++] = (int32_t)r;
  return order;
}

void prefetch(const AppearanceRays& rays, int64_t r) {
  const float* features = rays.features + r * kAppearanceFeatures;
  __builtin_prefetch(features);
  __builtin_prefetch(features + kAppearanceFeatures - 1);
  __builtin_prefetch(rays.directions + 3 * r);
  __builtin_prefetch(rays.positions + 3 * r);
}

// A row of gradients for every vertex that was added to.
class Rows {
 public:
  Rows(int vertices, int size) : rows_(vertices), size_(size) {}
  float* at(int vertex) {
    if (rows_[vertex].empty()) rows_[vertex].assign(size_, 0.0f);
    return rows_[vertex].data();
  }
  void add_to(int vertex, float* total) const {
    if (!rows_[vertex].empty())
      for (int i = 0; i < size_; ++i) total[i] += rows_[vertex][i];
  }

 private:
  std::vector<std::vector<float>> rows_;
  int size_;
};

// A few places between the same eight vertices: their networks, and the gradients of these.
template <int W>
class Places {
 public:
  static constexpr int kParams = Appearance<W>::kParams;

  explicit Places(const AppearanceNetworks& networks)
      : networks_(networks), params_(kPlaces * kParams), gradient_(kPlaces * kParams) {}

  // Takes the places of rays order[first] and on, at most up to order[last - 1]. Returns where it ended.
  int64_t take(const AppearanceRays& rays, const int32_t* order, int64_t first, int64_t last) {
    const float* before = nullptr;
    int64_t i = first;
    for (count_ = 0; i < last; ++i) {
      if (i + kAhead < last) prefetch(rays, order[i + kAhead]);
      const float* position = rays.positions + 3 * (int64_t)order[i];
      if (before && (networks_.lattice == 1 || memcmp(position, before, 3 * sizeof(float)) == 0)) continue;
      if (count_ == kPlaces) break;
      corners_[count_] = lattice_corners(position, networks_.lattice);
      // The first and the last of the eight vertices tell the others.
      if (vertex(0) != corners_[count_].vertex[0] || vertex(7) != corners_[count_].vertex[7]) break;
      start_[count_++] = i;
      before = position;
    }
    for (int place = count_; place < kPlaces; ++place)
      memset(corners_[place].weight, 0, sizeof(corners_[place].weight));
    start_[count_] = i;
    mix();
    return i;
  }

  int count() const { return count_; }
  // Numbers in the order of the first ray of a place, and of that after the last.
  int64_t begin(int place) const { return start_[place]; }
  int64_t end(int place) const { return start_[place + 1]; }
  const float* params(int place) const { return params_.data() + place * kParams; }
  float* gradient(int place) { return gradient_.data() + place * kParams; }

  void clear_gradient() { memset(gradient_.data(), 0, sizeof(float) * gradient_.size()); }

  // Hands the gradients on to the vertices.
  void leave(Rows& rows) const {
    const float* gradient = gradient_.data();
    for (int v = 0; v < 8; ++v) {
      bool is_read = false;
      for (int place = 0; place < count_; ++place) is_read = is_read || weight(place, v) != 0.0f;
      if (!is_read) continue;
      float* row = rows.at(vertex(v));
      SMERF_SIMD
      for (int i = 0; i < kParams; ++i)
        for (int place = 0; place < kPlaces; ++place) row[i] += weight(place, v) * gradient[place * kParams + i];
    }
  }

 private:
  int vertex(int v) const { return corners_[0].vertex[v]; }
  float weight(int place, int v) const { return corners_[place].weight[v]; }

  // All places at once, absent ones too, which weigh nothing.
  void mix() {
    const float* rows[8];
    for (int v = 0; v < 8; ++v) rows[v] = networks_.params + (int64_t)vertex(v) * kParams;
    float* mixed = params_.data();
    SMERF_SIMD
    for (int i = 0; i < kParams; ++i)
      for (int place = 0; place < kPlaces; ++place) {
        float sum = 0.0f;
        for (int v = 0; v < 8; ++v) sum += weight(place, v) * rows[v][i];
        mixed[place * kParams + i] = sum;
      }
  }

  const AppearanceNetworks& networks_;
  std::vector<float> params_, gradient_;
  LatticeCorners corners_[kPlaces];
  int64_t start_[kPlaces + 1];
  int count_ = 0;
};

template <int W>
void evaluate(const AppearanceRays& rays, int64_t r, const float* params, Appearance<W>& net) {
  memcpy(net.input, rays.features + r * kAppearanceFeatures, sizeof(float) * kAppearanceFeatures);
  net.set_direction(rays.directions + 3 * r);
  net.forward(params);
}

template <int W>
void forward(const AppearanceRays& rays, const AppearanceNetworks& networks, float* colour) {
  const std::vector<int32_t> order = sort_by_cell(rays, networks.lattice);
#pragma omp parallel for schedule(dynamic, 1) if (rays.rays > 256)
  for (int range = 0; range < kRanges; ++range) {
    Places<W> places(networks);
    Appearance<W> net;
    const int64_t last = rays.rays * (range + 1) / kRanges;
    for (int64_t first = rays.rays * range / kRanges; first < last;) {
      first = places.take(rays, order.data(), first, last);
      for (int place = 0; place < places.count(); ++place)
        for (int64_t i = places.begin(place); i < places.end(place); ++i) {
          evaluate(rays, order[i], places.params(place), net);
          memcpy(colour + 3 * (int64_t)order[i], net.colour, sizeof(net.colour));
        }
    }
  }
}

template <int W>
void backward(const AppearanceRays& rays, const AppearanceNetworks& networks, const float* up_colour,
              float* grad_params, float* grad_features) {
  constexpr int kParams = Appearance<W>::kParams;
  const int vertices = networks.lattice * networks.lattice * networks.lattice;
  const std::vector<int32_t> order = sort_by_cell(rays, networks.lattice);
  std::vector<Rows> parts(kRanges, Rows(vertices, kParams));
#pragma omp parallel if (rays.rays > 64)
  {
#pragma omp for schedule(dynamic, 1)
    for (int range = 0; range < kRanges; ++range) {
      Places<W> places(networks);
      Appearance<W> net;
      const int64_t last = rays.rays * (range + 1) / kRanges;
      for (int64_t first = rays.rays * range / kRanges; first < last;) {
        first = places.take(rays, order.data(), first, last);
        places.clear_gradient();
        for (int place = 0; place < places.count(); ++place)
          for (int64_t i = places.begin(place); i < places.end(place); ++i) {
            const int64_t r = order[i];
            evaluate(rays, r, places.params(place), net);
            net.backward(places.params(place), up_colour + 3 * r, places.gradient(place),
                         grad_features + r * kAppearanceFeatures);
          }
        places.leave(parts[range]);
      }
    }
#pragma omp for schedule(static)
    for (int vertex = 0; vertex < vertices; ++vertex)
      for (const Rows& part : parts) part.add_to(vertex, grad_params + (int64_t)vertex * kParams);
  }
}

}  // namespace

#define SMERF_BY_WIDTH(call)            \
  if (rays->rays > INT32_MAX) return 1; \
  switch (networks->width) {            \
    case 8: call(8); return 0;          \
    case 16: call(16); return 0;        \
    case 32: call(32); return 0;        \
    case 64: call(64); return 0;        \
    default: return 1;                  \
  }

// colour: (rays, 3), written.
SMERF_API int smerf_appearance_forward(const AppearanceRays* rays, const AppearanceNetworks* networks, float* colour) {
#define SMERF_CALL(W) forward<W>(*rays, *networks, colour)
  SMERF_BY_WIDTH(SMERF_CALL)
#undef SMERF_CALL
}

// grad_params: (lattice^3, n), added to; grad_features: (rays, 14), written.
SMERF_API int smerf_appearance_backward(const AppearanceRays* rays, const AppearanceNetworks* networks,
                                        const float* up_colour, float* grad_params, float* grad_features) {
#define SMERF_CALL(W) backward<W>(*rays, *networks, up_colour, grad_params, grad_features)
  SMERF_BY_WIDTH(SMERF_CALL)
#undef SMERF_CALL
}
