// One step of the student's distillation on GPUs: rays in, grids updated, gradients of the appearance network out.
//
// What one ray needs is done by one warp (grid_ray.h, appearance_run.h), what is left by one thread: a ray's sums, a
// patch's losses, a vertex's update. Gradients are added by atomics: their last bits differ from run to run.
#include "appearance_run.h"
#include "grid_ray.h"
#include "smerf/student_adam.h"
#include "smerf/student_losses.h"

namespace {

using namespace smerf;

// What the kernels of a step leave for each other, a row a ray.
struct Desks {
  float* features;    // (rays, 14), over the backdrop
  float* input;       // (rays, 14), as the network reads them
  float* exposed;     // (rays, 14) slope of the exposure
  float* up;          // (rays, 14) gradient of the inputs, then of the features
  float* positions;   // (rays, 3) in the lattice
  float* colour;      // (rays, 3) of the network, then of the ray
  float* truth;       // (rays, 3)
  float* slope;       // (rays, 3) gradient of the colour
  float* rest;        // (rays) light that reaches the background
  float* up_weights;  // (rays, samples)
};
constexpr int kDeskFloats = 4 * kFeatures + 4 * 3 + 1;

Desks place_desks(float* scratch, int64_t rays) {
  auto take = [&](int floats) {
    float* here = scratch;
    scratch += rays * floats;
    return here;
  };
  Desks desks;
  desks.features = take(kFeatures);
  desks.input = take(kFeatures);
  desks.exposed = take(kFeatures);
  desks.up = take(kFeatures);
  desks.positions = take(3);
  desks.colour = take(3);
  desks.truth = take(3);
  desks.slope = take(3);
  desks.rest = take(1);
  desks.up_weights = scratch;
  return desks;
}

struct Batch {
  StudentRays rays;
  StudentLoss loss;
  StudentTrace out;
  Desks desks;
};

struct Centre {
  float at[3], scale;
};

// A thread a ray: what the network reads, and what it is compared with.
__global__ void __launch_bounds__(kThreads)
    input_kernel(const __grid_constant__ Batch batch, const __grid_constant__ Centre centre) {
  const int64_t r = thread_number();
  if (r >= batch.rays.rays) return;
  const Desks& desks = batch.desks;
  const int samples = batch.rays.samples;
  const float rest = light_left(batch.out.weights + r * samples, samples);
  desks.rest[r] = rest;
  network_input(batch.rays, batch.loss, r, rest, desks.features + kFeatures * r, desks.input + kFeatures * r,
                desks.exposed + kFeatures * r);
  for (int c = 0; c < 3; ++c)
    desks.positions[3 * r + c] = (batch.rays.origins[3 * r + c] - centre.at[c]) * centre.scale;
  teacher_colour(batch.rays, r, light_left(batch.rays.weights + r * samples, samples), desks.truth + 3 * r);
}

// A thread a patch: the losses of its colours, and their gradient.
__global__ void __launch_bounds__(kThreads) compare_kernel(const __grid_constant__ Batch batch) {
  const int pixels = batch.rays.pixels;
  const int64_t first = thread_number() * pixels;
  if (first >= batch.rays.rays) return;
  const Desks& desks = batch.desks;
  for (int64_t r = first; r < first + pixels; ++r)
    for (int c = 0; c < 3; ++c) desks.colour[3 * r + c] += desks.features[kFeatures * r + c];
  compare_colours(batch.loss, pixels, desks.colour + 3 * first, desks.truth + 3 * first, batch.out.losses + first,
                  desks.slope + 3 * first);
}

// A thread a ray: the losses of its weights, and the gradients that rendering is differentiated with.
__global__ void __launch_bounds__(kThreads) gradient_kernel(const __grid_constant__ Batch batch) {
  const int64_t r = thread_number();
  if (r >= batch.rays.rays) return;
  const Desks& desks = batch.desks;
  const int samples = batch.rays.samples;
  const float up_opacity = input_gradient(batch.rays, batch.loss, r, desks.rest[r], desks.slope + 3 * r,
                                          desks.exposed + kFeatures * r, desks.up + kFeatures * r);
  compare_weights(batch.rays, batch.loss, r, batch.out.weights + r * samples, up_opacity, batch.out.losses[r],
                  desks.up_weights + r * samples);
}

// A thread a vertex: takes the step of a touched one, and leaves no gradient behind.
__global__ void __launch_bounds__(kThreads)
    adam_kernel(Vertex* __restrict__ vertices, uint8_t* __restrict__ bytes, float* __restrict__ gradient,
                uint8_t* __restrict__ touched, int64_t count, Lanes8 range, AdamStep adam) {
  const int64_t i = thread_number();
  if (i >= count || !touched[i]) return;
  touched[i] = 0;
  const Lanes8 sum = load_lanes(gradient + i * kChannels);
  store_lanes(zero_lanes(), gradient + i * kChannels);
  Vertex vertex = vertices[i];
  adam_step(vertex, bytes + i * kChannels, sum, range, adam);
  vertices[i] = vertex;
}

__global__ void __launch_bounds__(kThreads)
    start_kernel(Vertex* __restrict__ vertices, const uint8_t* __restrict__ bytes, int64_t count) {
  const int64_t i = thread_number();
  if (i < count) start_vertex(bytes + i * kChannels, &vertices[i]);
}

void launch_adam(Vertex* vertices, uint8_t* bytes, float* gradient, uint8_t* touched, int64_t count,
                 const GridView& grid, const AdamStep& adam, void* stream) {
  const Lanes8 range = first_and_rest(grid.density_high - grid.density_low, grid.feature_high - grid.feature_low);
  if (count)
    SMERF_LAUNCH(adam_kernel, block_count(count, kThreads), kThreads, 0, stream, vertices, bytes, gradient, touched,
                 count, range, adam);
}

// Adds the gradients of all vertices, voxels first, and that of the network.
template <int W>
int differentiate_rays(const GridView& grid, const Batch& batch, const StudentNetwork& network, const Records& records,
                       void* stream) {
  const StudentRays& rays = batch.rays;
  const Desks& desks = batch.desks;
  const RayView view = {
      rays.origins, rays.directions, rays.edges, rays.rays, rays.samples, least_depth(batch.loss.tau), batch.loss.step};
  const AppearanceRays seen = {desks.input, rays.directions, desks.positions, rays.rays};
  const AppearanceNetworks networks = {network.params, network.lattice, network.width};
  const Centre centre = {{grid.centre[0], grid.centre[1], grid.centre[2]}, network.lattice_scale};
  const unsigned blocks = block_count(rays.rays, kThreads);
  int code = launch_render(grid, view, desks.features, batch.out.weights, stream);
  if (code) return code;
  SMERF_LAUNCH(input_kernel, blocks, kThreads, 0, stream, batch, centre);
  if ((code = run_appearance<W>(seen, networks, desks.colour, stream))) return code;
  SMERF_LAUNCH(compare_kernel, block_count(rays.rays / rays.pixels, kThreads), kThreads, 0, stream, batch);
  if ((code = run_appearance_backward<W>(seen, networks, desks.slope, network.gradient, desks.up, stream))) return code;
  SMERF_LAUNCH(gradient_kernel, blocks, kThreads, 0, stream, batch);
  return launch_render_backward(grid, view, desks.up, desks.up_weights, records, stream);
}

}  // namespace

