// One step of the student's distillation on CPUs: rays in, grids updated, gradients of the appearance network out.
//
// Rays are rendered, shaded, compared with the teacher and differentiated one after another; their sample gradients then
// go to the grids tile by tile, Adam included (tile_update.h). Results are the same on any number of threads.
#include <omp.h>

#include <vector>

#include "appearance_ray.h"
#include "tile_update.h"

namespace {

using namespace smerf;

constexpr int kShards = 32;  // ranges of rays whose network gradients are summed apart, then in order

// Field order and types of these are mirrored by smerf/kernels/student_step.py.
struct StudentRays {
  const float* origins;     // (rays, 3) training space
  const float* directions;  // (rays, 3) unit
  const float* edges;       // (rays, samples + 1) metric
  const float* weights;     // (rays, samples) of the teacher
  const float* colour;      // (rays, 3) of the teacher, over black
  const float* background;  // (rays, 3)
  const float* log_exposure;  // (rays), or null: the network reads logit(feature) + log_exposure
  int64_t rays;
  int32_t samples;
};

struct StudentNetwork {
  const float* params;      // (lattice^3, params)
  float* gradient;          // the same, added to
  int32_t lattice;
  int32_t width;
  float lattice_scale;      // training units about the submodel's centre to [-1, 1]
};

struct StudentLoss {
  float tau, step;          // culling threshold, marching step in contracted space
  float charbonnier;
  float geometry;           // weight of sum |w - w_teacher|
  float least_gradient;     // of a sample's values: smaller ones are dropped
  const float* backdrop;    // (14) composited features of what lies behind everything, or null
};

struct StudentGrids {
  Vertex* voxels;
  uint8_t* voxel_bytes;
  int64_t blocks;
  Vertex* planes;
  uint8_t* plane_bytes;
};

struct StudentTrace {
  float* losses;            // (rays, 3): colour loss, geometry loss, mean squared error
  float* weights;           // (rays, samples) of the student, or null
  SampleGradient* samples;  // (rays * samples)
};

// Keeps the samples whose gradient has a channel above `least`, in order. Returns their number.
int drop_small(SampleGradient* samples, int count, float least) {
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    float most = 0.0f;
    for (int c = 0; c < kChannels; ++c) most = larger(most, fabsf(samples[i].v[c]));
    if (!(most > least)) continue;
    if (kept != i) samples[kept] = samples[i];
    ++kept;
  }
  return kept;
}

template <int W>
class RayStep {
 public:
  RayStep(const GridView& grid, const StudentRays& rays, const StudentNetwork& network, const StudentLoss& loss)
      : grid_(grid), rays_(rays), network_(network), loss_(loss), kept_(rays.samples + 1), weights_(rays.samples),
        up_weights_(rays.samples), mixed_(Net::kParams), mixed_gradient_(Net::kParams) {}

  // Renders ray r, writes its losses, and leaves its sample gradients in out. Returns their number.
  int run(int64_t r, const StudentTrace& trace_out, float* network_gradient, SampleGradient* out) {
    const int samples = rays_.samples;
    const float *o = rays_.origins + 3 * r, *d = rays_.directions + 3 * r, *edges = rays_.edges + r * (samples + 1);
    Lanes8 fine = zero_lanes(), coarse = zero_lanes();
    for (int i = 0; i < samples; ++i) weights_[i] = 0.0f;
    const int count =
        trace(grid_, o, d, edges, samples, loss_.tau, loss_.step, &fine, &coarse, weights_.data(), kept_.data());
    float features[kFeatures], up[kFeatures];
    for (int c = 0; c < kFeatures / 2; ++c) {
      features[c] = fine[c + 1];
      features[c + kFeatures / 2] = coarse[c + 1];
    }
    const float up_opacity = shade(r, features, trace_out.losses + 3 * r, network_gradient, up);
    compare_weights(r, up_opacity, trace_out.losses + 3 * r);
    if (trace_out.weights) memcpy(trace_out.weights + r * samples, weights_.data(), samples * sizeof(float));
    differentiate(kept_.data(), count, feature_lanes(up), feature_lanes(up + kFeatures / 2), up_weights_.data(), out);
    return drop_small(out, count, loss_.least_gradient);
  }

