// One step of the student's distillation on CPUs: rays in, grids updated, gradients of the appearance network out.
//
// Patches of rays are rendered, shaded, compared with the teacher and differentiated one after another; their sample
// gradients then go to the grids tile by tile, Adam included (tile_update.h). Results are the same on any number of
// threads.
#include <omp.h>

#include <vector>

#include "smerf/student_losses.h"
#include "tile_update.h"

namespace {

using namespace smerf;

constexpr int kShards = 32;  // ranges of patches whose network gradients are summed apart, then in order

// Keeps the samples whose gradient has a channel above `least`, in order. Returns their number.
int drop_small(SampleGradient* samples, int count, float least) {
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    if (!counts(samples[i].v, least)) continue;
    if (kept != i) samples[kept] = samples[i];
    ++kept;
  }
  return kept;
}

// The network's parameters at one place after another, and their gradient. The rays of a patch stand in one place.
template <int W>
class NetworkMix {
 public:
  NetworkMix(const StudentNetwork& network, const float* centre)
      : network_(network), centre_(centre), mixed_(Net::kParams), gradient_(Net::kParams) {}

  // Gradients go to total (lattice^3, params) from here on.
  void begin(float* total) { total_ = total; }

  void move(const float* o) {
    if (network_.lattice == 1 || (o[0] == place_[0] && o[1] == place_[1] && o[2] == place_[2])) return;
    flush();
    float position[3];
    for (int c = 0; c < 3; ++c) {
      place_[c] = o[c];
      position[c] = (o[c] - centre_[c]) * network_.lattice_scale;
    }
    corners_ = lattice_corners(position, network_.lattice);
    std::fill(mixed_.begin(), mixed_.end(), 0.0f);
    for (int v = 0; v < 8; ++v) {
      const float* row = network_.params + (int64_t)corners_.vertex[v] * Net::kParams;
      for (int i = 0; i < Net::kParams; ++i) mixed_[i] += corners_.weight[v] * row[i];
    }
  }

  const float* parameters() const { return network_.lattice == 1 ? network_.params : mixed_.data(); }

  // To be added to until the next move.
  float* gradient() {
    if (network_.lattice == 1) return total_;
    has_gradient_ = true;
    return gradient_.data();
  }

  // Hands the gradient on to the vertices.
  void flush() {
    if (!has_gradient_) return;
    for (int v = 0; v < 8; ++v) {
      float* row = total_ + (int64_t)corners_.vertex[v] * Net::kParams;
      for (int i = 0; i < Net::kParams; ++i) row[i] += corners_.weight[v] * gradient_[i];
    }
    std::fill(gradient_.begin(), gradient_.end(), 0.0f);
    has_gradient_ = false;
  }

 private:
  using Net = Appearance<W>;

  const StudentNetwork& network_;
  const float* centre_;
  float place_[3] = {NAN, NAN, NAN};
  LatticeCorners corners_;
  std::vector<float> mixed_, gradient_;
  float* total_ = nullptr;
  bool has_gradient_ = false;
};

// What the way back needs of a ray.
template <int W>
struct RenderedRay {
  const Sample* kept;
  int count;
  float rest;  // light that reaches the background
  Appearance<W> net;
  float slope_exposed[kFeatures];
};

template <int W>
class PatchStep {
 public:
  PatchStep(const GridView& grid, const StudentRays& rays, const StudentNetwork& network, const StudentLoss& loss,
            const StudentTrace& out)
      : grid_(grid), rays_(rays), loss_(loss), out_(out), mix_(network, grid.centre), rendered_(rays.pixels),
        kept_(rays.pixels * rays.samples + 1), colour_(3 * rays.pixels), truth_(3 * rays.pixels),
        slope_(3 * rays.pixels), up_weights_(rays.samples) {}

  NetworkMix<W>& network() { return mix_; }

  // Renders the patch that begins with ray `first`, writes its losses and weights, and leaves its sample gradients in
  // out. Returns their number.
  int run(int64_t first, SampleGradient* out) {
    Sample* kept = kept_.data();
    for (int i = 0; i < rays_.pixels; ++i) {
      render(first + i, i, kept);
      kept += rendered_[i].count;
    }
    compare_colours(loss_, rays_.pixels, colour_.data(), truth_.data(), out_.losses + first, slope_.data());
    int count = 0;
    for (int i = 0; i < rays_.pixels; ++i) count += differentiate_ray(first + i, i, out + count);
    return count;
  }

