// One step of the student's distillation on CPUs: rays in, grids updated, gradients of the appearance network out.
//
// Patches of rays are rendered, shaded, compared with the teacher and differentiated one after another; their sample
// gradients then go to the grids tile by tile, Adam included (tile_update.h). Results are the same on any number of
// threads.
#include <omp.h>

#include <vector>

#include "smerf/appearance.h"
#include "smerf/patch_loss.h"
#include "smerf/ray_losses.h"
#include "student_pass.h"
#include "tile_update.h"

namespace {

using namespace smerf;

constexpr int kShards = 32;  // ranges of patches whose network gradients are summed apart, then in order

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
    compare_colours(first);
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
    const float *background = rays_.background + 3 * r, *weights = out_.weights + r * rays_.samples;
    const float* weights_teacher = rays_.weights + r * rays_.samples;
    float opacity = 0.0f, opacity_teacher = 0.0f;
    for (int k = 0; k < rays_.samples; ++k) {
      opacity += weights[k];
      opacity_teacher += weights_teacher[k];
    }
    const float rest = larger(1.0f - opacity, 0.0f), rest_teacher = larger(1.0f - opacity_teacher, 0.0f);
    if (loss_.backdrop)
      for (int c = 0; c < kFeatures; ++c) features[c] += rest * loss_.backdrop[c];
    RenderedRay<W>& ray = rendered_[i];
    ray.rest = rest;
    for (int c = 0; c < kFeatures; ++c) ray.net.input[c] = features[c];
    if (!loss_.backdrop)
      for (int c = 0; c < 3; ++c) ray.net.input[c] += rest * background[c];
    if (rays_.log_exposure) expose(rays_.log_exposure[r], ray.net.input, ray.slope_exposed);
    ray.net.set_direction(rays_.directions + 3 * r);
    mix_.move(rays_.origins + 3 * r);
    ray.net.forward(mix_.parameters());
    for (int c = 0; c < 3; ++c) {
      colour_[3 * i + c] = features[c] + ray.net.colour[c];
      truth_[3 * i + c] = rays_.colour[3 * r + c] + rest_teacher * background[c];
    }
  }

  // Compares a patch with the teacher's, and writes the gradient of its colours.
  void compare_colours(int64_t first) {
    RayLosses* losses = out_.losses + first;
    for (int i = 0; i < rays_.pixels; ++i) {
      losses[i] = RayLosses{};
      for (int k = 3 * i; k < 3 * i + 3; ++k) {
        const float error = colour_[k] - truth_[k];
        const float length = sqrtf(error * error + loss_.charbonnier * loss_.charbonnier);
        losses[i].colour += length * (1.0f / 3.0f);
        losses[i].square += error * error * (1.0f / 3.0f);
        slope_[k] = error / length * (1.0f / 3.0f);
      }
    }
    if (rays_.pixels == 1) return;
    // A mean over patches: in a sum over rays, each counts as often as it has rays.
    const float scale = loss_.dssim * (float)rays_.pixels;
    const float dssim =
        loss_.dssim * patch_dissimilarity(colour_.data(), truth_.data(), rays_.pixels, scale, slope_.data());
    for (int i = 0; i < rays_.pixels; ++i) losses[i].dssim = dssim;
  }

  // Differentiates ray r, pixel i of its patch. Returns the number of its sample gradients.
  int differentiate_ray(int64_t r, int i, SampleGradient* out) {
    float up[kFeatures];
    const float up_opacity = shade_backward(r, i, up);
    compare_weights(r, up_opacity);
    const RenderedRay<W>& ray = rendered_[i];
    differentiate(ray.kept, ray.count, feature_lanes(up), feature_lanes(up + kFeatures / 2), up_weights_.data(), out);
    return drop_small(out, ray.count, loss_.min_gradient);
  }

  // Writes the features' gradient, returns that of the opacity.
  float shade_backward(int64_t r, int i, float* up) {
    const float *background = rays_.background + 3 * r, *slope = slope_.data() + 3 * i;
    const RenderedRay<W>& ray = rendered_[i];
    mix_.move(rays_.origins + 3 * r);
    ray.net.backward(mix_.parameters(), slope, mix_.gradient(), up);
    if (rays_.log_exposure)
      for (int c = 0; c < kFeatures; ++c) up[c] *= ray.slope_exposed[c];
    float up_rest = 0.0f;
    if (!loss_.backdrop)
      for (int c = 0; c < 3; ++c) up_rest += up[c] * background[c];
    for (int c = 0; c < 3; ++c) up[c] += slope[c];
    if (loss_.backdrop)
      for (int c = 0; c < kFeatures; ++c) up_rest += up[c] * loss_.backdrop[c];
    return ray.rest > 0.0f ? -up_rest : 0.0f;
  }

  // Compares a ray's weights with the teacher's and each other, and writes their gradient.
  void compare_weights(int64_t r, float up_opacity) {
    const int samples = rays_.samples;
    const float *teacher = rays_.weights + r * samples, *weights = out_.weights + r * samples;
    float* up = up_weights_.data();
    float total = 0.0f;
    for (int k = 0; k < samples; ++k) {
      const float difference = weights[k] - teacher[k];
      total += fabsf(difference);
      up[k] = up_opacity + loss_.geometry * (difference > 0.0f ? 1.0f : difference < 0.0f ? -1.0f : 0.0f);
    }
    out_.losses[r].geometry = loss_.geometry * total;
    if (rays_.s_edges)
      out_.losses[r].distortion =
          loss_.distortion * distortion(rays_.s_edges + r * (samples + 1), weights, samples, loss_.distortion, up);
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
  if (rays->samples > kMaxSamples || rays->rays * rays->samples > INT32_MAX) return 1;
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
