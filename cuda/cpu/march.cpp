// Marching a baked scene on CPUs: rays are independent, so threads take them in short runs.
#include "smerf/march.h"

using smerf::MarchScene;
using smerf::Vec3;

// Renders `count` rays. `origins` holds one origin per ray, or a single one if `is_shared_origin`. Frames as in
// march.h. rgb: [count][3], not clamped.
SMERF_API int smerf_march(const MarchScene* scene, const float* origins, int is_shared_origin, const float* directions,
                           int64_t count, float* rgb) {
  const MarchScene m = *scene;
#pragma omp parallel for schedule(dynamic, 64)
  for (int64_t i = 0; i < count; ++i) {
    const float* o = origins + (is_shared_origin ? 0 : 3 * i);
    const float* d = directions + 3 * i;
    const Vec3 origin = {o[0], o[1], o[2]}, direction = {d[0], d[1], d[2]};
    float colour[3];
    smerf::shade(m, smerf::march_ray(m, origin, direction), direction, colour);
    for (int c = 0; c < 3; ++c) rgb[3 * i + c] = colour[c];
  }
  return 0;
}

// Reads the assets at `count` contracted points [count][3], before activation: fine and coarse [count][8] (density,
// then seven channels); alive [count] says whether the macroblock exists.
SMERF_API int smerf_sample_assets(const MarchScene* scene, const float* points, int64_t count, float* fine,
                                   float* coarse, uint8_t* alive) {
  const MarchScene m = *scene;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < count; ++i) {
    const Vec3 z = {points[3 * i], points[3 * i + 1], points[3 * i + 2]};
    smerf::Lanes8 a = smerf::zero_lanes(), b = smerf::zero_lanes();
    alive[i] = smerf::sample_assets(m, z, a, b);
    for (int c = 0; c < 8; ++c) {
      fine[8 * i + c] = smerf::lane(a, c);
      coarse[8 * i + c] = smerf::lane(b, c);
    }
  }
  return 0;
}
