// Sizes of the structures that callers fill in, by name; smerf/kernels/abi.py compares them with its own.
#pragma once

#include <string.h>

#include "smerf/appearance.h"
#include "smerf/density_cache.h"
#include "smerf/grid.h"
#include "smerf/march.h"
#include "smerf/mark_alive.h"
#include "smerf/multisample.h"
#include "smerf/splat.h"
#include "smerf/student.h"
#include "smerf/surface_intervals.h"
#include "smerf/teacher.h"
#include "smerf/vertices.h"

#define SMERF_SIZE(type) {#type, (int64_t)sizeof(smerf::type)}
#define SMERF_SIZES                                                                                                  \
  SMERF_SIZE(HashLevel), SMERF_SIZE(FrustumSpec), SMERF_SIZE(GridView), SMERF_SIZE(AliveGrid),                       \
      SMERF_SIZE(AppearanceRays), SMERF_SIZE(AppearanceNetworks), SMERF_SIZE(VertexList), SMERF_SIZE(VertexDecoder), \
      SMERF_SIZE(MarchScene), SMERF_SIZE(SplatTree), SMERF_SIZE(SplatCamera), SMERF_SIZE(StudentRays),               \
      SMERF_SIZE(StudentNetwork), SMERF_SIZE(StudentLoss), SMERF_SIZE(StudentGrids), SMERF_SIZE(AdamStep),           \
      SMERF_SIZE(StudentTrace), SMERF_SIZE(RaySpacing), SMERF_SIZE(CacheSampling), SMERF_SIZE(RadianceWidths),       \
      SMERF_SIZE(TeacherField), SMERF_SIZE(TeacherRays), SMERF_SIZE(TeacherTarget), SMERF_SIZE(TeacherTrace),        \
      SMERF_SIZE(NearCells)

namespace smerf {

struct StructureSize {
  const char* name;
  int64_t bytes;
};

// 0 for a name that is not in the list.
template <int N>
int64_t structure_size(const StructureSize (&sizes)[N], const char* name) {
  for (const StructureSize& size : sizes)
    if (!strcmp(size.name, name)) return size.bytes;
  return 0;
}

}  // namespace smerf
