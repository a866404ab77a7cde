// Small ReLU networks on CPUs: one plain network, and the radiance head (density net, then colour net).
#include <algorithm>

#include "mlp_tile.h"

namespace {

using smerf::kTile;
using smerf::Mlp;

int64_t tile_count(int64_t rows) { return (rows + kTile - 1) / kTile; }
int tile_rows(int64_t rows, int64_t tile) { return (int)std::min<int64_t>(kTile, rows - tile * kTile); }

// Copies `width` columns of each row between a strided and a padded tile.
void copy_columns(const float* from, int64_t ld_from, float* to, int64_t ld_to, int rows, int width) {
  for (int r = 0; r < rows; ++r) memcpy(to + r * ld_to, from + r * ld_from, sizeof(float) * width);
}

// Gradients are summed over a fixed number of row ranges and then over the ranges in order: the result is the same on
// any number of threads.
constexpr int kRanges = 16;

int64_t range_start(int64_t tiles, int range) { return tiles * range / kRanges; }

void reduce(const Mlp& net, const std::vector<Mlp::Gradient>& parts, float* params) {
  for (const auto& part : parts) net.add_gradient(part, params);
}

// The colour net's input: all outputs of the density net, then the ray's direction encoding.
void gather_colour_input(const float* geometry, int64_t ld_geometry, int geometry_width, const float* directions,
                         int direction_width, int64_t first_row, int samples, float* input, int64_t ld, int rows) {
  for (int r = 0; r < rows; ++r) {
    memcpy(input + r * ld, geometry + r * ld_geometry, sizeof(float) * geometry_width);
    const float* direction = directions + (first_row + r) / samples * direction_width;
    memcpy(input + r * ld + geometry_width, direction, sizeof(float) * direction_width);
  }
}

}  // namespace

// dims: (layers + 1). x: (rows, dims[0]). out: (rows, dims[layers]).
SMERF_API int smerf_mlp_forward(const int32_t* dims, int layers, const float* params, const float* x, int64_t rows,
                                float* out) {
  const Mlp net(dims, layers, params);
  const int in = dims[0], result = dims[layers], result_pad = net.padded(layers);
#pragma omp parallel if (rows > 2048)
  {
    Mlp::Tile tile(net);
#pragma omp for schedule(dynamic, 8)
    for (int64_t t = 0; t < tile_count(rows); ++t) {
      const int here = tile_rows(rows, t);
      net.forward(x + t * kTile * in, in, here, tile);
      copy_columns(tile.result(), result_pad, out + t * kTile * result, result, here, result);
    }
  }
  return 0;
}

// grad_params (flat) is added to; grad_x (rows, dims[0]) is written unless null.
SMERF_API int smerf_mlp_backward(const int32_t* dims, int layers, const float* params, const float* x, int64_t rows,
                                 const float* upstream, float* grad_params, float* grad_x) {
  const Mlp net(dims, layers, params);
  const int in = dims[0], result = dims[layers], result_pad = net.padded(layers);
  std::vector<Mlp::Gradient> parts(kRanges, Mlp::Gradient(net));
  const int64_t tiles = tile_count(rows);
#pragma omp parallel for schedule(dynamic, 1) if (rows > 2048)
  for (int range = 0; range < kRanges; ++range) {
    Mlp::Tile tile(net);
    Mlp::Gradient& total = parts[range];
    for (int64_t t = range_start(tiles, range); t < range_start(tiles, range + 1); ++t) {
      const int here = tile_rows(rows, t);
      const float* input = x + t * kTile * in;
      net.forward(input, in, here, tile);
      copy_columns(upstream + t * kTile * result, result, tile.result_grad(), result_pad, here, result);
      net.backward(input, in, here, tile, total, grad_x != nullptr);
      if (grad_x) copy_columns(tile.input_grad.data(), net.padded(0), grad_x + t * kTile * in, in, here, in);
    }
  }
  reduce(net, parts, grad_params);
  return 0;
}

