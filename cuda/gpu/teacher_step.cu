// The teacher's fused passes on GPUs: answers to rays; losses, and all gradients of a batch.
//
// Samples become rows (teacher_rows.h), whose gradients a thread a ray fills in. Gradients of the table are added by
// atomics: their last bits differ from run to run.
#include "cache_cells.h"
#include "teacher_rows.h"

namespace {

using namespace smerf;

// A thread a ray: its answer.
__global__ void __launch_bounds__(kRays)
    answer_kernel(const __grid_constant__ TeacherField field, const __grid_constant__ TeacherRays rays,
                  const __grid_constant__ Work work, float* __restrict__ colours) {
  const int64_t r = thread_number();
  if (r >= rays.rays) return;
  const int64_t first = r * rays.samples;
  weigh(field, work, rays.samples, work.row + first, work.depth + first, work.weights + first);
  const Colours own = {work.colour, work.row + first, work.weights + first, field.min_weight};
  composite_colour(work.weights + first, rays.samples, own, colours + 3 * r);
}

// A thread a ray: its losses, and the gradients of its rows.
__global__ void __launch_bounds__(kRays)
    compare_kernel(const __grid_constant__ TeacherField field, const __grid_constant__ TeacherRays rays,
                   const __grid_constant__ TeacherTarget target, const __grid_constant__ Work work,
                   float* __restrict__ losses, int32_t* __restrict__ counts) {
  const int64_t r = thread_number();
  if (r == 0)
    for (int round = 0; round * kSlice < rays.samples; ++round) counts[1] += work.counts[round];
  if (r >= rays.rays) return;
  const int samples = rays.samples;
  const int64_t first = r * samples;
  const float share = 1.0f / (float)rays.rays, least = target.min_gradient * share;
  const int32_t* rows = work.row + first;
  const float *t = work.t + first + r, *s = rays.s_edges + first + r, *depth = work.depth + first;
  float *weights = work.weights + first, slope[3], grad_depth[kMaxTeacherSamples];
  weigh(field, work, samples, rows, depth, weights);
  const Colours own = {work.colour, rows, weights, field.min_weight};
  compare_ray(target, r, samples, share, t, weights, depth, own, losses + kTeacherLosses * r, slope, grad_depth);
  int kept = 0;
  for (int i = 0; i < samples; ++i) {
    if (rows[i] < 0) continue;
    const int64_t row = rows[i];
    const float* colour = own(i);
    const float scale = near_share(target, field.spacing, s[i], s[i + 1]);
    const float up = scale * grad_depth[i] * (t[i + 1] - t[i]) * density_slope(density_of(work.density[row]));
    const bool is_kept = colour || fabsf(up) > least;
    work.up_density[row] = is_kept ? up : 0.0f;
    for (int c = 0; c < 3; ++c)
      work.up_colour[3 * row + c] = colour ? scale * weights[i] * slope[c] * colour[c] * (1.0f - colour[c]) : 0.0f;
    if (!is_kept) work.x[3 * row] = NAN;
    kept += is_kept;
  }
  atomicAdd(counts, kept);
}

// What happens to the cells of the cache that hold rows: each loses a share of its density, once however many rows it
// holds; what was lowered is negative for a while. Then it rises to what was seen.
enum CellStep { kLower, kMakePositive, kRaise };

__global__ void __launch_bounds__(kThreads)
    observe_kernel(const __grid_constant__ Work work, const __grid_constant__ RowRange rows, int step, float keep,
                   float* __restrict__ cache) {
  const int64_t row = thread_number();
  if (row >= rows.end()) return;
  float* cell = cache + work.cell[row];
  if (step == kRaise) {
    raise_cell(cell, density_of(work.density[row]));
    return;
  }
  // Threads of one cell read its old value or the new one, and write the same.
  const float value = *cell;
  if (step == kLower && value > 0.0f) *cell = -keep * value;
  if (step == kMakePositive && value < 0.0f) *cell = -value;
}

template <int F>
int run_query(const TeacherField& field, const TeacherRays& rays, const Chain& chain, const Work& work, float* colours,
              void* stream) {
  const int code = follow<F>(field, rays, chain, work, stream);
  if (code) return code;
  SMERF_LAUNCH(answer_kernel, block_count(rays.rays, kRays), kRays, 0, stream, field, rays, work, colours);
  return launch_result();
}

template <int F>
int run_step(const TeacherField& field, const TeacherRays& rays, const TeacherTarget& target, const TeacherTrace& trace,
             const Chain& chain, const Work& work, void* stream) {
  const int rounds = round_count(rays.samples);
  int code = follow<F>(field, rays, chain, work, stream);
  if (code) return code;
  SMERF_LAUNCH(compare_kernel, block_count(rays.rays, kRays), kRays, 0, stream, field, rays, target, work, trace.losses,
               trace.counts);
  const Rows rows = {work.features, work.directions, {rays.rays * rays.samples, work.counts, 0, rounds}, 1, work.ray};
  return run_chain_backward(chain, rows, {work.up_density, work.up_colour}, chain.offset[2], trace.grad_density,
                            trace.grad_colour, work.grad_features, work.parts, stream);
}

template <int F>
int run_scatter(const TeacherField& field, const TeacherRays& rays, const Work& work, float* gradient, void* stream) {
  const int64_t rows = rays.rays * rays.samples;
  const RowRange range = {rows, work.counts, 0, round_count(rays.samples)};
  const Levels levels = read_levels(field.levels, field.level_count);
  SMERF_LAUNCH((hash_backward_kernel<F, AtomicAdder>), level_grid<F>((rows + kRun - 1) / kRun, field.level_count),
               kThreads, 0, stream, levels, work.x, work.footprint, range, work.grad_features, AtomicAdder{gradient});
  return launch_result();
}

}  // namespace

