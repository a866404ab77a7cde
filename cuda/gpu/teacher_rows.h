// The samples of the teacher's rays on GPUs, evaluated front to back.
//
// Rays are followed in rounds of a few samples: one thread a ray appends those that count to the rows of the round,
// whose number the device alone knows; hash encoding and networks take rows as the separate kernels do (hash_run.h,
// mlp_run.h). Rows come in no fixed order.
#pragma once

#include "hash_run.h"
#include "mlp_run.h"
#include "smerf/density_cache.h"
#include "smerf/directions.h"
#include "smerf/ray_points.h"
#include "smerf/teacher_ray.h"

namespace {

using namespace smerf;

constexpr int kRays = 64;  // of a block, one a thread

// What the kernels of a pass leave for each other.
struct Work {
  int32_t* counts;    // (rounds) rows of each round
  float* passed;      // (rays) optical depth so far
  float* directions;  // (rays, 16) encoded
  float* t;           // (rays, samples + 1) metric edges
  float* depth;       // (rays, samples)
  float* weights;     // (rays, samples)
  int32_t* row;       // (rays, samples) of the rows, or -1
  // Of each row:
  float* x;              // (3); what is not a number passes no gradient on
  float* footprint;      // (1)
  int32_t* cell;         // (1) of the cache
  int32_t* ray;          // (1)
  float* features;       // (features)
  float* density;        // (1) raw
  float* colour;         // (3) logits, then values
  float* up_density;     // (1)
  float* up_colour;      // (3)
  float* grad_features;  // (features)
  float* parts;          // the network gradients of each block
};

int round_count(int samples) { return (samples + kSlice - 1) / kSlice; }

// Places the arrays one after another, each aligned to what is read at once. Returns the floats of them all.
int64_t place_work(float* scratch, int64_t rays, int samples, int features, bool is_training, int64_t parts,
                   Work* work) {
  int64_t used = 0;
  auto take = [&](int64_t floats) {
    float* here = scratch ? scratch + used : nullptr;
    used += (floats + 3) / 4 * 4;
    return here;
  };
  auto take_whole = [&](int64_t count) { return reinterpret_cast<int32_t*>(take(count)); };
  const int64_t rows = rays * samples, back = is_training ? rows : 0;
  work->counts = take_whole(round_count(samples));
  work->passed = take(rays);
  work->directions = take(rays * kDirections);
  work->t = take(rays * (samples + 1));
  work->depth = take(rows);
  work->weights = take(rows);
  work->row = take_whole(rows);
  work->x = take(3 * rows);
  work->footprint = take(rows);
  work->cell = take_whole(rows);
  work->ray = take_whole(rows);
  work->features = take(rows * features);
  work->density = take(rows);
  work->colour = take(3 * rows);
  work->up_density = take(back);
  work->up_colour = take(3 * back);
  work->grad_features = take(back * features);
  work->parts = take(is_training ? parts : 0);
  return used;
}

bool make_head(const RadianceWidths& w, const float* density_params, const float* colour_params, Chain* chain) {
  const int32_t density[] = {w.features, w.density, w.geometry}, colour[] = {w.geometry + kDirections, w.colour, 3};
  return make_chain(*chain, density, 2, density_params, colour, 2, colour_params);
}

// Where the middle of a sample lies, its footprint, and its cell.
struct Place {
  float x[3], footprint;
  int cell;
};

__device__ __forceinline__ Place locate(const TeacherField& field, const TeacherRays& rays, int64_t r, float middle) {
  Place place;
  place.footprint =
      ray_point(rays.origins + 3 * r, rays.directions + 3 * r, middle, rays.radii[r], field.scale, place.x);
  const bool valid = is_point(place.x);
  const int n = field.cache_resolution;
  place.cell = n ? cache_cell(valid ? place.x[0] : 0.5f, valid ? place.x[1] : 0.5f, valid ? place.x[2] : 0.5f, n) : 0;
  return place;
}

// A thread a ray: edges and direction; nothing is evaluated yet.
__global__ void __launch_bounds__(kRays)
    start_kernel(const __grid_constant__ TeacherField field, const __grid_constant__ TeacherRays rays,
                 const __grid_constant__ Work work) {
  const int64_t r = thread_number();
  if (r == 0)
    for (int round = 0; round * kSlice < rays.samples; ++round) work.counts[round] = 0;
  if (r >= rays.rays) return;
  const int64_t first = r * rays.samples;
  for (int i = 0; i <= rays.samples; ++i) work.t[first + r + i] = t_from_s(field.spacing, rays.s_edges[first + r + i]);
  for (int i = 0; i < rays.samples; ++i) {
    work.depth[first + i] = 0.0f;
    work.row[first + i] = -1;
  }
  work.passed[r] = 0.0f;
  spherical_harmonics(rays.directions + 3 * r, work.directions + kDirections * r);
}

// Adds the optical depths of a slice that was evaluated.
__device__ __forceinline__ void pass_slice(const TeacherRays& rays, const Work& work, int64_t r, int round) {
  const int64_t first = r * rays.samples;
  const float* t = work.t + first + r;
  float passed = work.passed[r];
  for (int i = round * kSlice; i < rays.samples && i < (round + 1) * kSlice; ++i) {
    const int row = work.row[first + i];
    if (row < 0) continue;
    const float depth = density_of(work.density[row]) * (t[i + 1] - t[i]);
    work.depth[first + i] = depth;
    passed += depth;
  }
  work.passed[r] = passed;
}

// Returns which samples of a slice are evaluated, a bit each.
__device__ __forceinline__ unsigned choose_slice(const TeacherField& field, const TeacherRays& rays, const Work& work,
                                                 int64_t r, int round) {
  const int64_t first = r * rays.samples;
  const float* t = work.t + first + r;
  unsigned chosen = 0;
  for (int i = round * kSlice; i < rays.samples && i < (round + 1) * kSlice; ++i) {
    bool is_empty = false;
    if (field.cache) {
      const Place place = locate(field, rays, r, 0.5f * (t[i] + t[i + 1]));
      is_empty = field.cache[place.cell] * (t[i + 1] - t[i]) < field.min_depth;
    }
    if (!is_empty || rechecks(field, (uint32_t)(first + i))) chosen |= 1u << (i - round * kSlice);
  }
  return chosen;
}

// A thread a ray: takes the last round's densities, and appends the samples of this round to the rows.
__global__ void __launch_bounds__(kRays)
    round_kernel(const __grid_constant__ TeacherField field, const __grid_constant__ TeacherRays rays,
                 const __grid_constant__ Work work, int round, float most) {
  const int64_t r = thread_number();
  const int self = threadIdx.x % 32;
  const bool is_there = r < rays.rays;
  if (is_there && round) pass_slice(rays, work, r, round - 1);
  if (round * kSlice >= rays.samples) return;
  // Not "passed <= most": what is not a number goes on to the end.
  const bool is_lit = is_there && !(work.passed[r] > most);
  const unsigned chosen = is_lit ? choose_slice(field, rays, work, r, round) : 0;
  // One addition a warp, so that the samples of a ray, and those of its neighbours, follow each other.
  const int count = __popc(chosen);
  int before = count;
  for (int delta = 1; delta < 32; delta *= 2) {
    const int other = __shfl_up_sync(kWholeWarp, before, delta);
    if (self >= delta) before += other;
  }
  int base = self == 31 && before ? atomicAdd(work.counts + round, before) : 0;
  base = __shfl_sync(kWholeWarp, base, 31);
  if (!chosen) return;
  for (int i = 0; i < round; ++i) base += work.counts[i];
  int row = base + before - count;
  const int64_t first = r * rays.samples;
  const float* t = work.t + first + r;
  for (int i = round * kSlice; i < rays.samples && i < (round + 1) * kSlice; ++i) {
    if (!(chosen >> (i - round * kSlice) & 1u)) continue;
    const Place place = locate(field, rays, r, 0.5f * (t[i] + t[i + 1]));
    for (int axis = 0; axis < 3; ++axis) work.x[3 * row + axis] = place.x[axis];
    work.footprint[row] = place.footprint;
    work.cell[row] = place.cell;
    work.ray[row] = (int32_t)r;
    work.row[first + i] = row++;
  }
}

// The weights of a ray; samples that have no colour have none. Evaluates the colours of the others.
__device__ __forceinline__ void weigh(const TeacherField& field, const Work& work, int samples, const int32_t* row,
                                      const float* depth, float* weights) {
  composite_weights(depth, samples, weights);
  for (int i = 0; i < samples; ++i) {
    if (row[i] < 0) continue;
    if (weights[i] < field.min_weight) {
      weights[i] = 0.0f;
      continue;
    }
    float* colour = work.colour + 3 * (int64_t)row[i];
    for (int c = 0; c < 3; ++c) colour[c] = 1.0f / (1.0f + fast_exp(-colour[c]));
  }
}

// The colour of each sample of a ray that has one.
struct Colours {
  const float* colours;
  const int32_t* row;
  const float* weights;
  float min_weight;
  __device__ __forceinline__ const float* operator()(int i) const {
    // Not "weight >= min": what is not a number stays visible in the colour.
    return row[i] < 0 || weights[i] < min_weight ? nullptr : colours + 3 * (int64_t)row[i];
  }
};

// Evaluates the rays' samples round by round.
template <int F>
int follow(const TeacherField& field, const TeacherRays& rays, const Chain& chain, const Work& work, void* stream) {
  const int rounds = round_count(rays.samples);
  const Levels levels = read_levels(field.levels, field.level_count);
  const float most = most_depth(field);
  const unsigned blocks = block_count(rays.rays, kRays);
  SMERF_LAUNCH(start_kernel, blocks, kRays, 0, stream, field, rays, work);
  for (int round = 0; round < rounds; ++round) {
    const int64_t room = rays.rays * (rays.samples < kSlice ? rays.samples : kSlice);
    const RowRange range = {room, work.counts, round, 1};
    SMERF_LAUNCH(round_kernel, blocks, kRays, 0, stream, field, rays, work, round, most);
    SMERF_LAUNCH(hash_kernel<F>, level_grid<F>(room, field.level_count), kThreads, 0, stream, levels, field.table,
                 work.x, work.footprint, range, work.features);
    const Rows rows = {work.features, work.directions, range, 1, work.ray};
    const int code = run_chain(chain, rows, work.density, work.colour, stream);
    if (code) return code;
  }
  SMERF_LAUNCH(round_kernel, blocks, kRays, 0, stream, field, rays, work, rounds, most);
  return launch_result();
}

// Places the memory of a pass. False for sizes that the kernels are not made for.
bool prepare(const TeacherField& field, const TeacherRays& rays, bool is_training, float* scratch, Chain* chain,
             Work* work) {
  const int64_t rows = rays.rays * rays.samples;
  if (rays.samples < 1 || rays.samples > kMaxTeacherSamples || rows > INT32_MAX / 4) return false;
  if (field.half_table || field.level_count > kMaxLevels) return false;
  if (field.widths.features != field.level_count * field.features) return false;
  if (!make_head(field.widths, field.density_params, field.colour_params, chain)) return false;
  place_work(scratch, rays.rays, rays.samples, field.widths.features, is_training, 0, work);
  return true;
}

}  // namespace