// features: (rows, density_dims[0]); directions: (rows / samples, D) with colour_dims[0] = density_dims[last] + D.
// raw_density: (rows) is the density net's output 0; raw_colour: (rows, 3).
SMERF_API int smerf_radiance_head_forward(const int32_t* density_dims, int density_layers, const float* density_params,
                                          const int32_t* colour_dims, int colour_layers, const float* colour_params,
                                          const float* features, const float* directions, int samples, int64_t rows,
                                          float* raw_density, float* raw_colour) {
  const Mlp density(density_dims, density_layers, density_params), colour(colour_dims, colour_layers, colour_params);
  const int in = density_dims[0], geometry = density_dims[density_layers], width = colour_dims[0];
  const int geometry_pad = density.padded(density_layers), colour_pad = colour.padded(colour_layers);
#pragma omp parallel if (rows > 2048)
  {
    Mlp::Tile first(density), second(colour);
    std::vector<float> input((size_t)kTile * width);
#pragma omp for schedule(dynamic, 8)
    for (int64_t t = 0; t < tile_count(rows); ++t) {
      const int here = tile_rows(rows, t);
      const int64_t row = t * kTile;
      density.forward(features + row * in, in, here, first);
      gather_colour_input(first.result(), geometry_pad, geometry, directions, width - geometry, row, samples,
                          input.data(), width, here);
      colour.forward(input.data(), width, here, second);
      for (int r = 0; r < here; ++r) raw_density[row + r] = first.result()[(size_t)r * geometry_pad];
      copy_columns(second.result(), colour_pad, raw_colour + row * 3, 3, here, 3);
    }
  }
  return 0;
}

// Parameter gradients are added to, grad_features is written; directions get no gradient.
SMERF_API int smerf_radiance_head_backward(const int32_t* density_dims, int density_layers, const float* density_params,
                                           const int32_t* colour_dims, int colour_layers, const float* colour_params,
                                           const float* features, const float* directions, int samples, int64_t rows,
                                           const float* up_density, const float* up_colour, float* grad_density_params,
                                           float* grad_colour_params, float* grad_features) {
  const Mlp density(density_dims, density_layers, density_params), colour(colour_dims, colour_layers, colour_params);
  const int in = density_dims[0], geometry = density_dims[density_layers], width = colour_dims[0];
  const int geometry_pad = density.padded(density_layers), colour_pad = colour.padded(colour_layers);
  std::vector<Mlp::Gradient> density_parts(kRanges, Mlp::Gradient(density)),
      colour_parts(kRanges, Mlp::Gradient(colour));
  const int64_t tiles = tile_count(rows);
#pragma omp parallel for schedule(dynamic, 1) if (rows > 2048)
  for (int range = 0; range < kRanges; ++range) {
    Mlp::Tile first(density), second(colour);
    std::vector<float> input((size_t)kTile * width);
    Mlp::Gradient &density_total = density_parts[range], &colour_total = colour_parts[range];
    for (int64_t t = range_start(tiles, range); t < range_start(tiles, range + 1); ++t) {
      const int here = tile_rows(rows, t);
      const int64_t row = t * kTile;
      density.forward(features + row * in, in, here, first);
      gather_colour_input(first.result(), geometry_pad, geometry, directions, width - geometry, row, samples,
                          input.data(), width, here);
      colour.forward(input.data(), width, here, second);
      copy_columns(up_colour + row * 3, 3, second.result_grad(), colour_pad, here, 3);
      colour.backward(input.data(), width, here, second, colour_total, true);
      copy_columns(second.input_grad.data(), colour.padded(0), first.result_grad(), geometry_pad, here, geometry);
      for (int r = 0; r < here; ++r) first.result_grad()[(size_t)r * geometry_pad] += up_density[row + r];
      density.backward(features + row * in, in, here, first, density_total, true);
      copy_columns(first.input_grad.data(), density.padded(0), grad_features + row * in, in, here, in);
    }
  }
  reduce(density, density_parts, grad_density_params);
  reduce(colour, colour_parts, grad_colour_params);
  return 0;
}
