// The teacher on CPUs: rays are followed in groups whose samples, activations and gradients never leave the cache.
//
// In training each group leaves behind the points that it touched with the gradients of their features; afterwards one
// thread a level adds those to the table, so that sums have the same order on any number of threads.
#include "ray_group.h"

namespace {

using namespace smerf;

constexpr int kShards = 32;  // network gradients are summed in this many ranges of groups, then in order

int64_t group_count(int64_t rays) { return (rays + kGroupRays - 1) / kGroupRays; }

template <int F>
void query(const TeacherField& field, const TeacherRays& rays, float* t_edges, float* weights, float* colours) {
  const RadianceNets nets(field.widths, field.density_params, field.colour_params);
  const int samples = rays.samples;
#pragma omp parallel if (rays.rays > 64)
  {
    RayGroup<F> group(field, nets, samples);
#pragma omp for schedule(dynamic, 4)
    for (int64_t g = 0; g < group_count(rays.rays); ++g) {
      const int64_t first = g * kGroupRays;
      const int count = (int)std::min<int64_t>(kGroupRays, rays.rays - first);
      group.forward(rays, first, count, t_edges + first * (samples + 1), weights + first * samples);
      for (int r = 0; r < count; ++r) group.composite(r, weights + (first + r) * samples, colours + 3 * (first + r));
    }
  }
}

template <int F>
void step(const TeacherField& field, const TeacherRays& rays, const TeacherTarget& target, const TeacherTrace& trace) {
  const RadianceNets nets(field.widths, field.density_params, field.colour_params);
  std::vector<RadianceWeights> parts(kShards, nets.blank());
  const int64_t groups = group_count(rays.rays);
  const int samples = rays.samples;
#pragma omp parallel if (rays.rays > 64)
  {
    RayGroup<F> group(field, nets, samples);
    std::vector<float> t_edges((size_t)kGroupRays * (samples + 1)), weights((size_t)kGroupRays * samples);
#pragma omp for schedule(dynamic, 1)
    for (int shard = 0; shard < kShards; ++shard)
      for (int64_t g = groups * shard / kShards; g < groups * (shard + 1) / kShards; ++g) {
        const int64_t first = g * kGroupRays;
        const int count = (int)std::min<int64_t>(kGroupRays, rays.rays - first);
        group.forward(rays, first, count, t_edges.data(), weights.data());
        group.backward(rays, target, t_edges.data(), weights.data(), parts[shard], trace);
      }
  }
  for (RadianceWeights& part : parts) nets.add_to_flat(part, trace.grad_density, trace.grad_colour);
}

template <int F>
void scatter(const TeacherField& field, int64_t groups, int room, int stride, const TeacherTrace& trace,
             float* gradient) {
#pragma omp parallel for schedule(dynamic, 1)
  for (int reverse = 0; reverse < field.level_count; ++reverse) {
    const int l = field.level_count - 1 - reverse;
    const HashLevel& level = field.levels[l];
    for (int64_t g = 0; g < groups; ++g) {
      const float* points = trace.points + g * 4 * room;
      const PointArrays x = {{points, points + room, points + 2 * room}, points + 3 * room};
      write_level<F>(level, gradient + level.offset * F, x, trace.counts[2 * g],
                     trace.feature_gradient + g * room * stride + l * F, stride);
    }
  }
}

// Cells that were seen lose a share of what they held (once, however often they were seen), then rise to what was seen.
void observe(int64_t groups, int room, const TeacherTrace& trace, float* cache) {
  for (int64_t g = 0; g < groups; ++g)
    for (int row = 0; row < trace.counts[2 * g + 1]; ++row) {
      float& cell = cache[trace.cells[g * room + row]];
      if (cell > 0.0f) cell *= -trace.cache_keep;  // negative: seen
    }
  for (int64_t g = 0; g < groups; ++g)
    for (int row = 0; row < trace.counts[2 * g + 1]; ++row) {
      float& cell = cache[trace.cells[g * room + row]];
      const float density = trace.densities[g * room + row];
      if (cell < 0.0f) cell = -cell;
      if (density > cell) cell = density;
    }
}

}  // namespace

#define SMERF_BY_FEATURES(features, call) \
  switch (features) {                     \
    case 1: call(1); break;               \
    case 2: call(2); break;               \
    case 4: call(4); break;               \
    case 8: call(8); break;               \
    default: return 1;                    \
  }

// Answers rays: t_edges (R, S + 1), weights (R, S), colours (R, 3) over black. Returns 1 for unsupported sizes.
SMERF_API int smerf_teacher_query(const TeacherField* field, const TeacherRays* rays, float* t_edges, float* weights,
                                  float* colours) {
  if (rays->samples < 1 || rays->samples > kMaxTeacherSamples) return 1;
#define SMERF_CALL(F) query<F>(*field, *rays, t_edges, weights, colours)
  SMERF_BY_FEATURES(field->features, SMERF_CALL)
#undef SMERF_CALL
  return 0;
}

// One training pass: losses, network gradients, and the trace that smerf_teacher_scatter turns into table gradients.
SMERF_API int smerf_teacher_step(const TeacherField* field, const TeacherRays* rays, const TeacherTarget* target,
                                 const TeacherTrace* trace) {
  if (rays->samples < 1 || rays->samples > kMaxTeacherSamples) return 1;
#define SMERF_CALL(F) step<F>(*field, *rays, *target, *trace)
  SMERF_BY_FEATURES(field->features, SMERF_CALL)
#undef SMERF_CALL
  return 0;
}

// Adds the table's gradient (entries, features), and raises the cache's cells to the densities seen.
SMERF_API int smerf_teacher_scatter(const TeacherField* field, const TeacherRays* rays, const TeacherTrace* trace,
                                    float* gradient, float* cache) {
  const int64_t groups = group_count(rays->rays);
  const int room = kGroupRays * rays->samples, stride = pad_to_lane(field->widths.features);
#define SMERF_CALL(F) scatter<F>(*field, groups, room, stride, *trace, gradient)
  SMERF_BY_FEATURES(field->features, SMERF_CALL)
#undef SMERF_CALL
  if (cache) observe(groups, room, *trace, cache);
  return 0;
}