 private:
  // Renders ray r, pixel i of its patch.
  void render(int64_t r, int i, Sample* kept) {
    const int samples = rays_.samples;
    const float *o = rays_.origins + 3 * r, *d = rays_.directions + 3 * r, *edges = rays_.edges + r * (samples + 1);
    float* weights = out_.weights + r * samples;
    Lanes8 fine = zero_lanes(), coarse = zero_lanes();
    std::fill(weights, weights + samples, 0.0f);
    rendered_[i].kept = kept;
    rendered_[i].count = trace(grid_, o, d, edges, samples, loss_.tau, loss_.step, &fine, &coarse, weights, kept);
    float features[kFeatures];
    for (int c = 0; c < kFeatures / 2; ++c) {
      features[c] = fine[c + 1];
      features[c + kFeatures / 2] = coarse[c + 1];
    }
    shade(r, i, features);
  }

  // Shades a ray, over its background as the teacher's colour is.
  void shade(int64_t r, int i, float* features) {
    RenderedRay<W>& ray = rendered_[i];
    ray.rest = light_left(out_.weights + r * rays_.samples, rays_.samples);
    network_input(rays_, loss_, r, ray.rest, features, ray.net.input, ray.slope_exposed);
    ray.net.set_direction(rays_.directions + 3 * r);
    mix_.move(rays_.origins + 3 * r);
    ray.net.forward(mix_.parameters());
    for (int c = 0; c < 3; ++c) colour_[3 * i + c] = features[c] + ray.net.colour[c];
    teacher_colour(rays_, r, light_left(rays_.weights + r * rays_.samples, rays_.samples), &truth_[3 * i]);
  }

  // Differentiates ray r, pixel i of its patch. Returns the number of its sample gradients.
  int differentiate_ray(int64_t r, int i, SampleGradient* out) {
    const RenderedRay<W>& ray = rendered_[i];
    const float* slope = slope_.data() + 3 * i;
    float up[kFeatures];
    mix_.move(rays_.origins + 3 * r);
    ray.net.backward(mix_.parameters(), slope, mix_.gradient(), up);
    const float up_opacity = input_gradient(rays_, loss_, r, ray.rest, slope, ray.slope_exposed, up);
    compare_weights(rays_, loss_, r, out_.weights + r * rays_.samples, up_opacity, out_.losses[r], up_weights_.data());
    differentiate(ray.kept, ray.count, feature_lanes(up), feature_lanes(up + kFeatures / 2), up_weights_.data(), out);
    return drop_small(out, ray.count, loss_.min_gradient);
  }

  const GridView& grid_;
  const StudentRays& rays_;
  const StudentLoss& loss_;
  const StudentTrace& out_;
  NetworkMix<W> mix_;
  std::vector<RenderedRay<W>> rendered_;
  std::vector<Sample> kept_;
  std::vector<float> colour_, truth_, slope_, up_weights_;
};

template <int W>
void render_and_differentiate(const GridView& grid, const StudentRays& rays, const StudentNetwork& network,
                              const StudentLoss& loss, const StudentTrace& out, int64_t* firsts, int* counts) {
  const int64_t params = (int64_t)Appearance<W>::kParams * network.lattice * network.lattice * network.lattice;
  const int64_t patches = rays.rays / rays.pixels;
  std::vector<std::vector<float>> gradients(kShards);
#pragma omp parallel if (rays.rays > 64)
  {
    PatchStep<W> step(grid, rays, network, loss, out);
#pragma omp for schedule(dynamic, 1)
    for (int shard = 0; shard < kShards; ++shard) {
      const int64_t begin = patches * shard / kShards, end = patches * (shard + 1) / kShards;
      gradients[shard].assign(params, 0.0f);
      step.network().begin(gradients[shard].data());
      firsts[shard] = begin * rays.pixels * rays.samples;
      counts[shard] = 0;
      for (int64_t i = begin; i < end; ++i)
        counts[shard] += step.run(i * rays.pixels, out.samples + firsts[shard] + counts[shard]);
      step.network().flush();
    }
#pragma omp for schedule(static)
    for (int64_t i = 0; i < params; ++i)
      for (int shard = 0; shard < kShards; ++shard) network.gradient[i] += gradients[shard][i];
  }
}

}  // namespace

// Losses are summed over rays. view reads the same bytes that grids updates. Returns 1 for unsupported sizes, and for
// rays that are no whole patches.
SMERF_API int smerf_student_step(const void* view, const StudentRays* rays, const StudentNetwork* network,
                                 const StudentLoss* loss, const StudentGrids* grids, const AdamStep* adam,
                                 const StudentTrace* out) {
  if (rays->samples > kMaxStudentSamples || rays->rays * rays->samples > INT32_MAX) return 1;
  if (rays->pixels < 1 || rays->rays % rays->pixels) return 1;
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
  update_grids(grid, *grids, *adam, out->samples, firsts, counts, kShards);
  return 0;
}

// Starts vertices from bytes, moments at zero.
SMERF_API int smerf_student_start(Vertex* vertices, const uint8_t* bytes, int64_t count) {
#pragma omp parallel for schedule(static) if (count > 4096)
  for (int64_t i = 0; i < count; ++i) start_vertex(bytes + i * kChannels, &vertices[i]);
  return 0;
}
