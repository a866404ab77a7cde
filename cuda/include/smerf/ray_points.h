// Where a ray's intervals lie in the unit cube of a hash grid, and how wide the ray's cone is there.
#pragma once

#include "smerf/contraction.h"

namespace smerf {

// origin, direction: 3 floats; the point at distance t is origin + t * direction. Coordinates are multiplied by
// scale and contracted to (-2, 2)^3, then mapped to (0, 1)^3. radius: cone radius per unit t.
// x: 3 floats. Returns the footprint: standard deviation of the cone in the units of x (teacher: half the radius).
SMERF_FN float ray_point(const float* origin, const float* direction, float t, float radius, float scale, float* x) {
  const Vec3 p = {scale * (origin[0] + t * direction[0]), scale * (origin[1] + t * direction[1]),
                  scale * (origin[2] + t * direction[2])};
  const Vec3 s = contract(p);
  x[0] = 0.25f * (s.x + 2.0f);
  x[1] = 0.25f * (s.y + 2.0f);
  x[2] = 0.25f * (s.z + 2.0f);
  return 0.5f * 0.25f * scale * radius * t * contraction_scale(p);
}

}  // namespace smerf