 private:
  using Net = Appearance<W>;

  // Parameters for this ray: those of the only vertex, or a mix of eight.
  const float* parameters(const float* o, LatticeCorners* corners) {
    if (network_.lattice == 1) return network_.params;
    float position[3];
    for (int c = 0; c < 3; ++c) position[c] = (o[c] - grid_.centre[c]) * network_.lattice_scale;
    *corners = lattice_corners(position, network_.lattice);
    std::fill(mixed_.begin(), mixed_.end(), 0.0f);
    for (int v = 0; v < 8; ++v) {
      const float* row = network_.params + (int64_t)corners->vertex[v] * Net::kParams;
      for (int i = 0; i < Net::kParams; ++i) mixed_[i] += corners->weight[v] * row[i];
    }
    return mixed_.data();
  }

  // Shades and compares with the teacher's colour. Writes the features' gradient, returns that of the opacity.
  float shade(int64_t r, float* features, float* losses, float* network_gradient, float* up) {
    const float *background = rays_.background + 3 * r, *weights_teacher = rays_.weights + r * rays_.samples;
    float opacity = 0.0f, opacity_teacher = 0.0f;
    for (int i = 0; i < rays_.samples; ++i) {
      opacity += weights_[i];
      opacity_teacher += weights_teacher[i];
    }
    const float rest = larger(1.0f - opacity, 0.0f), rest_teacher = larger(1.0f - opacity_teacher, 0.0f);
    if (loss_.backdrop)
      for (int c = 0; c < kFeatures; ++c) features[c] += rest * loss_.backdrop[c];
    Net net;
    for (int c = 0; c < kFeatures; ++c) net.input[c] = features[c];
    if (!loss_.backdrop)
      for (int c = 0; c < 3; ++c) net.input[c] += rest * background[c];
    float slope_exposed[kFeatures];
    if (rays_.log_exposure) expose(rays_.log_exposure[r], net.input, slope_exposed);
    net.set_direction(rays_.directions + 3 * r);
    LatticeCorners corners;
    const float* params = parameters(rays_.origins + 3 * r, &corners);
    net.forward(params);
    float slope[3];
    losses[0] = losses[2] = 0.0f;
    for (int c = 0; c < 3; ++c) {
      const float truth = rays_.colour[3 * r + c] + rest_teacher * background[c];
      const float error = features[c] + net.colour[c] - truth;
      const float length = sqrtf(error * error + loss_.charbonnier * loss_.charbonnier);
      losses[0] += length * (1.0f / 3.0f);
      losses[2] += error * error * (1.0f / 3.0f);
      slope[c] = error / length * (1.0f / 3.0f);
    }
    if (network_.lattice == 1) {
      net.backward(params, slope, network_gradient, up);
    } else {
      std::fill(mixed_gradient_.begin(), mixed_gradient_.end(), 0.0f);
      net.backward(params, slope, mixed_gradient_.data(), up);
      for (int v = 0; v < 8; ++v) {
        float* row = network_gradient + (int64_t)corners.vertex[v] * Net::kParams;
        for (int i = 0; i < Net::kParams; ++i) row[i] += corners.weight[v] * mixed_gradient_[i];
      }
    }
    if (rays_.log_exposure)
      for (int c = 0; c < kFeatures; ++c) up[c] *= slope_exposed[c];
    float up_rest = 0.0f;
    if (!loss_.backdrop)
      for (int c = 0; c < 3; ++c) up_rest += up[c] * background[c];
    for (int c = 0; c < 3; ++c) up[c] += slope[c];
    if (loss_.backdrop)
      for (int c = 0; c < kFeatures; ++c) up_rest += up[c] * loss_.backdrop[c];
    return rest > 0.0f ? -up_rest : 0.0f;
  }

  void compare_weights(int64_t r, float up_opacity, float* losses) {
    const float* teacher = rays_.weights + r * rays_.samples;
    float total = 0.0f;
    for (int i = 0; i < rays_.samples; ++i) {
      const float difference = weights_[i] - teacher[i];
      total += fabsf(difference);
      up_weights_[i] = up_opacity + loss_.geometry * (difference > 0.0f ? 1.0f : difference < 0.0f ? -1.0f : 0.0f);
    }
    losses[1] = loss_.geometry * total;
  }

