// Marching a baked scene on CPUs: threads take tiles of rays, and march them in packets.
#include "shade_packet.h"

using smerf::MarchScene;
using smerf::Vec3;

namespace {

using namespace smerf;

constexpr int kTile = 16, kTileRays = kTile * kTile, kSide = 4;

// Numbers the rays of one packet of a tile, -1 beyond the last ray. Rays of a picture `width` pixels wide are taken in
// tiles of 16 x 16 and packets of 4 x 4, so that they read the same neighbourhood; others as they come.
void number_rays(int64_t tile, int packet, int64_t count, int width, int64_t* numbers) {
  const int64_t across = width ? (width + kTile - 1) / kTile : 1;
  for (int i = 0; i < kPacket; ++i) {
    int64_t ray = tile * kTileRays + packet * kPacket + i;
    if (width) {
      const int64_t x = tile % across * kTile + packet % kSide * kSide + i % kSide;
      const int64_t y = tile / across * kTile + packet / kSide * kSide + i / kSide;
      ray = x < width ? y * width + x : count;
    }
    numbers[i] = ray < count ? ray : -1;
  }
}

int64_t tile_count(int64_t count, int width) {
  if (!width) return (count + kTileRays - 1) / kTileRays;
  const int64_t rows = (count + width - 1) / width;
  return ((rows + kTile - 1) / kTile) * ((width + kTile - 1) / kTile);
}

}  // namespace

// Renders `count` rays. `origins` holds one origin per ray, or a single one if `is_shared_origin`. Frames as in
// march.h. width: pixels of a picture's row if the rays are those of a picture, row by row, else 0. rgb: [count][3],
// not clamped. depth: [count][spent_count], the world distances at which a ray is spent and 0 where it never is, or
// null. objects: [count], the object that each pixel shows, or null.
SMERF_API int smerf_march(const MarchScene* scene, const float* origins, int is_shared_origin, const float* directions,
                          int64_t count, int width, float* rgb, float* depth, uint8_t* objects) {
  const int64_t tiles = tile_count(count, width);
#pragma omp parallel
  {
    MarchPacket packet(*scene);
    ShadePacket pixels(*scene);
    int64_t numbers[kPacket];
#pragma omp for schedule(dynamic, 1)
    for (int64_t tile = 0; tile < tiles; ++tile)
      for (int part = 0; part < kTileRays / kPacket; ++part) {
        number_rays(tile, part, count, width, numbers);
        packet.start(origins, is_shared_origin, directions, numbers);
        packet.march();
        const Floats* colours = pixels.shade(packet);
        for (int i = 0; i < kPacket; ++i)
          for (int c = 0; c < 3 && numbers[i] >= 0; ++c) rgb[3 * numbers[i] + c] = colours[c][i];
        for (int i = 0; i < kPacket && depth; ++i)
          for (int k = 0; k < scene->spent_count && numbers[i] >= 0; ++k)
            depth[numbers[i] * scene->spent_count + k] = packet.depth(i, k);
        for (int i = 0; i < kPacket && objects; ++i)
          if (numbers[i] >= 0) objects[numbers[i]] = (uint8_t)packet.object(i);
      }
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