// Floats of scratch memory that a step needs.
SMERF_API int64_t smerf_student_scratch(int64_t rays, int samples) { return rays * (kDeskFloats + samples); }

// Arguments as in cuda/cpu/student_step.cpp; the records lie in host memory. Besides: gradients (vertices, 8) and flags
// (vertices) of all vertices, voxels first, which are zero before and after a step, and scratch memory.
SMERF_API int smerf_student_step(const void* view, const StudentRays* rays, const StudentNetwork* network,
                                 const StudentLoss* loss, const StudentGrids* grids, const AdamStep* adam,
                                 const StudentTrace* out, float* gradient, uint8_t* touched, float* scratch,
                                 void* stream) {
  if (rays->samples > kMaxStudentSamples || rays->rays * rays->samples > INT32_MAX) return kUnsupported;
  if (rays->pixels < 1 || rays->rays % rays->pixels) return kUnsupported;
  if (rays->rays == 0) return 0;
  const GridView& grid = *(const GridView*)view;
  const int64_t voxels = grids->blocks * kBlockVoxels;
  const int64_t texels = 3 * (int64_t)grid.plane_resolution * grid.plane_resolution;
  float* plane_gradient = gradient + voxels * kChannels;
  const Batch batch = {*rays, *loss, *out, place_desks(scratch, rays->rays)};
  const Records records = {gradient, touched, plane_gradient, touched + voxels, kChannels, loss->min_gradient};
  int code = kUnsupported;
  switch (network->width) {
    case 8: code = differentiate_rays<8>(grid, batch, *network, records, stream); break;
    case 16: code = differentiate_rays<16>(grid, batch, *network, records, stream); break;
    case 32: code = differentiate_rays<32>(grid, batch, *network, records, stream); break;
    case 64: code = differentiate_rays<64>(grid, batch, *network, records, stream); break;
  }
  if (code) return code;
  launch_adam(grids->voxels, grids->voxel_bytes, gradient, touched, voxels, grid, *adam, stream);
  launch_adam(grids->planes, grids->plane_bytes, plane_gradient, touched + voxels, texels, grid, *adam, stream);
  return launch_result();
}

// Starts vertices from bytes, moments at zero.
SMERF_API int smerf_student_start(Vertex* vertices, const uint8_t* bytes, int64_t count, void* stream) {
  if (count == 0) return 0;
  SMERF_LAUNCH(start_kernel, block_count(count, kThreads), kThreads, 0, stream, vertices, bytes, count);
  return launch_result();
}