  const GridView& grid_;
  const StudentRays& rays_;
  const StudentNetwork& network_;
  const StudentLoss& loss_;
  std::vector<Sample> kept_;
  std::vector<float> weights_, up_weights_, mixed_, mixed_gradient_;
};

template <int W>
void render_and_differentiate(const GridView& grid, const StudentRays& rays, const StudentNetwork& network,
                              const StudentLoss& loss, const StudentTrace& out, int64_t* firsts, int* counts) {
  const int64_t params = (int64_t)Appearance<W>::kParams * network.lattice * network.lattice * network.lattice;
  std::vector<std::vector<float>> gradients(kShards);
#pragma omp parallel if (rays.rays > 64)
  {
    RayStep<W> step(grid, rays, network, loss);
#pragma omp for schedule(dynamic, 1)
    for (int shard = 0; shard < kShards; ++shard) {
      const int64_t begin = rays.rays * shard / kShards, end = rays.rays * (shard + 1) / kShards;
      gradients[shard].assign(params, 0.0f);
      firsts[shard] = begin * rays.samples;
      counts[shard] = 0;
      for (int64_t r = begin; r < end; ++r)
        counts[shard] += step.run(r, out, gradients[shard].data(), out.samples + firsts[shard] + counts[shard]);
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < params; ++i)
      for (int shard = 0; shard < kShards; ++shard) network.gradient[i] += gradients[shard][i];
  }
}

void update_grids(const GridView& grid, const StudentGrids& grids, const AdamStep& adam, const SampleGradient* samples,
                  const int64_t* firsts, const int* counts) {
  const int edge = (grid.plane_resolution + kPlaneTile - 1) / kPlaneTile;
  const int64_t r = grid.plane_resolution;
  const Lanes8 range =
      first_and_rest(grid.density_high - grid.density_low, grid.feature_high - grid.feature_low);
  static thread_local TileOrder orders[4];  // kept between steps: their memory is large
  TileOrder* order = orders;
#pragma omp parallel
  {
#pragma omp for schedule(dynamic, 1)
    for (int space = 0; space < 4; ++space)
      order[space].sort(grid, space - 1, samples, firsts, counts, kShards,
                        space ? (int64_t)edge * edge : grids.blocks);
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

}  // namespace

// Losses are summed over rays. view reads the same bytes that grids updates. Returns 1 for unsupported sizes.
SMERF_API int smerf_student_step(const void* view, const StudentRays* rays, const StudentNetwork* network,
                                 const StudentLoss* loss, const StudentGrids* grids, const AdamStep* adam,
                                 const StudentTrace* out) {
  if (rays->samples > kMaxSamples || rays->rays * rays->samples > INT32_MAX) return 1;
  const GridView& grid = *(const GridView*)view;
  int64_t firsts[kShards];
  int counts[kShards];
  switch (network->width) {
    case 8: render_and_differentiate<8>(grid, *rays, *network, *loss, *out, firsts, counts); break;
    case 16: render_and_differentiate<16>(grid, *rays, *network, *loss, *out, firsts, counts); break;
    case 32: render_and_differentiate<32>(grid, *rays, *network, *loss, *out, firsts, counts); break;
    case 64: render_and_differentiate<64>(grid, *rays, *network, *loss, *out, firsts, counts); break;
    default: return 1;
  }
  update_grids(grid, *grids, *adam, out->samples, firsts, counts);
  return 0;
}

// Starts vertices from bytes, moments at zero.
SMERF_API int smerf_student_start(Vertex* vertices, const uint8_t* bytes, int64_t count) {
#pragma omp parallel for schedule(static) if (count > 4096)
  for (int64_t i = 0; i < count; ++i) {
    memset(&vertices[i], 0, sizeof(Vertex));
    for (int c = 0; c < kChannels; ++c) {
      if (bytes[i * kChannels + c] == 128) continue;  // the byte of zero
      const float share = clampf((float)bytes[i * kChannels + c], 0.25f, 254.75f) * (1.0f / 255.0f);
      vertices[i].z[c] = logf(share / (1.0f - share));
    }
  }
  return 0;
}