// Floats of scratch memory of a query, or of a step and its scattering; -1 for networks that the kernels do not take.
SMERF_API int64_t smerf_teacher_scratch(const RadianceWidths* widths, int64_t rays, int samples, int is_training) {
  Chain chain;
  Work work;
  if (!make_head(*widths, nullptr, nullptr, &chain)) return -1;
  const int64_t rows = rays * samples;
  const int blocks = backward_blocks(chain, rows > 0 ? rows : 1);
  if (blocks < 1) return -1;
  return place_work(nullptr, rays, samples, widths->features, is_training, blocks * chain.param_count, &work);
}

// Arguments as in cuda/cpu/teacher_step.cpp; the records and the levels lie in host memory. No table of half floats.
SMERF_API int smerf_teacher_query(const TeacherField* field, const TeacherRays* rays, float* t_edges, float* weights,
                                  float* colours, float* scratch, void* stream) {
  Chain chain;
  Work work;
  if (!prepare(*field, *rays, false, scratch, &chain, &work)) return kUnsupported;
  if (rays->rays == 0) return 0;
  work.t = t_edges;
  work.weights = weights;
#define SMERF_CALL(F) run_query<F>(*field, *rays, chain, work, colours, stream)
  SMERF_RETURN_BY_FEATURES(field->features, SMERF_CALL)
#undef SMERF_CALL
}

// trace.counts (2) are added to.
SMERF_API int smerf_teacher_step(const TeacherField* field, const TeacherRays* rays, const TeacherTarget* target,
                                 const TeacherTrace* trace, float* scratch, void* stream) {
  Chain chain;
  Work work;
  if (!prepare(*field, *rays, true, scratch, &chain, &work)) return kUnsupported;
  if (rays->rays == 0) return 0;
#define SMERF_CALL(F) run_step<F>(*field, *rays, *target, *trace, chain, work, stream)
  SMERF_RETURN_BY_FEATURES(field->features, SMERF_CALL)
#undef SMERF_CALL
}

// scratch: as the step left it.
SMERF_API int smerf_teacher_scatter(const TeacherField* field, const TeacherRays* rays, const TeacherTrace* trace,
                                    float* gradient, float* cache, float* scratch, void* stream) {
  Chain chain;
  Work work;
  if (!prepare(*field, *rays, true, scratch, &chain, &work)) return kUnsupported;
  const int64_t rows = rays->rays * rays->samples;
  if (rows == 0) return 0;
  const RowRange range = {rows, work.counts, 0, round_count(rays->samples)};
  for (int step = kLower; cache && step <= kRaise; ++step)
    SMERF_LAUNCH(observe_kernel, block_count(rows, kThreads), kThreads, 0, stream, work, range, step, trace->cache_keep,
                 cache);
#define SMERF_CALL(F) run_scatter<F>(*field, *rays, work, gradient, stream)
  SMERF_RETURN_BY_FEATURES(field->features, SMERF_CALL)
#undef SMERF_CALL
}
