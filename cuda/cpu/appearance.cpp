// The deferred appearance network on CPUs, ray by ray.
//
// Rays are sorted by the cell of the lattice that they start in, so that eight vertices' parameters stay in cache, and a
// network is mixed once for neighbours from one place. Gradients are summed over a fixed number of ranges of rays and then
// over the ranges in order: the result is the same on any number of threads.
#include "smerf/appearance.h"

#include <vector>

namespace {

using namespace smerf;

constexpr int kRanges = 32;

// Numbers of the rays, those of a cell in a row; otherwise in their order.
std::vector<int32_t> sort_by_cell(const AppearanceRays& rays, int lattice) {
  const int edge = lattice + 1;
  std::vector<int32_t> cell(rays.rays), order(rays.rays);
  std::vector<int32_t> start(edge * edge * edge + 1, 0);
  for (int64_t r = 0; r < rays.rays; ++r) {
    cell[r] = 0;
    for (int c = 2; c >= 0; --c)
      cell[r] = cell[r] * edge + clampi((int)(lattice_place(rays.positions[3 * r + c], lattice) + 1.0f), 0, lattice);
    ++start[cell[r] + 1];
  }
  for (size_t i = 1; i < start.size(); ++i) start[i] += start[i - 1];
  for (int64_t r = 0; r < rays.rays; ++r) order[start[cell[r]]++] = (int32_t)r;
  return order;
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

// The network of one place, and the gradients of the rays that start there.
template <int W>
class Place {
 public:
  static constexpr int kParams = Appearance<W>::kParams;

  explicit Place(const AppearanceNetworks& networks)
      : params_(networks.params), lattice_(networks.lattice), mixed_(kParams), gradient_(kParams, 0.0f) {}

  bool is_at(const float* position) const {
    return is_set_ && (lattice_ == 1 || memcmp(position, position_, sizeof(position_)) == 0);
  }

  void move(const float* position) {
    is_set_ = true;
    memcpy(position_, position, sizeof(position_));
    corners_ = lattice_corners(position, lattice_);
    const float* rows[8];
    for (int v = 0; v < 8; ++v) rows[v] = params_ + (int64_t)corners_.vertex[v] * kParams;
    for (int i = 0; i < kParams; ++i) {
      float sum = 0.0f;
      for (int v = 0; v < 8; ++v) sum += corners_.weight[v] * rows[v][i];
      mixed_[i] = sum;
    }
  }

  const float* params() const { return mixed_.data(); }
  float* gradient() { return gradient_.data(); }

  // Hands the gradients on to the vertices.
  void leave(Rows& rows) {
    for (int v = 0; is_set_ && v < 8; ++v) {
      const float weight = corners_.weight[v];
      if (weight == 0.0f) continue;
      float* row = rows.at(corners_.vertex[v]);
      for (int i = 0; i < kParams; ++i) row[i] += weight * gradient_[i];
    }
    for (float& one : gradient_) one = 0.0f;
  }

 private:
  const float* params_;
  int lattice_;
  std::vector<float> mixed_, gradient_;
  LatticeCorners corners_;
  float position_[3];
  bool is_set_ = false;
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
#pragma omp parallel if (rays.rays > 256)
  {
    Place<W> place(networks);
    Appearance<W> net;
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rays.rays; ++i) {
      const int64_t r = order[i];
      const float* position = rays.positions + 3 * r;
      if (!place.is_at(position)) place.move(position);
      evaluate(rays, r, place.params(), net);
      memcpy(colour + 3 * r, net.colour, sizeof(net.colour));
    }
  }
}

template <int W>
void backward(const AppearanceRays& rays, const AppearanceNetworks& networks, const float* up_colour, float* grad_params,
              float* grad_features) {
  constexpr int kParams = Appearance<W>::kParams;
  const int vertices = networks.lattice * networks.lattice * networks.lattice;
  const std::vector<int32_t> order = sort_by_cell(rays, networks.lattice);
  std::vector<Rows> parts(kRanges, Rows(vertices, kParams));
#pragma omp parallel if (rays.rays > 64)
  {
    Appearance<W> net;
#pragma omp for schedule(dynamic, 1)
    for (int range = 0; range < kRanges; ++range) {
      Place<W> place(networks);
      for (int64_t i = rays.rays * range / kRanges; i < rays.rays * (range + 1) / kRanges; ++i) {
        const int64_t r = order[i];
        const float* position = rays.positions + 3 * r;
        if (!place.is_at(position)) {
          place.leave(parts[range]);
          place.move(position);
        }
        evaluate(rays, r, place.params(), net);
        net.backward(place.params(), up_colour + 3 * r, place.gradient(), grad_features + r * kAppearanceFeatures);
      }
      place.leave(parts[range]);
    }
#pragma omp for schedule(static)
    for (int vertex = 0; vertex < vertices; ++vertex)
      for (const Rows& part : parts) part.add_to(vertex, grad_params + (int64_t)vertex * kParams);
  }
}

}  // namespace

#define SMERF_BY_WIDTH(call)               \
  if (rays->rays > INT32_MAX) return 1;    \
  switch (networks->width) {                \
    case 8: call(8); return 0;             \
    case 16: call(16); return 0;           \
    case 32: call(32); return 0;           \
    case 64: call(64); return 0;           \
    default: return 1;                     \
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
